//! Session descriptions as the RFCs, FFmpeg, GStreamer and cameras write them.

use arcly_codec::{aac, opus};
use arcly_core::codec::{AvcConfig, PcmConfig};
use arcly_core::{CodecConfig, CodecId, Timescale, Track, TrackId, TrackSet};
use arcly_rtp::payload::{AuSizes, Encoding};
use arcly_rtp::sdp::{
    Attribute, Format, MAX_ATTRIBUTES, MAX_BYTES, MAX_MEDIA, MediaDescription, SdpError, SessionDescription,
    describe, formats,
};
use bytes::Bytes;
use proptest::prelude::*;

fn parse(text: &str) -> SessionDescription {
    text.parse().expect("a description")
}

fn formats_of(text: &str) -> Vec<Format> {
    Format::offered(&parse(text).media[0]).expect("formats")
}

/// RFC 8866 §5, the example at its front.
const EXAMPLE: &str = "v=0\r\no=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\ns=Call to John Smith\r\n\
    i=SDP Offer #1\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\nm=audio 49180 RTP/AVP 0\r\n\
    m=video 51372 RTP/AVP 99\r\nc=IN IP6 2001:db8::2\r\na=rtpmap:99 H263-1998/90000\r\n";

#[test]
fn rfc8866_5_example() {
    let session = parse(EXAMPLE);
    assert_eq!(session.to_string(), EXAMPLE);
    assert_eq!((session.media.len(), session.media[2].port), (3, 51_372));
    assert_eq!(session.address(&session.media[0]), Some("198.51.100.1".parse().unwrap()));
    assert_eq!(session.address(&session.media[2]), Some("2001:db8::2".parse().unwrap()));
    assert_eq!(Format::offered(&session.media[2]), Ok(vec![]), "H.263 is not understood");
    let format = &Format::offered(&session.media[0]).unwrap()[0];
    assert_eq!((format.payload_type, &format.encoding), (0, &Encoding::Pcmu), "a static type without rtpmap");
}

#[test]
fn cameras_and_their_ways() {
    let sloppy = "\n\nv=0\no=- 1 1 IN IP4 0.0.0.0\nno field\ns=\nm=video 0/2 RTP/AVP 96\na = x\na=rtpmap: 96  h264/90000 \n\
        a=fmtp:96 Packetization-Mode=1;sprop-parameter-sets=Z0IAHpWoKA9k,aM48gA==; ;profile-level-id=42001E\n\
        b=AS:5000\nt=0 0\na=control:trackID=1\nm=application 0 RTP/AVP 107\na=rtpmap:107 vnd.onvif.metadata/90000\n\
        m=audio 0 RTP/AVP\n\0";
    let session = parse(sloppy);
    assert_eq!(session.media.len(), 3);
    assert_eq!(session.media[0].attribute("control"), Some("trackID=1"));
    assert_eq!(session.media[0].bandwidths, ["AS:5000"]);
    let format = &formats_of(sloppy)[0];
    assert_eq!((format.encoding.clone(), format.clock), (Encoding::H264, Timescale::MPEG));
    assert_eq!(format.parameter_sets[..4], [0, 0, 0, 9]);
    assert_eq!(format.parameter_sets.len(), 4 + 9 + 4 + 4);
    assert_eq!(session.media[0].parameter(96, "packetization-mode"), Some("1"));
    // An address with a time to live, and none.
    let media = MediaDescription::default();
    assert_eq!(parse("c=IN IP4 224.2.1.1/127/3\n").address(&media), Some("224.2.1.1".parse().unwrap()));
    assert_eq!(parse("c=IN IP4 camera.local\n").address(&media), None);
}

#[test]
fn t16_t18_bounds() {
    let media = |count: usize| "m=video 0 RTP/AVP 96\r\n".repeat(count);
    assert_eq!(parse(&media(MAX_MEDIA)).media.len(), MAX_MEDIA);
    let limit = |what, limit| Err(SdpError::LimitExceeded { what, limit });
    assert_eq!(media(MAX_MEDIA + 1).parse::<SessionDescription>(), limit("sdp_media", MAX_MEDIA));
    assert_eq!(media(1_001).parse::<SessionDescription>(), limit("sdp_media", MAX_MEDIA));
    let attributes =
        |count: usize| format!("{}{}", media(1), format!("a={}\n", "x".repeat(100)).repeat(count));
    assert_eq!(parse(&attributes(MAX_ATTRIBUTES)).media[0].attributes.len(), MAX_ATTRIBUTES);
    assert_eq!(
        attributes(MAX_ATTRIBUTES + 1).parse::<SessionDescription>(),
        limit("sdp_attributes", MAX_ATTRIBUTES)
    );
    assert_eq!(" ".repeat(MAX_BYTES + 1).parse::<SessionDescription>(), limit("sdp_bytes", MAX_BYTES));
}

