use core::future::Future;
use core::net::Ipv4Addr;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

use arcly_core::contract::auth::Credentials;
use arcly_core::{ClientInfo, PlayRequest, StreamKey};
use arcly_mux::hls::File;
use arcly_mux::hls::http::{Config, Hls, HlsBody, Pass};
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body::Body as _;
use tokio_util::sync::CancellationToken;

use crate::Published;

const FOLDER: &str = "live/bench/";
/// Frames that are published at a time while players wait.
const FRAMES: usize = 4;

/// Players of one LL-HLS stream, each from an address of its own, straight at the handlers: what a request costs without
/// sockets and without an HTTP library.
#[derive(Debug)]
pub struct HlsPlayers {
    stream: Published,
    hls: Hls,
    passes: Vec<Option<Pass>>,
    /// The media sequence number and part that come next.
    next: (u64, u64),
    /// The part that came last.
    newest: String,
}

impl HlsPlayers {
    /// That many players, who have had a playlist and a part.
    ///
    /// # Panics
    /// When the engine refuses something, which it has no reason to.
    pub async fn start(count: usize) -> Self {
        let mut stream = Published::start().await;
        let hls = Hls::new(&stream.engine.context(CancellationToken::new()), Config::default());
        stream.run_for(6);
        let mut players =
            Self { stream, hls, passes: vec![None; count], next: (0, 0), newest: String::new() };
        let first = players.ask(0, "video0.m3u8", None).await;
        players.read(first);
        players.playlists().await;
        players.parts();
        players
    }

    /// Everybody waits for the next version of the playlist, as a delta, and gets it.
    ///
    /// # Panics
    /// When somebody does not have to wait, or is refused.
    pub async fn playlists(&mut self) {
        let (msn, part) = self.next;
        let query = format!("_HLS_msn={msn}&_HLS_part={part}&_HLS_skip=YES");
        let count = self.passes.len();
        let mut answers: Vec<Option<Response<HlsBody>>> = (0..count).map(|_| None).collect();
        let mut cx = Context::from_waker(Waker::noop());
        {
            let (hls, passes) = (&self.hls, &self.passes);
            let mut waiting: Vec<_> = passes
                .iter()
                .enumerate()
                .map(|(n, pass)| ask(hls, n, pass.as_ref(), "video0.m3u8", Some(&query)))
                // As many as there are, in one turn of one task.
                .map(|asked| Box::pin(tokio::task::unconstrained(asked)))
                .collect();
            assert!(
                waiting.iter_mut().all(|one| one.as_mut().poll(&mut cx).is_pending()),
                "nothing is there"
            );
            loop {
                for _ in 0..FRAMES {
                    let frame = self.stream.next_frame();
                    self.stream.publish(frame);
                }
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                if let Some(Poll::Ready(first)) = waiting.first_mut().map(|one| one.as_mut().poll(&mut cx)) {
                    answers[0] = Some(first);
                    break;
                }
            }
            for (answer, one) in answers.iter_mut().zip(&mut waiting).skip(1) {
                let Poll::Ready(response) = one.as_mut().poll(&mut cx) else { panic!("one version for all") };
                *answer = Some(response);
            }
        }
        let mut text = None;
        for (n, answer) in answers.into_iter().enumerate() {
            let answer = self.remember(n, answer.expect("everybody was answered"));
            text.get_or_insert(answer);
        }
        self.read(text.expect("there are players"));
    }

    /// Everybody gets the part that came last.
    ///
    /// # Panics
    /// When somebody is refused.
    pub fn parts(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for n in 0..self.passes.len() {
            let asked = pin!(ask(&self.hls, n, self.passes[n].as_ref(), &self.newest, None)).poll(&mut cx);
            let Poll::Ready(answer) = asked else { panic!("the part is there") };
            self.remember(n, answer);
        }
    }

    async fn ask(&mut self, n: usize, file: &str, query: Option<&str>) -> Bytes {
        let answer = ask(&self.hls, n, self.passes[n].as_ref(), file, query).await;
        self.remember(n, answer)
    }

    /// The body of an answer, whose pass the player keeps.
    fn remember(&mut self, n: usize, mut answer: Response<HlsBody>) -> Bytes {
        assert!(answer.status().is_success(), "{}", answer.status());
        if let Some(pass) = answer.extensions_mut().remove::<Pass>() {
            self.passes[n] = Some(pass);
        }
        let polled = Pin::new(answer.body_mut()).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(Ok(frame))) = polled else { panic!("a body in one piece") };
        frame.into_data().expect("data")
    }

    /// What comes next, after a playlist.
    fn read(&mut self, playlist: Bytes) {
        let text = core::str::from_utf8(&playlist).expect("a playlist is text");
        let (mut msn, mut parts) = (0, 0);
        for line in text.lines() {
            let number = |name| line.strip_prefix(name).and_then(|value| value.parse::<u64>().ok());
            let skipped = number("#EXT-X-MEDIA-SEQUENCE:").or(number("#EXT-X-SKIP:SKIPPED-SEGMENTS="));
            msn += skipped.unwrap_or_default();
            if line.starts_with("#EXT-X-PART:") {
                parts += 1;
                self.newest = line.split('"').nth(1).expect("a URI").to_owned();
            } else if !line.starts_with('#') {
                (msn, parts) = (msn + 1, 0);
            }
        }
        self.next = (msn, parts);
    }
}

/// A request, in the way that a server makes one of what came over a connection.
async fn ask(hls: &Hls, n: usize, pass: Option<&Pass>, file: &str, query: Option<&str>) -> Response<HlsBody> {
    let headers = HeaderMap::new();
    let path = [FOLDER, file].concat();
    let (name, file) = File::split(&path).expect("a file of a stream");
    if let Some(pass) = pass
        && let Some(answer) = hls.handle_again(pass, (file, query), &Method::GET, &headers).await
    {
        return answer;
    }
    let address = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + u32::try_from(n).unwrap_or_default());
    let peer = (address, 1_935).into();
    let mut shown = Credentials::new("hls").with_remote(peer);
    if let Some(query) = query {
        shown = shown.with_query(query);
    }
    let key = StreamKey::parse(name).expect("a name");
    hls.handle(PlayRequest::new(key, ClientInfo::new("hls", peer), shown), file, &Method::GET, &headers).await
}
