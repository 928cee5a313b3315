use arcly_core::wire::{DecodeError, DecodeResult, Reader};

/// A Binding request.
const BINDING_REQUEST: u16 = 0x0001;
const MAGIC_COOKIE: u32 = 0x2112_A442;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
/// What the CRC of a FINGERPRINT is combined with (RFC 8489 §14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554E;
/// That of ITU V.42, with its lowest term first.
const CRC_POLYNOMIAL: u32 = 0xEDB8_8320;
const HEADER_BYTES: usize = 20;
/// Bytes of a transaction id, the last of a header.
const TRANSACTION_BYTES: usize = 12;
/// Bytes of a FINGERPRINT attribute.
const FINGERPRINT_BYTES: usize = 8;

/// A STUN Binding request as far as it has to be understood to know whose it is. That its MESSAGE-INTEGRITY is there is seen
/// here; that it is right is for the session to say, which has the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingRequest<'a> {
    /// The user name fragment of the one who is asked.
    pub local: &'a str,
    /// That of the one who asks.
    pub remote: &'a str,
    /// What the one who asks has chosen at random, for this request alone.
    pub transaction: &'a [u8],
    /// The one who asks wants media to come to where it asks from (RFC 8445 §7.1.1).
    pub nominates: bool,
}

impl<'a> BindingRequest<'a> {
    /// Decodes a datagram.
    ///
    /// # Errors
    /// It is something else, or not whole, or without a user name, an integrity or a right fingerprint.
    pub fn decode(datagram: &'a [u8]) -> DecodeResult<Self> {
        Self::decode_open(datagram).map_err(|error| error.in_closed_unit(0))
    }

    fn decode_open(datagram: &'a [u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(datagram);
        if r.u16("stun type")? != BINDING_REQUEST {
            return Err(malformed("stun type"));
        }
        let len = usize::from(r.u16("stun length")?);
        if r.u32("stun magic cookie")? != MAGIC_COOKIE {
            return Err(malformed("stun magic cookie"));
        }
        let transaction = r.bytes(TRANSACTION_BYTES, "stun transaction id")?;
        if len != r.remaining() || !len.is_multiple_of(4) {
            return Err(malformed("stun length"));
        }
        let (mut user, mut has_integrity, mut nominates) = (None, false, false);
        loop {
            let at = r.position();
            let (kind, len) = (r.u16("stun attribute")?, usize::from(r.u16("stun attribute length")?));
            let value = r.bytes(len, "stun attribute value")?;
            r.skip(len.next_multiple_of(4).saturating_sub(len), "stun attribute padding")?;
            match kind {
                USERNAME if !has_integrity && user.is_none() => user = Some(value),
                USE_CANDIDATE if !has_integrity => nominates = true,
                MESSAGE_INTEGRITY => has_integrity = true,
                FINGERPRINT => {
                    r.finish("stun fingerprint")?;
                    check_fingerprint(datagram, at, value)?;
                    break;
                }
                _ => {}
            }
        }
        let user = user.filter(|_| has_integrity).and_then(|user| core::str::from_utf8(user).ok());
        let (local, remote) =
            user.and_then(|user| user.split_once(':')).ok_or_else(|| malformed("stun username"))?;
        Ok(Self { local, remote, transaction, nominates })
    }
}

/// The transaction that a STUN message belongs to.
#[must_use]
pub fn transaction_of(message: &[u8]) -> Option<&[u8]> {
    message.get(HEADER_BYTES - TRANSACTION_BYTES..HEADER_BYTES)
}

const fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { what, offset: 0 }
}

/// The fingerprint is that of all before it.
fn check_fingerprint(datagram: &[u8], at: usize, value: &[u8]) -> DecodeResult<()> {
    let said = value.try_into().map(u32::from_be_bytes).map_err(|_| malformed("stun fingerprint"))?;
    let covered = datagram.get(..at).unwrap_or_default();
    let whole = covered.len().saturating_add(FINGERPRINT_BYTES) == datagram.len();
    if whole && covered.len() >= HEADER_BYTES && crc32(covered) ^ FINGERPRINT_XOR == said {
        return Ok(());
    }
    Err(malformed("stun fingerprint"))
}

/// The CRC of ITU V.42. Requests are some hundred bytes, and a few in a second.
fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ CRC_POLYNOMIAL };
    let fold = |crc: u32| (0..8).fold(crc, |crc, _| bit(crc));
    !bytes.iter().fold(u32::MAX, |crc, byte| fold(crc ^ u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 §2.1.
    const REQUEST: [u8; 108] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
        0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20,
        0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00,
        0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a,
        0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf,
        0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28,
        0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
    ];

    #[test]
    fn rfc5769_2_1_a_request_says_whose_it_is() {
        let transaction = &REQUEST[8..20];
        let request = BindingRequest { local: "evtj", remote: "h6vY", transaction, nominates: false };
        assert_eq!(BindingRequest::decode(&REQUEST), Ok(request));
        assert_eq!(transaction_of(&REQUEST), Some(request.transaction));
        assert_eq!(transaction_of(&REQUEST[..19]), None);
    }

    #[test]
    fn w14_w16_what_is_cut_or_changed_anywhere_is_none() {
        for len in 0..REQUEST.len() {
            assert!(BindingRequest::decode(&REQUEST[..len]).is_err(), "{len} bytes");
        }
        for at in 0..REQUEST.len() {
            let mut changed = REQUEST;
            changed[at] ^= 1;
            assert!(BindingRequest::decode(&changed).is_err(), "byte {at}");
        }
        let mut bare = REQUEST[..100].to_vec();
        bare[3] = 80;
        assert!(BindingRequest::decode(&bare).is_err(), "no fingerprint");
    }
}
