//! Why a connection is refused (draft-sharabayko-srt §4.3, libsrt's `access_control.h`).

use core::fmt;

/// Why a connection is refused: a number as libsrt's API has it, below 1000 of the protocol, below 2000 of access control
/// (where 1404 is what 404 is in HTTP), and from 2000 of the application. On the wire each is 1000 more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RejectReason(u16);

macro_rules! reasons {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        impl RejectReason {
            $(#[doc = concat!("`", stringify!($code), "`: ", $text, ".")] pub const $name: Self = Self($code);)*

            /// What it means, when that is known.
            #[must_use]
            pub const fn text(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    UNKNOWN = 0, "no reason given";
    SYSTEM = 1, "the system refused";
    PEER = 2, "the peer refused";
    RESOURCE = 3, "no room";
    ROGUE = 4, "the handshake is wrong";
    BACKLOG = 5, "too many connections are waiting";
    INTERNAL = 6, "an internal error";
    CLOSE = 7, "the listener is being closed";
    VERSION = 8, "the peer's version is too old";
    RENDEZVOUS_COOKIE = 9, "both ends of the rendezvous have the same cookie";
    BAD_SECRET = 10, "the passphrase is wrong";
    UNSECURE = 11, "one end is encrypted and the other is not";
    MESSAGE_API = 12, "one end sends messages and the other a stream of bytes";
    CONGESTION = 13, "the congestion controls differ";
    FILTER = 14, "the packet filters differ";
    GROUP = 15, "the groups differ";
    TIMEOUT = 16, "the peer did not answer in time";
    CRYPTO = 17, "the ciphers differ";
    KEY_NOT_SUPPORTED = 1001, "the stream id has a key that is not known";
    FILE_PATH = 1002, "the path is not one";
    HOST_NOT_FOUND = 1003, "the host is not known";
    BAD_REQUEST = 1400, "the stream id is wrong";
    UNAUTHORIZED = 1401, "credentials are missing or wrong";
    OVERLOAD = 1402, "the server is overloaded";
    FORBIDDEN = 1403, "this is not allowed";
    NOT_FOUND = 1404, "there is no such stream";
    BAD_MODE = 1405, "the stream cannot be used this way";
    UNACCEPTABLE = 1406, "the format is not accepted";
    CONFLICT = 1409, "the stream has a publisher already";
    NOT_SUPPORTED_MEDIA = 1415, "the type is not supported";
    LOCKED = 1423, "the stream is locked";
    FAILED_DEPENDENCY = 1424, "there is no such session";
    SERVER_ERROR = 1500, "an error in the server";
    UNIMPLEMENTED = 1501, "this is not implemented";
    GATEWAY = 1502, "the server behind this one refused";
    DOWN = 1503, "the server is down for maintenance";
    VERSION_NOT_SUPPORTED = 1505, "the application's version is not supported";
    NO_ROOM = 1507, "the server has no room for what is published";
}

impl RejectReason {
    /// From libsrt's API number.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// libsrt's API number: 4, or 1404.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => write!(f, "{text} ({})", self.0),
            None => write!(f, "rejection {}", self.0),
        }
    }
}
