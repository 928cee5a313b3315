//! SRT without the network: packets, payloads that are sealed and opened, and a whole connection.
//!
//! **Question.** What does a packet of 1 316 bytes cost on its way through a connection, besides the system calls?
//!
//! **Hypothesis.** A header costs next to nothing. AES in counter mode costs what the processor's instructions for it do, as a key is
//! expanded once and not for each packet. A connection in memory, both ends of it, copies a packet twice (into the datagram, and once more
//! where it is received) and keeps a few hundred bytes of books.
//!
//! **Decision rule.** A header is decoded in 60 ns. A payload is sealed and opened in 400 ns each with AES-128 in counter mode. A packet goes from one end to the other
//! in 2 µs, acknowledgements and all: less than the system call that sends one datagram (1.87 µs) and the one that receives it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arcly_benches::{Bench, Goal, Unit};
use arcly_core::machine::{Machine as _, Output};
use arcly_srt::Config;
use arcly_srt::crypto::{Crypto, CryptoConfig, Entropy};
use arcly_srt::session::{Connection, Endpoint, Event, Listener, Verdict};
use arcly_srt::wire::{Cipher, DataHeader, DataPacket, KeyLength, MsgNumber, SeqNumber, SocketId};
use bytes::{Bytes, BytesMut};

const PAYLOAD: usize = 1_316;
const HEADER_TARGET: f64 = 60.0;
const CIPHER_TARGET: f64 = 400.0;
const CARRY_TARGET: f64 = 2_000.0;
/// Packets of one iteration: a hundred milliseconds of 105 Mbit/s.
const PACKETS: u64 = 1_000;

fn main() {
    let mut bench = Bench::new("srt");
    headers(&mut bench);
    for (name, cipher, length, target) in [
        ("AES-128-CTR", Cipher::Ctr, KeyLength::Aes128, Some(CIPHER_TARGET)),
        ("AES-256-CTR", Cipher::Ctr, KeyLength::Aes256, None),
        ("AES-128-GCM", Cipher::Gcm, KeyLength::Aes128, None),
    ] {
        let config = crypto(length).with_cipher(cipher);
        payloads(&mut bench, name, &config, Goal { target, ..Goal::NONE });
    }
    carry(&mut bench, "in the clear", Config::default(), Goal::target(CARRY_TARGET));
    let mut encrypted = Config::default();
    encrypted.crypto = Some(crypto(KeyLength::Aes128));
    carry(&mut bench, "with AES-128-CTR", encrypted, Goal::NONE);
}

fn crypto(length: KeyLength) -> CryptoConfig {
    CryptoConfig::new("correct horse battery".parse().expect("long enough")).with_key_length(length)
}

