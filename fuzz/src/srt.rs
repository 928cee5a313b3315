//! Targets over SRT's packets, stream ids and packet filter.

use arcly_srt::filter::{FecReceiver, FilterConfig};
use arcly_srt::wire::{Control, DataPacket, MAX_PAYLOAD, Packet, SeqNumber, StreamId};
use bytes::Bytes;

crate::targets!(srt_packet, srt_stream_id, srt_filter);

/// A packet that decodes encodes to one that decodes to the same; so do the extensions of a handshake.
pub fn srt_packet(data: &[u8]) {
    let Ok(packet) = Packet::decode(&Bytes::copy_from_slice(data)) else { return };
    let encoded = packet.to_bytes();
    assert_eq!(encoded.len(), packet.encoded_len());
    assert_eq!(Packet::decode(&encoded).as_ref(), Ok(&packet));
    if let Packet::Control(packet) = packet
        && let Control::Handshake(handshake) = packet.control
        && let Ok(extensions) = handshake.decode_extensions()
    {
        let mut again = handshake;
        again.set_extensions(&extensions);
        assert_eq!(again.decode_extensions(), Ok(extensions));
    }
}

/// A stream id that is understood is understood the same way when it is written out, unless it has a comma where none can
/// be written.
pub fn srt_stream_id(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Ok(id) = text.parse::<StreamId>() else { return };
    let written = id.to_string();
    if text.starts_with("#!::") && written.len() <= text.len() {
        assert_eq!(written.parse::<StreamId>(), Ok(id));
    }
}

/// The first byte chooses the layout; the rest is packets. Nothing comes back twice, or longer than a packet.
pub fn srt_filter(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let config = ["fec,cols:3", "fec,cols:3,rows:2,layout:even", "fec,cols:4,rows:-3", "fec,cols:4,rows:3"]
        [usize::from(choice % 4)];
    let layout = config.parse::<FilterConfig>().and_then(|config| config.layout()).expect("a layout");
    let mut receiver = FecReceiver::new(layout, SeqNumber::new(u32::from(*choice)));
    let mut recovered = Vec::new();
    for part in crate::parts(rest) {
        let Ok(packet) = DataPacket::decode(&Bytes::copy_from_slice(part)) else { continue };
        receiver.handle_packet(&packet);
        while let Some(packet) = receiver.poll_recovered() {
            assert!(packet.payload.len() <= MAX_PAYLOAD);
            recovered.push(packet.header.seq);
        }
        while receiver.poll_loss().is_some() {}
    }
    assert!(recovered.len() <= data.len());
}