#[test]
fn t20_t21_wrong_payload_types_and_parameters() {
    let data = parse("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\n");
    assert_eq!(Format::offered(&data.media[0]), Ok(vec![]), "no RTP");
    for wrong in ["128", "255", "300", "-1", "x"] {
        let session = parse(&format!("m=video 0 RTP/AVP {wrong}\na=rtpmap:{wrong} H264/90000\n"));
        assert_eq!(Format::offered(&session.media[0]), Err(SdpError::PayloadType), "{wrong}");
    }
    for text in
        ["m=video\n", "m=video 0\n", "m=video 70000 RTP/AVP 96\n", "m=video x RTP/AVP 96\n", "m=\n", "v=1\n"]
    {
        assert!(
            matches!(text.parse::<SessionDescription>(), Err(SdpError::Malformed { line: 1, .. })),
            "{text}"
        );
    }
    let format = &formats_of(
        "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 sprop-parameter-sets=!!!!,AAAA,,=\n",
    )[0];
    assert_eq!(format.parameter_sets, Bytes::new(), "passed over");
    // AAC cannot be understood without its configuration.
    for config in ["", "; config=", "; config=zz", "; config=1"] {
        let text = format!(
            "m=audio 0 RTP/AVP 96\na=rtpmap:96 MPEG4-GENERIC/48000/2\na=fmtp:96 mode=AAC-hbr{config}\n"
        );
        assert_eq!(formats_of(&text), [], "{config}");
    }
    assert_eq!(formats_of("m=audio 0 RTP/AVP 97\na=rtpmap:97 L16/0/2\n"), []);
}

#[test]
fn formats_as_ffmpeg_and_gstreamer_write_them() {
    let ffmpeg = "m=audio 5004 RTP/AVP 97\nb=AS:128\na=rtpmap:97 MPEG4-GENERIC/44100/2\n\
        a=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=121056E500\n";
    let format = &formats_of(ffmpeg)[0];
    let CodecConfig::Aac(config) = &format.config else { panic!("AAC") };
    assert_eq!((config.sample_rate, config.channels, config.object_type), (44_100, 2, 2));
    assert_eq!(
        (format.encoding.clone(), format.samples_per_frame()),
        (Encoding::Mpeg4Generic(AuSizes::HBR), 1_024)
    );
    let latm = "m=audio 5004 RTP/AVP 97\na=rtpmap:97 MP4A-LATM/48000/2\n\
        a=fmtp:97 profile-level-id=2;cpresent=0;config=400023203fc0\n";
    let format = &formats_of(latm)[0];
    let CodecConfig::Aac(config) = &format.config else { panic!("AAC") };
    assert_eq!((config.sample_rate, config.channels), (48_000, 2));
    assert!(matches!(format.encoding, Encoding::Latm(Some(_))));
    // GStreamer 1.22, of sound that FFmpeg has encoded: as it is in files, and nothing behind it.
    let latm =
        "m=audio 0 RTP/AVP 96\na=rtpmap:96 MP4A-LATM/48000\na=fmtp:96 cpresent=0;config=40002320adca00\n";
    let CodecConfig::Aac(config) = &formats_of(latm)[0].config else { panic!("AAC") };
    assert_eq!((config.sample_rate, config.channels, config.sbr_sample_rate), (48_000, 2, None));
    assert_eq!(config.raw[..], [0x11, 0x90, 0x56, 0xE5, 0]);
    let opus = "m=audio 5004 RTP/AVP 96\na=rtpmap:96 OPUS/48000\na=fmtp:96 sprop-stereo=0;sprop-maxcapturerate=48000\n";
    assert!(matches!(&formats_of(opus)[0].config, CodecConfig::Opus(config) if config.channels == 1));
    let g722 = "m=audio 5004 RTP/AVP 9\n";
    let format = &formats_of(g722)[0];
    assert_eq!((format.clock.get(), format.codec()), (8_000, Some(CodecId::G722)));
    let several = "m=video 9 UDP/TLS/RTP/SAVPF 96 97 45\na=rtpmap:96 VP8/90000\na=rtpmap:97 rtx/90000\na=rtpmap:45 AV1/90000\n";
    let found: Vec<_> = formats_of(several).iter().map(|format| format.payload_type).collect();
    assert_eq!(found, [96, 45]);
}

