//! RTSP where it meets the rest of the server: the way down, those who are shown out, and streams that are waited for.

use std::net::SocketAddr;

use arcly_testkit::http::{get, request};
use serde_json::Value;

use super::support::bench::{Bench, lock};
use super::support::eventually;
use super::support::peer::PATIENCE;
use super::support::rtsp::{Camera, Rtsp};
use super::{rounds, secs};

const TCP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
const GOODBYE: u8 = 203;

fn bench(config: &str) -> (Bench, SocketAddr) {
    let bench = Bench::start_alone(&["--rtsp", "127.0.0.1:0"], config);
    let rtsp = bench.addr("rtsp");
    (bench, rtsp)
}

/// A camera with a GOP there already.
fn camera(rtsp: SocketAddr, name: &str) -> Camera {
    let mut camera = Camera::publishing(rtsp, name);
    camera.pictures(40);
    camera
}

/// A player over the connection that has seen something.
#[track_caller]
fn plays(rtsp: SocketAddr, name: &str) -> Rtsp {
    let mut player = Rtsp::open(rtsp);
    let url = player.url(name);
    player.granted("DESCRIBE", &url, "Accept: application/sdp\r\n", "");
    player.granted("SETUP", &format!("{url}/trackID=0"), TCP, "");
    player.granted("PLAY", &url, "", "");
    assert!(player.wait_frames(3, PATIENCE), "{name}: nothing to see");
    player
}

/// It is asked to leave, and the connection ends.
#[track_caller]
fn shown_out(peer: &mut Rtsp) {
    let request = peer.answer().expect("a request");
    assert!(request.head.starts_with("TEARDOWN "), "{}", request.head);
    assert!(peer.wait_end(PATIENCE), "the connection stays");
}

/// The same of a player, which RTCP has told as well.
#[track_caller]
fn told(player: &mut Rtsp) {
    shown_out(player);
    let goodbye = |(channel, packet): &(u8, Vec<u8>)| *channel == 1 && packet.get(1) == Some(&GOODBYE);
    assert!(player.frames.iter().any(goodbye), "no BYE");
}

#[test]
fn f44_rtsp_says_goodbye_on_the_way_down() {
    rounds(|| {
        let (bench, rtsp) = bench("");
        let mut cameras: Vec<Camera> = (0..10).map(|n| camera(rtsp, &format!("f44-{n}"))).collect();
        let mut players: Vec<Rtsp> = (0..100).map(|n| plays(rtsp, &format!("f44-{}", n % 10))).collect();
        lock(&bench.arcly).process().signal("TERM");
        let status = lock(&bench.arcly).process().wait_for(secs(5)).expect("it ends within five seconds");
        assert!(status.success(), "{status}");
        players.iter_mut().for_each(told);
        cameras.iter_mut().for_each(|camera| shown_out(&mut camera.rtsp));
    });
}

#[test]
fn rtsp_players_and_publishers_are_shown_out_by_the_api() {
    let (bench, rtsp) = bench("");
    let mut camera = camera(rtsp, "cam");
    let (mut one, mut other) = (plays(rtsp, "cam"), plays(rtsp, "cam"));
    let api = |method: &str, path: &str| {
        request(bench.http, method, path, "", PATIENCE).expect("the API answers").status
    };
    let readers = get(bench.http, "/api/v1/readers", PATIENCE).expect("the API answers");
    let readers: Value = serde_json::from_slice(&readers.body).unwrap();
    let name = one.name().to_string();
    let reader =
        readers["items"].as_array().unwrap().iter().find(|reader| reader.to_string().contains(&name));
    let id = reader.unwrap_or_else(|| panic!("{name} is not in {readers:#}"))["id"].as_u64().unwrap();
    assert_eq!(api("DELETE", &format!("/api/v1/readers/{id}")), 204);
    shown_out(&mut one);
    let before = other.frames.len();
    camera.pictures(10);
    assert!(other.wait_frames(before + 5, PATIENCE), "the other one stays");
    assert_eq!(api("DELETE", "/api/v1/streams/live/cam"), 204);
    shown_out(&mut camera.rtsp);
}

#[test]
fn rtsp_players_wait_for_a_stream_where_the_application_does() {
    let (bench, rtsp) = bench("[apps.default]\nwait_for_stream = '20s'\n");
    let mut player = Rtsp::open(rtsp);
    let url = player.url("later");
    player.ask("DESCRIBE", &url, "Accept: application/sdp\r\n", "");
    let waits = || {
        let stream = get(bench.http, "/api/v1/streams/live/later", PATIENCE).expect("the API answers");
        serde_json::from_slice::<Value>(&stream.body).is_ok_and(|stream| stream["waiting"] == 1)
    };
    assert!(eventually(PATIENCE, waits), "it is not said to wait");
    let mut camera = camera(rtsp, "later");
    let answer = player.answer().expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
    player.granted("SETUP", &format!("{url}/trackID=0"), TCP, "");
    player.granted("PLAY", &url, "", "");
    camera.pictures(5);
    assert!(player.wait_frames(3, PATIENCE));
}