/// Random enough for a bench, and the same each time.
fn entropy(mut state: u64) -> Box<dyn Entropy> {
    Box::new(move |out: &mut [u8]| {
        for byte in out {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
    })
}

fn header(n: u32) -> DataHeader {
    DataHeader::new(SeqNumber::new(n), MsgNumber::FIRST)
}

fn headers(bench: &mut Bench) {
    let packet = DataPacket { header: header(7), payload: Bytes::from(vec![0x47; PAYLOAD]) };
    let mut datagram = BytesMut::new();
    packet.encode(&mut datagram);
    let datagram = datagram.freeze();
    let unit = Unit::NanosPer("packet", 1);
    bench.plain("a data packet, decode", unit, Goal::target(HEADER_TARGET), || {
        DataPacket::decode(&datagram).expect("our own packet")
    });
    let mut out = BytesMut::with_capacity(2 * PAYLOAD);
    bench.plain("a data packet, encode", unit, Goal::NONE, || {
        out.clear();
        packet.encode(&mut out);
        out.len()
    });
}

fn payloads(bench: &mut Bench, name: &str, config: &CryptoConfig, goal: Goal) {
    let (mut ours, mut theirs) = (Crypto::new(config).expect("a key"), Crypto::new(config).expect("a key"));
    let material = ours.initiate(&mut *entropy(1));
    theirs.handle_request(Instant::now(), &material).expect("the same passphrase");
    let unit = Unit::NanosPer("packet", 1);
    let mut payload = BytesMut::with_capacity(2 * PAYLOAD);
    payload.resize(PAYLOAD, 0x47);
    let mut n = 0;
    bench.plain(&format!("{name}, seal"), unit, goal, || {
        n += 1;
        payload.truncate(PAYLOAD);
        let mut header = header(n);
        ours.seal(&mut header, &mut payload);
        header
    });
    let mut first = header(1);
    payload.truncate(PAYLOAD);
    ours.seal(&mut first, &mut payload);
    let sealed = payload.clone();
    let mut opened = BytesMut::with_capacity(2 * PAYLOAD);
    bench.plain(&format!("{name}, copy and open"), unit, goal, || {
        opened.clear();
        opened.extend_from_slice(&sealed);
        theirs.open(&first, &mut opened).expect("it was sealed so")
    });
}

/// One end, and what it has said.
struct End {
    connection: Connection,
    wake: Option<Instant>,
    delivered: u64,
}

impl End {
    fn new(connection: Connection) -> Self {
        Self { connection, wake: None, delivered: 0 }
    }

    fn drain(&mut self, to: &mut VecDeque<Bytes>) {
        loop {
            match self.connection.poll_output() {
                Output::Transmit(datagram) => to.push_back(datagram),
                Output::Event(Event::Message(_)) => self.delivered += 1,
                Output::Event(_) => {}
                Output::Wait(wake) => {
                    self.wake = wake;
                    return;
                }
            }
        }
    }

    fn take(&mut self, now: Instant, from: &mut VecDeque<Bytes>, to: &mut VecDeque<Bytes>) {
        for datagram in from.drain(..) {
            // As a socket has them: in memory that nobody else looks at.
            let datagram = Bytes::copy_from_slice(&datagram);
            self.connection.handle_datagram(now, datagram).expect("a good peer");
            self.drain(to);
        }
        if self.wake.is_some_and(|wake| wake <= now) {
            self.connection.handle_timeout(now).expect("a good peer");
            self.drain(to);
        }
    }
}

fn carry(bench: &mut Bench, name: &str, config: Config, goal: Goal) {
    let mut now = Instant::now();
    let (mut caller, mut callee) = connect(now, config);
    let (mut up, mut down) = (VecDeque::new(), VecDeque::new());
    let payload = Bytes::from(vec![0x47; PAYLOAD]);
    bench.plain(&format!("a packet, {name}"), Unit::NanosPer("packet", PACKETS), goal, || {
        for _ in 0..PACKETS {
            now += Duration::from_micros(100);
            caller.connection.send(now, payload.clone(), Default::default()).expect("there is room");
            caller.drain(&mut up);
            callee.take(now, &mut up, &mut down);
            caller.take(now, &mut down, &mut up);
        }
        callee.delivered
    });
}

fn connect(now: Instant, config: Config) -> (End, End) {
    let address = |last| SocketAddr::from(([192, 0, 2, last], 9_000));
    let endpoint = Endpoint { remote: address(2), local: SocketId(60), initial_seq: SeqNumber::new(1_000) };
    let connection =
        Connection::connect(now, endpoint, config.clone(), entropy(1)).expect("a good configuration");
    let (mut caller, mut listener) = (End::new(connection), Listener::new(now, [7; 32]));
    let (mut up, mut down) = (VecDeque::new(), VecDeque::new());
    loop {
        caller.drain(&mut up);
        let datagram = up.pop_front().expect("a caller says something");
        match listener.handle_datagram(now, address(1), &datagram) {
            Verdict::Reply(reply) => caller.connection.handle_datagram(now, reply).expect("a good listener"),
            Verdict::Request(request) => {
                let accepted = listener.accept(now, *request, SocketId(70), config, entropy(2));
                let mut callee = End::new(accepted.expect("the same configuration"));
                callee.drain(&mut down);
                caller.take(now, &mut down, &mut up);
                return (caller, callee);
            }
            other => panic!("{other:?}"),
        }
    }
}