fn tracks() -> TrackSet {
    let sets = |set: &'static [u8]| [Bytes::from_static(set)].into_iter().collect();
    let avc = AvcConfig {
        profile: 0x64,
        level: 0x1F,
        sps: sets(&[0x67, 0x64, 0, 0x1F, 1]),
        pps: sets(&[0x68, 2]),
        ..AvcConfig::default()
    };
    let aac = aac::decode_config(&Bytes::from_static(&[0x11, 0x90])).expect("LC");
    let aac_params = aac::audio_params(&aac);
    let pcm =
        |sample_rate, channels| CodecConfig::Pcm(PcmConfig { sample_rate, channels, bits_per_sample: 8 });
    let id = |n| TrackId::new(n).expect("small");
    TrackSet::new([
        Track::new(id(0), CodecId::H264, CodecConfig::Avc(avc)),
        Track::new(id(1), CodecId::Aac, CodecConfig::Aac(aac)).with_audio(aac_params),
        Track::new(id(2), CodecId::Amf, CodecConfig::None),
        Track::new(id(3), CodecId::Opus, CodecConfig::Opus(opus::default_config(1))),
        Track::new(id(4), CodecId::Pcma, pcm(8_000, 1)),
        Track::new(id(5), CodecId::Pcmu, pcm(16_000, 2)),
        Track::new(id(6), CodecId::Klv, CodecConfig::None),
    ])
}

#[test]
fn what_is_written_is_read_back() {
    let tracks = tracks();
    let written = formats(&tracks);
    let types: Vec<_> = written.iter().map(|(id, format)| (id.index(), format.payload_type)).collect();
    assert_eq!(types, [(0, 96), (1, 97), (3, 98), (4, 8), (5, 100), (6, 101)], "AMF has no format");
    for (id, format) in &written {
        let media = describe(tracks.get(*id).unwrap(), format);
        let text = SessionDescription { media: vec![media], ..SessionDescription::default() }.to_string();
        let read = &formats_of(&text)[0];
        assert_eq!(
            (read.payload_type, &read.encoding, read.clock),
            (format.payload_type, &format.encoding, format.clock)
        );
        assert_eq!(read.parameter_sets, format.parameter_sets, "{text}");
        if !matches!(format.config, CodecConfig::Avc(_)) {
            assert_eq!(read.config, format.config, "{text}");
        }
    }
    let media = describe(tracks.get(TrackId::VIDEO).unwrap(), &written[0].1);
    assert_eq!(
        media.attribute("fmtp"),
        Some("96 packetization-mode=1; profile-level-id=64001F; sprop-parameter-sets=Z2QAHwE=,aAI=")
    );
    assert_eq!(media.attribute("rtpmap"), Some("96 H264/90000"));
}

#[test]
fn nothing_that_is_written_breaks_a_line() {
    let session = SessionDescription {
        name: "a\r\na=injected".into(),
        attributes: vec![Attribute::new("x\n", "y\r\nm=video 0 RTP/AVP 96"), Attribute::flag("z")],
        ..SessionDescription::default()
    };
    let read = parse(&session.to_string());
    assert_eq!((read.media.len(), read.attributes.len(), read.name.as_str()), (0, 2, "aa=injected"));
}

proptest! {
    #[test]
    fn anything_is_read_without_panic_and_written_back(text in "([a-z]=[ -~]{0,30}\r?\n|m=video 0 RTP/AVP 96\n|a=(rtpmap|fmtp):96 [ -~]{0,40}\n){0,20}") {
        if let Ok(session) = text.parse::<SessionDescription>() {
            session.media.iter().for_each(|media| _ = Format::offered(media));
            let again: SessionDescription = session.to_string().parse().unwrap();
            prop_assert_eq!(again.media.len(), session.media.len());
        }
    }
}
