//! A client and a server, wired together through a network that cuts bytes anywhere.

use proptest::prelude::*;

use super::*;

struct Pair {
    now: Instant,
    server: ServerSession,
    client: ClientSession,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    server_events: Vec<ServerEvent>,
    client_events: Vec<ClientEvent>,
    cuts: std::iter::Cycle<std::vec::IntoIter<usize>>,
    accept: bool,
}

impl Pair {
    fn new(intent: Intent, cuts: Vec<usize>) -> Self {
        let now = Instant::now();
        let config = Arc::new(SessionConfig::default());
        let url = "rtmp://joe:secret@h/live/cam?token=x".parse().unwrap();
        Self {
            now,
            server: ServerSession::new(Arc::clone(&config), entropy(11), now),
            client: ClientSession::new(config, url, intent, &entropy(12), now),
            to_server: Vec::new(),
            to_client: Vec::new(),
            server_events: Vec::new(),
            client_events: Vec::new(),
            cuts: cuts.into_iter().cycle(),
            accept: true,
        }
    }

    /// Runs until nothing moves any more.
    fn run(&mut self) {
        loop {
            self.drain_server();
            self.drain_client();
            if self.to_server.is_empty() && self.to_client.is_empty() {
                return;
            }
            let cut = self.cuts.next().unwrap();
            let piece: Vec<u8> = self.to_server.drain(..cut.min(self.to_server.len())).collect();
            self.server.handle_input(self.now, &piece).unwrap();
            let piece: Vec<u8> = self.to_client.drain(..cut.min(self.to_client.len())).collect();
            if let Err(error) = self.client.handle_input(self.now, &piece) {
                assert!(matches!(error, SessionError::Rejected(_) | SessionError::Ended), "{error:?}");
            }
        }
    }

    fn drain_server(&mut self) {
        loop {
            self.server.check_invariants();
            match self.server.poll_output() {
                Output::Transmit(bytes) => self.to_client.extend_from_slice(&bytes),
                Output::Event(event) => {
                    match &event {
                        ServerEvent::PublishRequest { stream, .. } if self.accept => {
                            self.server.accept_publish(self.now, *stream);
                        }
                        ServerEvent::PlayRequest { stream, .. } if self.accept => {
                            self.server.accept_play(self.now, *stream);
                        }
                        ServerEvent::PublishRequest { stream, .. }
                        | ServerEvent::PlayRequest { stream, .. } => {
                            self.server.reject(*stream, CloseReason::NotFound, "live/cam: no such stream");
                        }
                        _ => {}
                    }
                    self.server_events.push(event);
                }
                Output::Wait(_) => return,
            }
        }
    }

    fn drain_client(&mut self) {
        loop {
            self.client.check_invariants();
            match self.client.poll_output() {
                Output::Transmit(bytes) => self.to_server.extend_from_slice(&bytes),
                Output::Event(event) => self.client_events.push(event),
                Output::Wait(_) => return,
            }
        }
    }
}

