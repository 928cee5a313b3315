//! An SRT caller over a blocking socket that goes wrong wherever a test wants it to.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arcly_mux::ts::Muxer;
use arcly_srt::wire::{
    Control, ControlPacket, DataHeader, DataPacket, Extensions, Handshake, HandshakeKind, HsExtension,
    HsFlags, MsgNumber, Packet, RejectReason, SeqNumber, SocketId, SrtVersion, TimeStamp,
};
use arcly_testkit::media::Source;
use arcly_testkit::rng::Rng;
use bytes::{Bytes, BytesMut};

use super::peer::PATIENCE;

/// How long what should not come is waited for.
pub const SILENCE: Duration = Duration::from_millis(150);
/// What `SHUTDOWN` is on the wire, and others that packets are made of by hand.
pub const ACK: u16 = 2;
pub const NAK: u16 = 3;
pub const SHUTDOWN: u16 = 5;
pub const DROP_REQUEST: u16 = 7;
/// User-defined: its subtype says what it is.
pub const EXTENSION: u16 = 0x7FFF;
const MESSAGE: usize = 1_316;
/// Datagrams that the server may not have acknowledged yet: fewer than the least receive buffer of a system holds.
const UNDER_WAY: i32 = 64;
/// How long a caller waits for an acknowledgement: what was lost is given up before that.
const ACKNOWLEDGED: Duration = Duration::from_secs(2);

/// No caller of a test is another one who comes back: ports do, now and then, within the two minutes that a server remembers
/// conclusions.
static NEXT_ID: AtomicU32 = AtomicU32::new(0x1000_0000);

/// One caller.
pub struct Srt {
    pub socket: UdpSocket,
    pub id: SocketId,
    /// The server's end, once it is connected.
    pub peer: SocketId,
    /// The number of the next data packet, and of the next message.
    pub next: (SeqNumber, MsgNumber),
    /// The number that the server has acknowledged everything before.
    acknowledged: SeqNumber,
    start: Instant,
    sent: usize,
    stream: Vec<Bytes>,
    /// Changes a bit in one of a hundred datagrams that are sent.
    flips: RefCell<Option<Rng>>,
    pub ended: bool,
}

impl Srt {
    /// A caller that has sent nothing.
    pub fn open(addr: SocketAddr) -> Self {
        Self::open_from(addr, "127.0.0.1")
    }

    /// The same from a local address of its own.
    pub fn open_from(addr: SocketAddr, local: &str) -> Self {
        let socket = UdpSocket::bind((local, 0)).unwrap();
        socket.connect(addr).unwrap();
        let id = SocketId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        let next = (SeqNumber::new(1_000), MsgNumber::FIRST);
        let (peer, start) = (SocketId::HANDSHAKE, Instant::now());
        let flips = RefCell::default();
        Self {
            socket,
            id,
            peer,
            next,
            acknowledged: next.0,
            start,
            sent: 0,
            stream: Vec::new(),
            flips,
            ended: false,
        }
    }

    /// A caller that is connected.
    #[track_caller]
    pub fn connected(addr: SocketAddr, stream_id: &str) -> Self {
        let mut caller = Self::open(addr);
        let answer = caller.call(stream_id);
        assert_eq!(answer.map(|_| ()), Ok(()), "{stream_id}");
        caller
    }

    /// A caller that is connected and has published two seconds.
    #[track_caller]
    pub fn publishing(addr: SocketAddr, name: &str) -> Self {
        let mut caller = Self::connected(addr, &format!("publish:live/{name}"));
        caller.media(60);
        caller
    }

