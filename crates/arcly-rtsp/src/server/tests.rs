//! Connections as the server runs them, over pipes and in virtual time.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use arcly_core::contract::auth::{ActionSet, NameRule, StaticUsers, Throttled};
use arcly_core::{Engine, PublishRegistry as _, PublishRequest, Publisher};
use arcly_testkit::media::Source;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::wire::authorization::{Answers, Challenge, Login, challenges};
use crate::wire::{Decoder, Item, MessageLimits, Method, Request, Response, Status};

const URL: &str = "rtsp://h/live/cam";
const SECOND: Duration = Duration::from_secs(1);

/// A server behind a throttle of logins that knows one user, and a stream that she may play.
struct Door {
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    port: AtomicU16,
    _publisher: Publisher,
}

impl Door {
    async fn open() -> Arc<Self> {
        let users =
            StaticUsers::new().with_user("ann", "right", ActionSet::PLAY, NameRule::parse("live/*").unwrap());
        let engine = Engine::builder().authenticator(Arc::new(Throttled::new(users.unwrap()))).build();
        let request = PublishRequest::internal(StreamKey::new("live", "cam"), "test");
        let mut publisher = engine.publish(request).await.unwrap();
        let source = Source::h264_aac();
        publisher.set_tracks(source.tracks()).unwrap();
        source.seconds(1).into_iter().for_each(|frame| _ = publisher.publish(frame).unwrap());
        let config = ServerConfig { egress_workers: 1, ..ServerConfig::default() };
        let gate = Gate::new(config.max_unauthorized, config.max_unauthorized_per_address);
        let server = Server::bind("127.0.0.1:0", config).await.unwrap();
        let shared = server.shared(engine.context(CancellationToken::new())).unwrap();
        Arc::new(Self { shared, gate, port: AtomicU16::new(1), _publisher: publisher })
    }

    /// A connection from that address.
    fn enter(self: &Arc<Self>, address: [u8; 4]) -> Client {
        let remote = SocketAddr::from((address, self.port.fetch_add(1, Ordering::Relaxed)));
        let admission = self.gate.enter(IpAddr::from(address)).expect("a place");
        let (near, far) = tokio::io::duplex(64 << 10);
        let shared = Arc::clone(&self.shared);
        let ended = tokio::spawn(async move {
            let observer = Arc::clone(&shared.context.observer);
            let mut report = Report::new(shared, observer, "rtsp", remote);
            enter(tokio::io::split(near), admission, &mut report, clock::now()).await;
            report.reason
        });
        Client { far, decoder: Decoder::new(MessageLimits::default()), cseq: 0, ended }
    }
}

struct Client {
    far: DuplexStream,
    decoder: Decoder,
    cseq: u32,
    ended: JoinHandle<CloseReason>,
}

impl Client {
    async fn ask(&mut self, request: Request) -> Response {
        self.cseq += 1;
        self.far.write_all(&request.with("CSeq", self.cseq).to_bytes()).await.unwrap();
        loop {
            if let Some(Item::Response(response)) = self.decoder.poll().unwrap() {
                return response;
            }
            let mut buffer = [0; 4_096];
            let read = self.far.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "an answer before the end");
            self.decoder.push(&buffer[..read]);
        }
    }

    /// Asks for the stream without credentials: what the server offers to prove oneself with.
    async fn challenge(&mut self) -> Vec<Challenge> {
        let response = self.ask(Request::new(Method::Describe, URL)).await;
        assert_eq!(response.status, Status::UNAUTHORIZED);
        challenges(response.headers.all("WWW-Authenticate")).unwrap()
    }

    /// Answers a challenge, and says how long the server took.
    async fn login(&mut self, offered: &[Challenge], password: &str) -> (Response, Duration) {
        let mut answers = Answers::new(Login::new("ann", password), [1; 16]);
        assert!(answers.take(offered));
        let shown = answers.answer("DESCRIBE", URL).unwrap();
        let began = clock::now();
        let response = self.ask(Request::new(Method::Describe, URL).with("Authorization", shown)).await;
        (response, clock::now() - began)
    }
}

fn nonce(offered: &[Challenge]) -> String {
    let digest = offered.iter().find_map(|challenge| match challenge {
        Challenge::Digest(digest) => Some(digest.nonce.clone()),
        _ => None,
    });
    digest.expect("Digest is offered")
}

/// The second address logs in while an attempt of the first waits, each time.
#[tokio::test(start_paused = true)]
async fn t39_a_thousand_bad_logins_from_one_address_wait_and_those_of_another_do_not() {
    const BAD: usize = 1_000;
    let door = Door::open().await;
    let began = clock::now();
    let (mut tried, mut nonces) = (0, std::collections::HashSet::new());
    while tried < BAD {
        let mut bad = door.enter([10, 0, 0, 1]);
        let mut offered = bad.challenge().await;
        // As many as a connection has.
        for _ in 0..8 {
            let other = tokio::spawn({
                let door = Arc::clone(&door);
                async move {
                    let mut good = door.enter([10, 0, 0, 2]);
                    let offered = good.challenge().await;
                    let (response, took) = good.login(&offered, "right").await;
                    (response.status, took, clock::now())
                }
            });
            let (response, took) = bad.login(&offered, "wrong").await;
            let answered = clock::now();
            assert_eq!(response.status, Status::UNAUTHORIZED, "{tried}");
            assert_eq!(took >= SECOND, tried >= 5, "{tried}: {took:?}");
            let (status, waited, at) = other.await.unwrap();
            assert_eq!((status, waited), (Status::OK, Duration::ZERO), "{tried}");
            assert!(at + took <= answered, "{tried}: it is let in before the other is answered");
            offered = challenges(response.headers.all("WWW-Authenticate")).unwrap();
            // Those that are given out at one moment are one.
            assert!(nonces.insert(nonce(&offered)) || took.is_zero(), "{tried}: a nonce for the second time");
            tried += 1;
        }
        assert_eq!(bad.ended.await.unwrap(), CloseReason::Unauthorized);
    }
    let waited = u32::try_from(BAD - 5).unwrap();
    assert!(clock::now() - began >= SECOND * waited, "{:?}", clock::now() - began);
    // Who knows the password waits as well, once; and is let in with the nonce of the last refusal.
    let mut late = door.enter([10, 0, 0, 1]);
    let offered = late.challenge().await;
    let (refused, _) = late.login(&offered, "wrong").await;
    let fresh = challenges(refused.headers.all("WWW-Authenticate")).unwrap();
    let (response, took) = late.login(&fresh, "right").await;
    assert_eq!(response.status, Status::OK);
    assert!(took >= SECOND, "{took:?}");
}
