#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that fails panics")]

use std::io::Read as _;

use arcly_core::contract::auth::Credentials;
use arcly_core::{
    ClientInfo, CloseReason, Engine, MediaFrame, PublishRegistry as _, PublishRequest, Publisher, Timestamp,
};
use arcly_testkit::hls::{Checker, Media, check_multivariant};
use arcly_testkit::media::Source;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;

use super::*;

/// An engine with one stream, and HLS in front of it.
struct Scene {
    engine: Arc<Engine>,
    hls: Hls,
    publisher: Option<Publisher>,
    source: std::iter::Peekable<Source>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn key() -> StreamKey {
    StreamKey::new("live", "cam")
}

impl Scene {
    async fn new(config: Config) -> Self {
        let engine = Engine::builder().build();
        let hls = Hls::new(&engine.context(CancellationToken::new()), config);
        let mut scene = Self { engine, hls, publisher: None, source: Source::h264_aac().peekable() };
        scene.publish_again(Timestamp::ZERO).await;
        scene
    }

    async fn publish_again(&mut self, start: Timestamp) {
        let source = Source::h264_aac().starting_at(start);
        let mut publisher = self.engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
        publisher.set_tracks(source.tracks()).unwrap();
        (self.publisher, self.source) = (Some(publisher), source.peekable());
    }