    /// What the server knows this peer as.
    pub fn name(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub fn send(&self, datagram: &[u8]) -> &Self {
        let mut datagram = datagram.to_vec();
        if let Some(rng) = self.flips.borrow_mut().as_mut().filter(|_| !datagram.is_empty())
            && rng.below(100) == 0
        {
            let bit = usize::try_from(rng.below(8 * datagram.len() as u64)).unwrap();
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
        // That nobody listens any more shows in what comes.
        let _ = self.socket.send(&datagram);
        self
    }

    /// From now on bits are changed on the way, the same ones for each seed; or none.
    pub fn flip(&self, seed: Option<u64>) {
        *self.flips.borrow_mut() = seed.map(Rng::new);
    }

    /// The next datagram, if there is one in time.
    pub fn receive(&self, limit: Duration) -> Option<Bytes> {
        let mut buffer = [0; 2_048];
        let end = Instant::now() + limit;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left)).unwrap();
            match self.socket.recv(&mut buffer) {
                Ok(len) => return Some(Bytes::copy_from_slice(&buffer[..len])),
                // What was sent last came where nobody is any more. What came before may still be there to be read.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Nothing comes.
    #[track_caller]
    pub fn hears_nothing(&self) {
        let came = self.receive(SILENCE);
        assert_eq!(came, None, "it is answered");
    }

    fn now(&self) -> TimeStamp {
        TimeStamp::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap())
    }

    /// A handshake, as a caller begins one.
    pub fn handshake(&self, kind: HandshakeKind) -> Handshake {
        Handshake {
            version: if kind == HandshakeKind::Induction { 4 } else { 5 },
            encryption: 0,
            extension_field: if kind == HandshakeKind::Induction { Handshake::DATAGRAM } else { 0 },
            initial_seq: self.next.0,
            mtu: 1_500,
            flow_window: 8_192,
            kind,
            socket_id: self.id,
            cookie: 0,
            peer_ip: self.socket.peer_addr().unwrap().ip(),
            extensions: Bytes::new(),
        }
    }

    /// What a caller asks for.
    pub fn extensions(&self, stream_id: &str) -> Extensions {
        let flags = HsFlags::TSBPD_SENDER
            | HsFlags::TSBPD_RECEIVER
            | HsFlags::CRYPT
            | HsFlags::REXMIT_FLAG
            | HsFlags::TLPKT_DROP;
        let version = SrtVersion::CURRENT;
        let hs = HsExtension { response: false, version, flags, receiver_delay_ms: 120, sender_delay_ms: 0 };
        let stream_id = Some(stream_id.to_owned()).filter(|id| !id.is_empty());
        Extensions { hs: Some(hs), stream_id, ..Extensions::default() }
    }

    pub fn encoded(&self, handshake: Handshake) -> Bytes {
        let packet = ControlPacket {
            timestamp: self.now(),
            destination: SocketId::HANDSHAKE,
            control: Control::Handshake(handshake),
        };
        let mut out = BytesMut::new();
        packet.encode(&mut out);
        out.freeze()
    }

    /// The cookie that the server has for this caller.
    #[track_caller]
    pub fn cookie(&self) -> u32 {
        self.send(&self.encoded(self.handshake(HandshakeKind::Induction)));
        self.answer().expect("an answer to the induction").cookie
    }

    /// A conclusion with the right cookie.
    #[track_caller]
    pub fn conclusion(&self, extensions: &Extensions) -> Handshake {
        let mut handshake = self.handshake(HandshakeKind::Conclusion);
        handshake.cookie = self.cookie();
        handshake.set_extensions(extensions);
        handshake
    }

    /// The next handshake that comes; other packets in between are passed over.
    pub fn answer(&self) -> Option<Handshake> {
        self.answer_within(PATIENCE)
    }

    /// The same, with less patience or more.
    pub fn answer_within(&self, limit: Duration) -> Option<Handshake> {
        let end = Instant::now() + limit;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let datagram = self.receive(left)?;
            if let Ok(Packet::Control(ControlPacket { control: Control::Handshake(answer), .. })) =
                Packet::decode(&datagram)
            {
                return Some(answer);
            }
        }
        None
    }

    /// Sends a conclusion; what comes of it.
    #[track_caller]
    pub fn conclude(&mut self, handshake: Handshake) -> Result<Handshake, RejectReason> {
        self.send(&self.encoded(handshake));
        let answer = self.answer().expect("an answer to the conclusion");
        match answer.kind {
            HandshakeKind::Rejected(reason) => {
                self.ended = true;
                Err(reason)
            }
            _ => {
                self.peer = answer.socket_id;
                Ok(answer)
            }
        }
    }

