//! Many readers at little cost: what they send was made once, and of what they get only the marks are looked at.
//!
//! One thread serves all of them. Each comes from one of many addresses, because a server lets in few strangers from
//! one at a time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arcly_codec::flv::TagKind;
use arcly_rtmp::wire::handshake::PACKET;
use arcly_rtmp::wire::{ChunkStreamId, Connect, MessageHeader, MessageType, Request, encode_message};
use arcly_testkit::media::Source;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

use super::eventually;
use super::feed::{Feed, MARK_LEN, Sequence, find, mark_at};
use super::peer::Peer;

/// Members that share an address.
const PER_ADDRESS: usize = 32;
/// What a player is told when its stream is over.
const FAREWELL: &[u8] = b"NetStream.Play.UnpublishNotify";
/// Bytes read at a time.
const READ: usize = 16 << 10;

/// What one member has seen.
#[derive(Debug, Default)]
pub struct Member {
    /// From its first step to its first frame.
    pub first: Option<Duration>,
    pub sequence: Sequence,
    /// It was told that the stream is over.
    pub told: bool,
    /// The server has closed the connection.
    pub ended: bool,
}

type Shared = Arc<Mutex<Member>>;

/// How a crowd comes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub rtmp: SocketAddr,
    /// A stream of the application `live`.
    pub stream: &'a str,
    pub count: usize,
    /// The time over which they come.
    pub within: Duration,
    /// They leave once they have seen a frame.
    pub leaves: bool,
}

/// Players of RTMP. Dropping it resets their connections, as when their process is killed.
pub struct Crowd {
    runtime: Option<Runtime>,
    members: Vec<Shared>,
}

impl Crowd {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { runtime: Some(runtime.unwrap()), members: Vec::new() }
    }

    /// Begins to let them come.
    pub fn come(&mut self, arrival: Arrival<'_>) {
        let Arrival { rtmp, count, within, leaves, .. } = arrival;
        let hello: Arc<[u8]> = hello(arrival.stream).into();
        let first = self.members.len();
        self.members.extend((0..count).map(|_| Shared::default()));
        let members = self.members[first..].to_vec();
        let handle = self.runtime.as_ref().unwrap().handle();
        handle.spawn(async move {
            let begin = tokio::time::Instant::now();
            for (n, member) in members.into_iter().enumerate() {
                let part = u32::try_from(n).unwrap();
                tokio::time::sleep_until(begin + within * part / u32::try_from(count).unwrap()).await;
                tokio::spawn(take_part(rtmp, address(first + n), Arc::clone(&hello), member, leaves));
            }
        });
    }

    /// The same, until every one of them has seen a frame; false when that takes longer than `limit`.
    pub fn come_and_see(&mut self, arrival: Arrival<'_>, limit: Duration) -> bool {
        self.come(arrival);
        eventually(limit, || self.members().all(|member| member.first.is_some()))
    }

    pub fn members(&self) -> impl Iterator<Item = MutexGuard<'_, Member>> {
        self.members.iter().map(lock)
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The time to the first frame that all but one in a hundred have had.
    pub fn p99(&self) -> Duration {
        let mut first: Vec<_> = self.members().filter_map(|member| member.first).collect();
        first.sort();
        first[first.len() * 99 / 100]
    }

    /// Nobody has lost a frame, had one twice, or was closed.
    #[track_caller]
    pub fn check(&self, id: &str) {
        for member in self.members() {
            let Sequence { lost, repeated, received, .. } = member.sequence;
            assert!((lost, repeated, member.ended) == (0, 0, false), "{id}: {:?}", *member);
            assert!(received > 0, "{id}: one has seen nothing");
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}

fn lock(member: &Shared) -> MutexGuard<'_, Member> {
    member.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address(member: usize) -> Ipv4Addr {
    let [.., high, low] = u32::try_from(member / PER_ADDRESS).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 7, high, low + 1)
}

/// Everything that a player sends, in one piece: the answers of a server are known beforehand.
fn hello(stream: &str) -> Vec<u8> {
    let mut out = BytesMut::from(&[3][..]);
    out.extend_from_slice(&[0; 2 * PACKET]);
    let connect = Connect { app: "live".into(), ..Connect::default() };
    let requests = [
        (0, Request::Connect(Box::new(connect))),
        (0, Request::CreateStream),
        (1, Request::Play { name: stream.into(), start: -2.0 }),
    ];
    for (n, (stream_id, request)) in (1..).zip(requests) {
        let kind = MessageType::CommandAmf0;
        let header = MessageHeader { csid: ChunkStreamId::COMMAND, timestamp: 0, kind, stream_id };
        encode_message(&mut out, &header, &[&request.encode(f64::from(n)).encode()], 128);
    }
    out.to_vec()
}

async fn take_part(rtmp: SocketAddr, local: Ipv4Addr, hello: Arc<[u8]>, member: Shared, leaves: bool) {
    let since = Instant::now();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((local, 0).into()).unwrap();
    let mut socket = socket.connect(rtmp).await.unwrap();
    socket.set_zero_linger().unwrap();
    let mut ended = socket.write_all(&hello).await.is_err();
    let (mut seen, mut buf) = (Vec::new(), vec![0; READ]);
    while !ended {
        match socket.read(&mut buf).await {
            Ok(count) if count > 0 => seen.extend_from_slice(&buf[..count]),
            _ => ended = true,
        }
        let mut member = lock(&member);
        look(&mut seen, &mut member);
        if member.sequence.received > 0 {
            member.first.get_or_insert_with(|| since.elapsed());
            if leaves {
                return;
            }
        }
    }
    lock(&member).ended = true;
}

/// Notes the marks in what was received, and keeps what may be the beginning of one.
fn look(seen: &mut Vec<u8>, member: &mut Member) {
    let mut at = 0;
    while let Some((end, kind, number)) = mark_at(seen, at) {
        member.sequence.note_number(kind, number);
        at = end;
    }
    member.told |= find(seen, FAREWELL, 0).is_some();
    let keep = seen.len().saturating_sub(MARK_LEN.max(FAREWELL.len())).max(at);
    seen.drain(..keep);
}

/// Publishers of the same thin video, each on a stream of its own, in real time.
pub struct Publishers {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Peer>>>,
}

impl Publishers {
    /// Begins to publish a picture every so often on each stream; all are there when this returns.
    pub fn start(rtmp: SocketAddr, streams: &[String], every: Duration) -> Self {
        let mut feed = Feed::of(Source::h264());
        let (headers, first) = (feed.headers(), feed.frame());
        let mut peers: Vec<Peer> = Vec::new();
        for (n, stream) in streams.iter().enumerate() {
            let mut peer = Peer::open_from(rtmp, &address(n).to_string(), None).publishing(stream);
            headers.iter().chain([&first]).for_each(|tag| _ = peer.tag(tag));
            peers.push(peer);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let begin = Instant::now();
            for n in 1.. {
                let due = begin + every * n;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                let mut tag = feed.frame();
                debug_assert_eq!(tag.kind, TagKind::Video);
                tag.timestamp = u32::try_from((every * n).as_millis()).unwrap();
                peers.iter_mut().for_each(|peer| _ = peer.tag(&tag));
            }
            peers
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops publishing; the connections are still there.
    pub fn stop(mut self) -> Vec<Peer> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Publishers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