    /// Publishes up to `ms` of the source, and lets everybody work.
    async fn publish_until(&mut self, ms: i64) {
        let until = Timestamp::from_millis(ms);
        while let Some(frame) = self.source.next_if(|frame: &MediaFrame| frame.dts < until) {
            self.publisher.as_mut().unwrap().publish(frame).unwrap();
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    fn request(query: Option<&str>, address: [u8; 4]) -> PlayRequest {
        let peer = (address, 1).into();
        let mut shown = Credentials::new("hls").with_remote(peer);
        shown.query = query.map(str::to_owned);
        PlayRequest::new(key(), ClientInfo::new("hls", peer), shown)
    }

    async fn ask(&self, url: &str, method: Method, headers: &[(&'static str, &str)]) -> Answer {
        Self::ask_from(&self.hls, [127, 0, 0, 1], url, method, headers).await
    }

    async fn ask_from(
        hls: &Hls,
        address: [u8; 4],
        url: &str,
        method: Method,
        headers: &[(&'static str, &str)],
    ) -> Answer {
        let (file, query) = url.split_once('?').map_or((url, None), |(file, query)| (file, Some(query)));
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let file = file.parse().expect("a name of a file");
        let request = Self::request(query, address);
        let response = hls.handle(request, file, &method, &headers.collect()).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, url: &str) -> Answer {
        self.ask(url, Method::GET, &[]).await
    }

    async fn media(&self, name: &str) -> Media {
        let answer = self.get(name).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        Media::parse(answer.text()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn everything_that_playlists_name_is_there() {
    let mut scene = Scene::new(Config::default()).await;
    scene.publish_until(7_500).await;
    let index = scene.get("index.m3u8").await;
    assert_eq!((index.status, index.header("content-type")), (200, crate::hls::MEDIA_TYPE));
    let renditions = check_multivariant(index.text()).unwrap().uris();
    assert_eq!(renditions, ["audio1.m3u8", "video0.m3u8"]);
    for name in renditions {
        let playlist = scene.media(&name).await;
        for segment in playlist.segments.iter().filter(|segment| segment.is_complete()) {
            let whole = scene.get(&segment.uri).await;
            assert_eq!(whole.status, 200);
            assert_eq!(whole.header("cache-control"), "max-age=86400, immutable");
            assert!(whole.header("content-type").starts_with(&name[..5]), "{}", whole.header("content-type"));
            let mut parts = Vec::new();
            for part in &segment.parts {
                parts.extend_from_slice(&scene.get(&part.uri).await.body);
            }
            assert!(parts.is_empty() || parts == whole.body, "a segment is its parts");
            let head = scene.ask(&segment.uri, Method::HEAD, &[]).await;
            assert_eq!((head.body.len(), head.header("content-length")), (0, whole.header("content-length")));
            let range = scene.ask(&segment.uri, Method::GET, &[("range", "bytes=100-1099")]).await;
            assert_eq!((range.status, &range.body), (206, &whole.body.slice(100..1_100)));
            assert_eq!(range.header("content-range"), format!("bytes 100-1099/{}", whole.body.len()));
            let beyond = scene.ask(&segment.uri, Method::GET, &[("range", "bytes=99999999-")]).await;
            assert_eq!(beyond.status, 416);
        }
        let init = playlist.segments[0].map.clone().unwrap();
        assert!(scene.get(&init).await.body[4..].starts_with(b"ftyp"));
        let open = &playlist.open().expect("a segment is being made").parts;
        assert_eq!(scene.get(&open[0].uri).await.status, 200);
    }
    for nothing in
        ["video9.m3u8", "audio0.m3u8", "video0_0_seg0.m4s", "video0_0_init0.m4s", "video0_0_part0.m4s"]
    {
        assert_eq!(scene.get(nothing).await.status, 404, "{nothing}");
    }
    assert_eq!(scene.ask("index.m3u8", Method::POST, &[]).await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn playlists_are_compressed_for_those_who_take_that() {
    let mut scene = Scene::new(Config::default()).await;
    scene.publish_until(7_500).await;
    let plain = scene.get("video0.m3u8").await;
    let packed = scene.ask("video0.m3u8", Method::GET, &[("accept-encoding", "br, gzip")]).await;
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), ("gzip", "Accept-Encoding"));
    assert_eq!((plain.header("content-encoding"), plain.header("cache-control")), ("", "no-cache"));
    assert!(packed.body.len() * 2 < plain.body.len());
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*packed.body).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain.text());
    let again = scene.ask("video0.m3u8", Method::GET, &[("accept-encoding", "gzip")]).await;
    assert_eq!(again.body.as_ptr(), packed.body.as_ptr(), "compressed once");
}

#[tokio::test(start_paused = true)]
async fn blocked_requests_wake_together_and_share_one_playlist() {
    let mut scene = Scene::new(Config { max_waiting: 1_000, ..Config::default() }).await;
    scene.publish_until(7_500).await;
    let playlist = scene.media("video0.m3u8").await;
    let (msn, part) = playlist.last().unwrap();
    let next = part.unwrap() + 1;
    let before = scene.hls.stats();
    let url = format!("video0.m3u8?_HLS_msn={msn}&_HLS_part={next}");
    let hint = playlist.hints[0].1.clone();
    let waiting: Vec<_> = (0..500)
        .map(|n| {
            let (hls, url) = (scene.hls.clone(), if n % 5 == 0 { hint.clone() } else { url.clone() });
            tokio::spawn(async move { Scene::ask_from(&hls, [127, 0, 0, 1], &url, Method::GET, &[]).await })
        })
        .collect();
    scene.publish_until(7_550).await;
    assert!(waiting.iter().all(|one| !one.is_finished()), "nothing is there yet");
    assert_eq!(scene.hls.stats().waiting, 500);
    scene.publish_until(7_700).await;
    let mut bodies = std::collections::HashSet::new();
    for (n, one) in waiting.into_iter().enumerate() {
        let answer = one.await.unwrap();
        assert_eq!(answer.status, 200);
        if n % 5 > 0 {
            assert_eq!(answer.header("cache-control"), "max-age=12");
            assert!(answer.text().contains(&format!("URI=\"{hint}\"")), "the hint is kept");
            bodies.insert(answer.body.as_ptr() as usize);
        }
    }
    let after = scene.hls.stats();
    assert_eq!(bodies.len(), 1, "one text for all");
    assert_eq!(after.rendered - before.rendered, 1, "rendered once for 400 clients");
    assert_eq!((after.waiting, after.playlist_requests - before.playlist_requests), (0, 400));
}

#[tokio::test(start_paused = true)]
async fn requests_that_ask_too_much_are_refused() {
    let mut scene = Scene::new(Config::default()).await;
    scene.publish_until(7_500).await;
    let (msn, part) = scene.media("video0.m3u8").await.last().unwrap();
    for query in [
        format!("_HLS_msn={}", msn + 3),
        format!("_HLS_msn={msn}&_HLS_part={}", part.unwrap() + 100),
        "_HLS_part=1".into(),
        "_HLS_msn=x".into(),
        "_HLS_msn=99999999999999999999999".into(),
    ] {
        assert_eq!(scene.get(&format!("video0.m3u8?{query}")).await.status, 400, "{query}");
    }
    // 64 of one address wait; the next one is told to come back, and another address is not.
    let url = format!("video0.m3u8?_HLS_msn={}", msn + 1);
    let ask = |address| {
        let (hls, url) = (scene.hls.clone(), url.clone());
        tokio::spawn(async move { Scene::ask_from(&hls, address, &url, Method::GET, &[]).await })
    };
    let waiting: Vec<_> = (0..64).map(|_| ask([127, 0, 0, 1])).collect();
    tokio::task::yield_now().await;
    let refused = ask([127, 0, 0, 1]).await.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    let other = ask([127, 0, 0, 2]);
    tokio::task::yield_now().await;
    assert!(!other.is_finished());
    // Nothing comes within three target durations.
    let began = tokio::time::Instant::now();
    for one in waiting {
        assert_eq!(one.await.unwrap().status, 503);
    }
    let target = scene.media("video0.m3u8").await.target;
    assert_eq!(began.elapsed().as_secs(), 3 * target);
}

#[tokio::test(start_paused = true)]
async fn h08_5000_blocked_requests_are_answered_when_the_publisher_dies() {
    let mut scene = Scene::new(Config::default()).await;
    scene.publish_until(7_500).await;
    let playlist = scene.media("video0.m3u8").await;
    let url = format!("video0.m3u8?_HLS_msn={}", playlist.last().unwrap().0 + 1);
    let waiting: Vec<_> = (0..5_000_u32)
        .map(|n| {
            let (hls, url) = (scene.hls.clone(), url.clone());
            let address = [127, 0, 1, u8::try_from(n / 64).unwrap()];
            tokio::spawn(async move { Scene::ask_from(&hls, address, &url, Method::GET, &[]).await.status })
        })
        .collect();
    while scene.hls.stats().waiting < 5_000 {
        tokio::task::yield_now().await;
    }
    let began = tokio::time::Instant::now();
    scene.publisher = None;
    for one in waiting {
        let status = one.await.unwrap();
        assert!(matches!(status, 200 | 503), "{status}");
    }
    assert!(began.elapsed().as_secs() <= 3 * playlist.target, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn credentials_of_the_query_stand_behind_every_uri() {
    let mut scene = Scene::new(Config::default()).await;
    scene.publish_until(7_500).await;
    let index = scene.get("index.m3u8?token=a.b-c").await;
    assert!(index.text().contains("\nvideo0.m3u8?token=a.b-c\n"), "{}", index.text());
    assert_eq!(index.header("cache-control"), "private, no-cache");
    let playlist = scene.media("video0.m3u8?_HLS_msn=0&token=a.b-c").await;
    assert!(playlist.segments[0].uri.ends_with(".m4s?token=a.b-c"), "{}", playlist.segments[0].uri);
    let media = scene.get(&playlist.segments[0].uri).await;
    assert_eq!((media.status, media.header("cache-control")), (200, "private, max-age=86400, immutable"));
    assert_eq!(scene.engine.stream(&key()).unwrap().reader_count(), 1, "one client");
}

#[tokio::test(start_paused = true)]
async fn clients_are_readers_until_they_are_not_heard_of() {
    let mut scene = Scene::new(Config { idle: Duration::from_secs(30), ..Config::default() }).await;
    scene.publish_until(7_500).await;
    for address in [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 1]] {
        let answer = Scene::ask_from(&scene.hls, address, "video0.m3u8", Method::GET, &[]).await;
        assert_eq!(answer.status, 200);
    }
    let stream = scene.engine.stream(&key()).unwrap();
    let readers = stream.readers();
    assert_eq!(readers.len(), 2);
    assert!(readers.iter().all(|reader| reader.stats().bytes > 500 && reader.client.protocol == "hls"));
    // Sent away over the API: it stays away for a while.
    let sent = readers.iter().find(|one| one.client.remote.unwrap().ip().to_string() == "10.0.0.1").unwrap();
    sent.end(CloseReason::Forbidden);
    let answer = Scene::ask_from(&scene.hls, [10, 0, 0, 1], "video0.m3u8", Method::GET, &[]).await;
    assert_eq!(answer.status, 403);
    // Nobody asks any more: clients leave, and then the stream is muxed no more.
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert_eq!((stream.reader_count(), scene.hls.stats().streams), (0, 1));
    tokio::time::sleep(Duration::from_secs(32)).await;
    assert_eq!(scene.hls.stats().streams, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pass_stands_for_its_client_as_long_as_that_may_read() {
    let mut scene = Scene::new(Config::default()).await;
    scene.publish_until(7_500).await;
    let (get, none) = (Method::GET, HeaderMap::new());
    let file: File = "video0.m3u8".parse().unwrap();
    let let_in = async || {
        let request = Scene::request(Some("token=a"), [127, 0, 0, 1]);
        let mut answer = scene.hls.handle(request, file, &get, &none).await;
        answer.extensions_mut().remove::<Pass>().expect("a pass")
    };
    let pass = let_in().await;
    let stream = scene.engine.stream(&key()).unwrap();
    let reader = Arc::clone(&stream.readers()[0]);
    let before = reader.stats().bytes;
    let query = Some("_HLS_msn=0&token=a");
    let answer = scene.hls.handle_again(&pass, (file, query), &get, &none).await.expect("it is good");
    assert_eq!(answer.headers()["cache-control"], "private, max-age=12");
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(text.windows(12).any(|piece| piece == b".m4s?token=a"), "as it is for this client");
    assert_eq!(reader.stats().bytes - before, text.len() as u64, "counted as the client's");
    let answer = scene.hls.handle_again(&pass, (file, Some("_HLS_part=1")), &get, &none).await;
    assert_eq!(answer.map(|answer| answer.status().as_u16()), Some(400));
    let other = (file, Some("container=ts"));
    assert!(scene.hls.handle_again(&pass, other, &get, &none).await.is_none(), "of another container");
    assert!(scene.hls.handle_again(&pass, (file, None), &Method::POST, &none).await.is_none());
    assert!(scene.hls.handle_again(&Pass::default(), (file, None), &get, &none).await.is_none());
    assert_eq!(stream.reader_count(), 1);
    reader.end(CloseReason::Forbidden);
    assert!(scene.hls.handle_again(&pass, (file, None), &get, &none).await.is_none(), "sent away");
    // Of a client that was not heard of for a while, nothing is left.
    tokio::time::sleep(Duration::from_secs(25)).await;
    drop((reader, stream));
    let pass = let_in().await;
    assert!(scene.hls.handle_again(&pass, (file, None), &get, &none).await.is_some());
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(scene.hls.handle_again(&pass, (file, None), &get, &none).await.is_none(), "forgotten");
    let pass = let_in().await;
    scene.publisher = None;
    scene.engine.stream(&key()).unwrap().disconnect_publishers(CloseReason::PeerClosed);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(scene.hls.handle_again(&pass, (file, None), &get, &none).await.is_none(), "the stream is over");
}

#[tokio::test(start_paused = true)]
async fn f44_a_stream_that_ends_is_listed_to_its_end_and_its_numbers_go_on_when_it_returns() {
    let mut scene = Scene::new(Config::default()).await;
    let mut checker = Checker::new();
    scene.publish_until(9_000).await;
    checker.check("video0.m3u8", scene.get("video0.m3u8").await.text());
    let playlist = scene.media("video0.m3u8").await;
    let url = format!("video0.m3u8?_HLS_msn={}", playlist.last().unwrap().0 + 1);
    let hls = scene.hls.clone();
    let waiting =
        tokio::spawn(async move { Scene::ask_from(&hls, [127, 0, 0, 1], &url, Method::GET, &[]).await });
    tokio::task::yield_now().await;
    scene.publisher = None;
    scene.engine.stream(&key()).unwrap().disconnect_publishers(CloseReason::PeerClosed);
    // The grace period passes, and with it the stream.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let _ = waiting.await.unwrap();
    let ended = scene.get("video0.m3u8").await;
    checker.check("video0.m3u8", ended.text());
    checker.assert_clean();
    let last = Media::parse(ended.text()).unwrap();
    assert!(last.ended, "{}", ended.text());
    scene.publish_again(Timestamp::ZERO).await;
    scene.publish_until(5_000).await;
    let back = scene.media("video0.m3u8").await;
    assert_eq!(back.msn, last.msn + last.segments.len() as u64);
    assert_eq!((back.discontinuity_sequence, back.segments[0].discontinuity), (0, true));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_there() {
    let engine = Engine::builder().build();
    let hls = Hls::new(&engine.context(CancellationToken::new()), Config::default());
    for url in ["index.m3u8", "video0.m3u8", "video0_1_seg1.m4s"] {
        let answer = Scene::ask_from(&hls, [127, 0, 0, 1], url, Method::GET, &[]).await;
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains("live/cam"), "{}", answer.text());
    }
    assert_eq!(hls.stats(), Stats::default());
}

/// What stands behind `name="` the first time.
fn attribute<'a>(text: &'a str, name: &str) -> &'a str {
    text.split_once(&format!(" {name}=\""))
        .and_then(|(_, rest)| rest.split('"').next())
        .expect("an attribute")
}

#[tokio::test]
async fn a_manifest_names_segments_and_the_one_in_the_making_comes_as_it_is_made() {
    let mut scene = Scene::new(Config::default()).await;
    scene.publish_until(5_500).await;
    let manifest = scene.get("manifest.mpd").await;
    assert_eq!((manifest.status, manifest.header("content-type")), (200, "application/dash+xml"));
    assert_eq!(manifest.header("cache-control"), "no-cache");
    let text = manifest.text();
    let init = scene.get(attribute(text, "initialization")).await;
    assert_eq!((init.status, &init.body[4..8]), (200, &b"ftyp"[..]));
    let media = attribute(text, "media").to_owned();
    let name = |number: u64| media.replace("$Number$", &number.to_string());
    let whole = scene.get(&name(0)).await;
    assert_eq!((whole.status, &whole.body[4..8]), (200, &b"prft"[..]));

    // Two seconds each: the third segment is being made.
    let request = Scene::request(None, [127, 0, 0, 1]);
    let file: File = name(2).parse().expect("a name of a file");
    let response = scene.hls.handle(request, file, &Method::GET, &HeaderMap::new()).await;
    assert_eq!((response.status().as_u16(), response.headers().get("content-length")), (200, None));
    let body = tokio::spawn(response.into_body().collect());
    scene.publish_until(5_800).await;
    assert!(!body.is_finished(), "it is not complete");
    scene.publish_until(7_000).await;
    let growing = body.await.expect("it ends").expect("in order").to_bytes();
    let complete = scene.get(&name(2)).await;
    assert!(!growing.is_empty() && growing == complete.body, "the same in chunks and in one piece");
    // The next one is waited for; those after it are not promised.
    assert_eq!(scene.get(&name(9)).await.status, 404);
    // Time zero stays where it was.
    let again = scene.get("manifest.mpd").await;
    let start = |text| attribute(text, "availabilityStartTime").to_owned();
    assert_eq!(start(again.text()), start(text));
}

#[tokio::test(start_paused = true)]
async fn segments_in_mpeg_ts_are_there_for_those_who_ask_for_them_and_as_long_as_they_do() {
    let mut scene = Scene::new(Config { idle: Duration::from_secs(30), ..Config::default() }).await;
    scene.publish_until(7_500).await;
    assert_eq!(scene.hls.stats().streams, 0);
    let index = scene.get("index.m3u8?container=ts&token=a.b").await;
    assert_eq!((index.status, index.header("content-type")), (200, crate::hls::MEDIA_TYPE));
    let renditions = check_multivariant(index.text()).unwrap();
    assert_eq!(renditions.uris(), ["video0_ts.m3u8?token=a.b"], "without what asked for it");
    assert_eq!(scene.hls.stats().streams, 1, "no CMAF");
    let playlist = scene.media("video0.m3u8?container=ts").await;
    assert_eq!(playlist, scene.media("video0_ts.m3u8").await);
    assert!(playlist.segments.len() >= 2 && playlist.hints.is_empty() && playlist.open().is_none());
    let mut bodies = Vec::new();
    for segment in &playlist.segments {
        let answer = scene.get(&segment.uri).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "video/mp2t"));
        assert_eq!((answer.body[0], answer.body.len() % 188), (0x47, 0));
        assert_eq!(scene.get(&segment.uri).await.body.as_ptr(), answer.body.as_ptr(), "made once");
        bodies.push(answer);
    }
    let tail = scene.ask(&playlist.segments[0].uri, Method::GET, &[("range", "bytes=-188")]).await;
    assert_eq!((tail.status, tail.body.len()), (206, 188));
    // What comes next is waited for.
    let url = format!("video0_ts.m3u8?_HLS_msn={}", playlist.last().unwrap().0 + 1);
    let hls = scene.hls.clone();
    let next =
        tokio::spawn(async move { Scene::ask_from(&hls, [127, 0, 0, 1], &url, Method::GET, &[]).await });
    scene.publish_until(7_900).await;
    assert!(!next.is_finished());
    scene.publish_until(11_500).await;
    assert_eq!(next.await.unwrap().status, 200);
    for nothing in ["audio1_ts.m3u8", "video0_0_seg0.ts", "video0_0_seg0.ts.key"] {
        let answer =
            tokio::time::timeout(Duration::from_secs(20), scene.get(nothing)).await.expect("an answer");
        assert!(matches!(answer.status, 404 | 503), "{nothing}: {}", answer.status);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(scene.hls.stats().streams, 0, "nobody asks any more");
}

#[cfg(feature = "encryption")]
mod encrypted {
    use core::num::NonZeroU64;

    use aes::Aes128;
    use cbc::cipher::block_padding::Pkcs7;
    use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};

    use super::*;

    fn config(segments: u64) -> Config {
        let every = live::Encryption::every(NonZeroU64::new(segments).unwrap());
        Config {
            live: live::Config { encryption: Some(every), ..live::Config::default() },
            ..Config::default()
        }
    }

    fn decrypt(key: &[u8], msn: u64, sealed: &[u8]) -> Option<Vec<u8>> {
        let key: [u8; 16] = key.try_into().expect("16 bytes");
        let mut buffer = sealed.to_vec();
        let vector = u128::from(msn).to_be_bytes();
        let cipher = cbc::Decryptor::<Aes128>::new(&key.into(), &vector.into());
        cipher.decrypt_padded::<Pkcs7>(&mut buffer).ok().map(<[u8]>::to_vec)
    }

    /// What a rendition's segments are once they are decrypted, and the keys that they need.
    async fn opened(scene: &Scene, name: &str) -> (Vec<Vec<u8>>, Vec<String>) {
        let playlist = scene.media(name).await;
        let (mut media, mut keys) = (Vec::new(), Vec::new());
        for (msn, segment) in playlist.numbered() {
            let (method, uri) = segment.key.clone().expect("a key");
            assert_eq!(method, "AES-128");
            let key = scene.get(&uri).await;
            assert_eq!(
                (key.status, key.body.len(), key.header("cache-control")),
                (200, 16, "private, no-store")
            );
            let sealed = scene.get(&segment.uri).await;
            assert_eq!((sealed.status, sealed.body.len() % 16), (200, 0));
            media.push(decrypt(&key.body, msn, &sealed.body).expect("the right key"));
            let mut wrong = key.body.to_vec();
            wrong[0] ^= 1;
            assert_ne!(decrypt(&wrong, msn, &sealed.body), media.last().cloned(), "a key of another");
            keys.push(uri);
        }
        (media, keys)
    }

    #[tokio::test(start_paused = true)]
    async fn segments_are_encrypted_with_keys_that_change() {
        let mut scene = Scene::new(config(2)).await;
        let mut checker = Checker::new();
        for until in [7_500, 11_500, 15_500] {
            scene.publish_until(until).await;
            assert_eq!(scene.get("index.m3u8?container=ts").await.status, 200);
            for name in ["video0.m3u8", "audio1.m3u8", "video0_ts.m3u8"] {
                checker.check(name, scene.get(name).await.text());
            }
        }
        checker.assert_clean();
        for (name, begins) in
            [("video0.m3u8", &b"prft"[..]), ("audio1.m3u8", b"prft"), ("video0_ts.m3u8", b"")]
        {
            let (media, keys) = opened(&scene, name).await;
            assert!(media.len() >= 5, "{name}: {}", media.len());
            assert!(
                media
                    .iter()
                    .all(|one| one[4..].starts_with(begins) && (!begins.is_empty() || one[0] == 0x47))
            );
            let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
            assert_eq!(distinct.len(), media.len().div_ceil(2), "two segments each: {keys:?}");
        }
        let text = scene.get("video0.m3u8").await;
        assert!(
            !text.text().contains("EXT-X-PART") && text.text().contains("EXT-X-VERSION:6"),
            "{}",
            text.text()
        );
        let playlist = scene.media("video0.m3u8").await;
        let map = scene.get(&playlist.segments[0].map.clone().unwrap()).await;
        assert!(map.body[4..].starts_with(b"ftyp"), "in the clear");
        // There is no way around the encryption.
        let part = playlist.segments[0].uri.replace("_seg0", "_part0");
        let next = playlist.segments[0].uri.replace("_seg0", &format!("_seg{}", playlist.segments.len()));
        for nothing in ["manifest.mpd", &part, &next] {
            assert_eq!(scene.get(nothing).await.status, 404, "{nothing}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_stand_behind_the_uris_of_keys_too() {
        let mut scene = Scene::new(config(2)).await;
        scene.publish_until(7_500).await;
        let playlist = scene.media("video0.m3u8?token=a.b").await;
        let (_, uri) = playlist.segments[0].key.clone().expect("a key");
        assert!(uri.ends_with(".key?token=a.b"), "{uri}");
    }
}