    /// Calls, and asks for a stream.
    #[track_caller]
    pub fn call(&mut self, stream_id: &str) -> Result<Handshake, RejectReason> {
        let handshake = self.conclusion(&self.extensions(stream_id));
        self.conclude(handshake)
    }

    /// A control packet, as bytes, to a socket id.
    pub fn control_to(&self, to: SocketId, kind: (u16, u16), info: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        packet.extend((0x8000 | kind.0).to_be_bytes());
        packet.extend(kind.1.to_be_bytes());
        packet.extend(info.to_be_bytes());
        packet.extend(self.now().value().to_be_bytes());
        packet.extend(to.0.to_be_bytes());
        packet.extend(body);
        packet
    }

    /// Sends one to the server's end.
    pub fn control(&self, kind: u16, info: u32, body: &[u8]) -> &Self {
        self.send(&self.control_to(self.peer, (kind, 0), info, body))
    }

    pub fn keep_alive(&self) {
        self.control(1, 0, &[]);
    }

    /// The header of the next data packet.
    pub fn header(&mut self) -> DataHeader {
        let (seq, message) = self.next;
        self.next = (seq.next(), message.next());
        DataHeader { timestamp: self.now(), destination: self.peer, ..DataHeader::new(seq, message) }
    }

    /// Sends a message.
    pub fn data(&mut self, payload: &[u8]) {
        let packet = DataPacket { header: self.header(), payload: Bytes::copy_from_slice(payload) };
        let mut out = BytesMut::new();
        packet.encode(&mut out);
        self.send(&out);
    }

    /// Sends so many more messages of a stream that plays, at its pace, and one at least.
    pub fn media(&mut self, messages: usize) {
        if self.stream.is_empty() {
            let (source, mut muxer) = (Source::h264_aac(), Muxer::new());
            let mut out = BytesMut::new();
            muxer.set_tracks(&source.tracks());
            source.seconds(60).iter().for_each(|frame| muxer.frame(frame, &mut out));
            self.stream = out.chunks(MESSAGE).map(Bytes::copy_from_slice).collect();
        }
        for _ in 0..messages {
            let message = self.stream[self.sent % self.stream.len()].clone();
            self.sent += 1;
            self.paced(&message);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a message, and waits while the server has too many to look at: nothing is lost on the way, not the good-bye behind
    /// it either, so that nothing has to be repeated.
    pub fn paced(&mut self, payload: &[u8]) {
        self.data(payload);
        let end = Instant::now() + ACKNOWLEDGED;
        self.socket.set_nonblocking(true).unwrap();
        while let Some(datagram) = self.receive(ACKNOWLEDGED) {
            self.hear(&datagram);
        }
        self.socket.set_nonblocking(false).unwrap();
        while !self.ended && self.acknowledged.distance_to(self.next.0) > UNDER_WAY {
            let left = end.saturating_duration_since(Instant::now());
            let Some(datagram) = self.receive(left) else { return };
            self.hear(&datagram);
        }
    }

    /// Takes note of what the server says of what was sent.
    fn hear(&mut self, datagram: &Bytes) {
        match Packet::decode(datagram) {
            Ok(Packet::Control(ControlPacket { control: Control::Ack(ack), .. })) => {
                self.acknowledged = self.acknowledged.later(ack.next);
            }
            Ok(Packet::Control(ControlPacket { control: Control::Shutdown, .. })) => self.ended = true,
            _ => {}
        }
    }

    /// Says good-bye.
    pub fn leave(mut self) {
        self.control(SHUTDOWN, 0, &[0; 4]);
        self.ended = true;
    }

    /// Waits until the server says good-bye, with keep-alives; false when it does not in time.
    pub fn wait_end(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !self.ended && Instant::now() < end {
            self.keep_alive();
            while let Some(datagram) = self.receive(Duration::from_millis(20)) {
                if let Ok(Packet::Control(ControlPacket { control: Control::Shutdown, .. })) =
                    Packet::decode(&datagram)
                {
                    self.ended = true;
                }
            }
        }
        self.ended
    }
}

impl Drop for Srt {
    fn drop(&mut self) {
        if !self.ended && self.peer != SocketId::HANDSHAKE {
            self.control(SHUTDOWN, 0, &[0; 4]);
        }
    }
}