fn media(kind: MessageType, timestamp: u32, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let header = MessageHeader { csid: ChunkStreamId::VIDEO, timestamp, kind, stream_id: 1 };
    encode_message(&mut out, &header, &[body], crate::config::CHUNK_SIZE as usize);
    out
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), Just(vec![usize::MAX]), prop::collection::vec(1_usize..4_000, 1..20),]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn publish_and_finish(cuts in cuts(), body in prop::collection::vec(any::<u8>(), 3..20_000)) {
        let mut pair = Pair::new(Intent::Publish, cuts);
        pair.run();
        let started = matches!(pair.client_events[..], [ClientEvent::Connected(_), ClientEvent::Started { stream_id: 1 }]);
        prop_assert!(started);
        let [ServerEvent::PublishRequest { target, stream }] = &pair.server_events[..] else { panic!() };
        prop_assert_eq!((target.key.as_str(), target.query.as_deref()), ("live/cam", Some("token=x")));
        prop_assert_eq!(target.user.clone(), Some(("joe".into(), "secret".into())));
        let stream = *stream;

        pair.to_server.extend_from_slice(&media(MessageType::Video, 40, &body));
        pair.run();
        let expect = Tag { kind: TrackKind::Video, timestamp: 40, payload: body.into() };
        prop_assert_eq!(pair.server_events.pop(), Some(ServerEvent::Tag { stream, tag: expect }));

        pair.client.finish(CloseReason::PeerClosed);
        pair.run();
        prop_assert_eq!(pair.server_events.pop(), Some(ServerEvent::Stopped { stream }));
    }

    #[test]
    fn play_to_the_end(cuts in cuts(), body in prop::collection::vec(any::<u8>(), 3..20_000)) {
        let mut pair = Pair::new(Intent::Play, cuts);
        pair.run();
        prop_assert!(pair.client.is_active());
        prop_assert!(pair.client.server().accepts(arcly_core::FourCc(*b"hvc1")));
        pair.to_client.extend_from_slice(&media(MessageType::Video, u32::MAX, &body));
        pair.run();
        let video = pair.client_events.iter().filter_map(|event| match event {
            ClientEvent::Tag(tag) if tag.kind == TrackKind::Video => Some(tag.clone()),
            _ => None,
        });
        let expect = Tag { kind: TrackKind::Video, timestamp: u32::MAX, payload: body.into() };
        prop_assert_eq!(video.collect::<Vec<_>>(), vec![expect]);

        let stream = pair.server_events[0].stream();
        pair.server.end_play(stream, CloseReason::PeerClosed);
        pair.run();
        prop_assert_eq!(pair.client.closed(), Some(CloseReason::PeerClosed));
    }

    #[test]
    fn a_refusal_reaches_the_client_in_the_servers_words(cuts in cuts(), play in any::<bool>()) {
        let mut pair = Pair::new(if play { Intent::Play } else { Intent::Publish }, cuts);
        pair.accept = false;
        pair.run();
        prop_assert_eq!(pair.client.closed(), Some(CloseReason::Forbidden));
        prop_assert_eq!(pair.server.closed(), Some(CloseReason::NotFound));
    }

    /// Whatever a client says after the handshake, in whatever order, the server answers or ends; it never panics,
    /// and its invariants hold after every step.
    #[test]
    fn any_sequence_of_messages(
        steps in prop::collection::vec((0_u8..24, 0_u32..4, prop::collection::vec(any::<u8>(), 0..40)), 0..60)
    ) {
        let mut bench = Bench::connected();
        for (step, stream, noise) in steps {
            if bench.error.is_some() {
                break;
            }
            let name = ["cam", "", "../x", "cam?token=x"][stream as usize];
            match step {
                0 => bench.request(0, Request::CreateStream),
                1 => bench.request(stream, PUBLISH(name)),
                2 => bench.request(stream, PLAY(name)),
                3 => bench.request(stream, Request::CloseStream),
                4 => bench.request(0, Request::DeleteStream(stream)),
                5 => bench.request(stream, Request::Pause { pause: stream % 2 == 0, ms: 0.0 }),
                6 => bench.request(stream, Request::FcUnpublish(name.into())),
                7 => bench.message(MessageType::Video, stream, &noise),
                8 => bench.message(MessageType::DataAmf0, stream, &noise),
                9 => bench.message(MessageType::Aggregate, stream, &noise),
                10 => bench.message(MessageType::UserControl, 0, &noise),
                11 => bench.message(MessageType::CommandAmf0, stream, &noise),
                12 => bench.pass(secs(f64::from(stream) * 3.0)),
                13 => bench.request(stream, Request::ReceiveVideo(false)),
                14 => bench.request(stream, Request::Seek(1.0)),
                15..20 => {
                    let request = bench.events.iter().rev().find(|event| event.stream().get() == stream);
                    match request.map(ServerEvent::stream) {
                        Some(stream) if step == 15 => bench.server.accept_publish(bench.now, stream),
                        Some(stream) if step == 16 => bench.server.accept_play(bench.now, stream),
                        Some(stream) if step == 17 => bench.server.reject(stream, CloseReason::Forbidden, "no"),
                        Some(stream) if step == 18 => bench.server.end_play(stream, CloseReason::PeerClosed),
                        Some(stream) => bench.server.hold(bench.now, stream),
                        None => {}
                    }
                    bench.drain();
                    &mut bench
                }
                kind => bench.message(MessageType::from_id(kind - 19), stream, &noise),
            };
            if bench.server.closed().is_some() {
                break;
            }
        }
    }

    #[test]
    fn arbitrary_bytes(input in prop::collection::vec(any::<u8>(), 0..5_000), handshaken in any::<bool>()) {
        let mut bench = if handshaken { Bench::handshaken() } else { Bench::new() };
        for piece in input.chunks(97) {
            if bench.error.is_none() {
                bench.send(piece);
            }
        }
    }
}
