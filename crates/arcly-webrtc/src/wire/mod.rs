//! Bytes and values: what a datagram is, STUN Binding requests, offers and answers, and fragments of descriptions.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 7983, RFC 5761 §4 | telling STUN, DTLS, RTP and RTCP apart on one port | [`Kind`] |
//! | RFC 4571 §2, RFC 6544 §3 | datagrams in a TCP connection | [`Deframer`], [`frame`] |
//! | RFC 8489 | §5 header, §14.3 USERNAME, §14.7 FINGERPRINT | [`BindingRequest`] |
//! | RFC 8866, RFC 8839 §5 | an offer as far as it is looked at before it is answered | [`Offer`] |
//! | | an answer as far as it is looked at before it is believed | [`Answer`] |
//! | RFC 3264 §6.1 | in which order formats are answered | `red_last` |
//! | RFC 8840 §9 | `application/trickle-ice-sdpfrag` | [`Fragment`] |
//!
//! What DTLS, SRTP and the rest of STUN and SDP hold is str0m's.
//!
//! Guarantees: no panic; nothing is allocated for a datagram of UDP, and for one in a connection what it has; of a text at most what its bounds say is kept.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

mod address;
mod answer;
mod fragment;
mod frame;
mod offer;
mod preference;
mod stun;

pub use address::{Protocol, TransportAddress};
pub use answer::{Answer, AnswerError, MAX_ANSWER_BYTES};
pub use fragment::{Fragment, MAX_CANDIDATES, MAX_FRAGMENT_BYTES};
pub use frame::{Deframer, MAX_FRAME_BYTES, frame};
pub use offer::{Credentials, MAX_OFFER_BYTES, MAX_OFFER_LAYERS, MAX_OFFER_MEDIA, Offer, OfferError, Role};
pub(crate) use preference::red_last;
pub use stun::{BindingRequest, transaction_of};

/// What a datagram is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// STUN.
    Stun,
    /// DTLS.
    Dtls,
    /// SRTP.
    Rtp,
    /// SRTCP.
    Rtcp,
}

impl Kind {
    /// What `datagram` is; `None` for what belongs to nothing that is spoken here.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        match datagram.first()? {
            0..=3 => Some(Self::Stun),
            20..=63 => Some(Self::Dtls),
            128..=191 if arcly_rtp::wire::is_rtcp(datagram) => Some(Self::Rtcp),
            128..=191 => Some(Self::Rtp),
            _ => None,
        }
    }
}

/// The content type of DTLS records that carry data, and no part of a handshake (RFC 6347 §4.1).
const APPLICATION_DATA: u8 = 23;
/// That of those which carry handshakes.
const HANDSHAKE: u8 = 22;
/// Bytes in front of a record.
const RECORD_HEADER: usize = 13;
/// Bytes of a message of a handshake: certificates are some hundred.
pub const MAX_HANDSHAKE_BYTES: u32 = 64 << 10;

/// What a session can do with the DTLS records of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsUse {
    /// They are of handshakes, or say that something is over.
    Control,
    /// There is data among them, which is what data channels consist of.
    Data,
    /// Nothing: one is of a handshake's message that claims to be longer than [`MAX_HANDSHAKE_BYTES`].
    Nothing,
}

impl DtlsUse {
    /// Of what use `datagram` is.
    #[must_use]
    pub fn of(mut datagram: &[u8]) -> Self {
        let mut found = Self::Control;
        while let Some((header, rest)) = datagram.split_first_chunk::<RECORD_HEADER>() {
            let [kind, _, _, epoch @ .., _, _, _, _, _, _, high, low] = *header;
            let claims_too_much = matches!(rest.first_chunk(), Some(&[_, top, middle, bottom])
                if u32::from_be_bytes([0, top, middle, bottom]) > MAX_HANDSHAKE_BYTES);
            // Later epochs are encrypted, and tell nothing.
            if kind == HANDSHAKE && epoch == [0, 0] && claims_too_much {
                return Self::Nothing;
            }
            if kind == APPLICATION_DATA {
                found = Self::Data;
            }
            datagram = rest.get(usize::from(u16::from_be_bytes([high, low]))..).unwrap_or_default();
        }
        if datagram.first() == Some(&APPLICATION_DATA) { Self::Data } else { found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_no_use_is_found_behind_other_records() {
        let record = |kind: u8, bytes: u16| {
            let mut record = vec![kind, 254, 253, 0, 1, 0, 0, 0, 0, 0, 1];
            record.extend(bytes.to_be_bytes());
            record.resize(RECORD_HEADER + usize::from(bytes), 9);
            record
        };
        let cases = [
            (vec![], DtlsUse::Control),
            (record(22, 40), DtlsUse::Control),
            ([record(22, 40), record(20, 1), record(22, 0)].concat(), DtlsUse::Control),
            (record(23, 40), DtlsUse::Data),
            ([record(23, 40), record(22, 40)].concat(), DtlsUse::Data),
            ([record(22, 40), record(21, 2), record(23, 1)].concat(), DtlsUse::Data),
            ([record(22, 40), vec![23]].concat(), DtlsUse::Data),
            // A length that is not true, and what cannot be told apart behind it.
            (record(22, 40)[..30].to_vec(), DtlsUse::Control),
        ];
        for (datagram, of_use) in cases {
            assert_eq!(DtlsUse::of(&datagram), of_use, "{datagram:?}");
        }
        for (length, of_use) in
            [(MAX_HANDSHAKE_BYTES, DtlsUse::Control), (MAX_HANDSHAKE_BYTES + 1, DtlsUse::Nothing)]
        {
            let mut message = record(22, 40);
            message[3..5].fill(0);
            message[RECORD_HEADER..][..4].copy_from_slice(&(length | 1 << 24).to_be_bytes());
            assert_eq!(DtlsUse::of(&message), of_use);
            let behind = [record(23, 1), message.clone()].concat();
            assert_eq!(DtlsUse::of(&behind) == DtlsUse::Nothing, of_use == DtlsUse::Nothing);
            message[4] = 1;
            assert_eq!(DtlsUse::of(&message), DtlsUse::Control, "encrypted");
        }
    }

    #[test]
    fn datagrams_are_told_apart() {
        let cases: [(&[u8], Option<Kind>); 9] = [
            (&[], None),
            (&[0, 1], Some(Kind::Stun)),
            (&[4], None),
            (&[19], None),
            (&[22, 254], Some(Kind::Dtls)),
            (&[64], None),
            (&[0x80, 96], Some(Kind::Rtp)),
            (&[0x80, 200], Some(Kind::Rtcp)),
            (&[192, 96], None),
        ];
        for (datagram, kind) in cases {
            assert_eq!(Kind::of(datagram), kind, "{datagram:?}");
        }
    }
}
