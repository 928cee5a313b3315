use super::*;

const GOOD: &str = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
    #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3.0,CAN-SKIP-UNTIL=12.0\n\
    #EXT-X-PART-INF:PART-TARGET=1.0\n#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n\
    #EXT-X-MAP:URI=\"init0\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T10:00:00.000Z\n#EXTINF:2.0,\nseg5\n\
    #EXT-X-PROGRAM-DATE-TIME:2026-11-22T10:00:02.000Z\n\
    #EXT-X-PART:DURATION=1.0,URI=\"part12\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=1.0,URI=\"part13\"\n#EXTINF:2.0,\nseg6\n\
    #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T10:00:09.000Z\n#EXT-X-PART:DURATION=0.9,URI=\"part14\"\n\
    #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part15\"\n";

/// The rules that a playlist breaks in which `from` became `to`, after the good one was seen.
fn broken(from: &str, to: &str) -> Vec<&'static str> {
    assert!(GOOD.contains(from), "{from}");
    let mut checker = Checker::new();
    checker.check("video", GOOD);
    checker.assert_clean();
    checker.check("video", &GOOD.replacen(from, to, 1));
    checker.violations().iter().map(|violation| violation.rule).collect()
}

#[test]
fn each_rule_is_noticed() {
    let cases: &[(&str, &str, &str)] = &[
        ("#EXTM3U", "EXTM3U", "form"),
        ("#EXT-X-TARGETDURATION:2\n", "", "form"),
        ("#EXT-X-VERSION:9", "#EXT-X-VERSION:5", "form"),
        ("#EXT-X-VERSION:9", "#EXT-X-VERSION:9\n#EXT-X-VERSION:9", "form"),
        ("#EXT-X-VERSION:9", "#EXT-X-STREAM-INF:BANDWIDTH=1", "form"),
        ("#EXT-X-PART-INF:PART-TARGET=1.0\n", "", "form"),
        ("URI=\"part12\",INDEPENDENT=YES", "URI=\"part12\",INDEPENDENT=NO", "form"),
        ("DURATION=1.0,URI=\"part13\"", "URI=\"part13\"", "form"),
        ("#EXTINF:2.0,\nseg6", "seg6", "form"),
        ("#EXT-X-DISCONTINUITY\n", "#EXT-X-PART:DURATION=1.0,URI=\"x\"\n#EXT-X-DISCONTINUITY\n", "form"),
        ("#EXTINF:2.0,\nseg5", "#EXTINF:2.5,\nseg5", "target-duration"),
        ("PART-HOLD-BACK=3.0", "PART-HOLD-BACK=1.9", "server-control"),
        ("PART-HOLD-BACK=3.0,", "", "server-control"),
        ("CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=11.9", "server-control"),
        ("#EXT-X-MAP:URI=\"init0\"\n", "", "map"),
        ("DURATION=1.0,URI=\"part13\"", "DURATION=1.1,URI=\"part13\"", "part-duration"),
        ("DURATION=1.0,URI=\"part12\",INDEPENDENT=YES", "DURATION=0.8,URI=\"part12\"", "part-duration"),
        ("PROGRAM-DATE-TIME:2026-11-22T10:00:02.000Z", "PROGRAM-DATE-TIME:2026-11-22T10:00:03.000Z", "date"),
        ("PROGRAM-DATE-TIME:2026-11-22T10:00:09.000Z", "PROGRAM-DATE-TIME:2026-11-22T09:00:09.000Z", "date"),
        ("#EXT-X-PROGRAM-DATE-TIME:2026-11-22T10:00:02.000Z\n", "", "date"),
        ("PART-TARGET=1.0", "PART-TARGET=1.1", "constant"),
        ("#EXT-X-MEDIA-SEQUENCE:5", "#EXT-X-MEDIA-SEQUENCE:4", "sequence"),
        (
            "#EXT-X-PART:DURATION=0.9,URI=\"part14\"\n",
            "#EXT-X-PART:DURATION=0.9,URI=\"part99\"\n",
            "unchanged",
        ),
        ("seg5", "seg0", "unchanged"),
        ("#EXT-X-DISCONTINUITY\n", "", "unchanged"),
        ("#EXT-X-DISCONTINUITY-SEQUENCE:1", "#EXT-X-DISCONTINUITY-SEQUENCE:2", "discontinuity-sequence"),
        ("URI=\"part15\"\n", "URI=\"part15\"\n#EXT-X-ENDLIST\n", "hint"),
        ("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part15\"\n", "", "hint"),
        ("URI=\"part14\"\n", "URI=\"part14\"\n#EXT-X-PART:DURATION=0.9,URI=\"part16\"\n", "hint"),
        (
            "URI=\"part15\"\n",
            "URI=\"part15\"\n#EXT-X-DATERANGE:START-DATE=\"2026-11-22T10:00:02.000Z\"\n",
            "date-range",
        ),
        (
            "URI=\"part15\"\n",
            "URI=\"part15\"\n#EXT-X-RENDITION-REPORT:URI=\"video\",LAST-MSN=1,LAST-PART=1\n",
            "report",
        ),
        ("#EXT-X-MEDIA-SEQUENCE:5", "#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-SKIP:SKIPPED-SEGMENTS=1", "delta"),
    ];
    for (from, to, rule) in cases {
        let found = broken(from, to);
        assert!(found.contains(rule), "{from:?} -> {to:?}: expected {rule}, found {found:?}");
    }
}

#[test]
fn what_goes_on_as_it_should_is_clean() {
    let mut checker = Checker::new();
    checker.check("video", GOOD);
    let later = GOOD.replace(
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part15\"\n",
        "#EXT-X-PART:DURATION=1.0,URI=\"part15\"\n#EXTINF:1.9,\nseg7\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part16\"\n",
    );
    checker.check("video", &later);
    let ended = later.replace("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part16\"\n", "#EXT-X-ENDLIST\n");
    checker.check("video", &ended);
    checker.assert_clean();
    checker.check("video", GOOD);
    assert!(checker.violations().iter().any(|violation| violation.rule == "end"));
}

#[test]
fn multivariant_playlists() {
    let good = "#EXTM3U\n#EXT-X-VERSION:9\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x, y\",DEFAULT=YES,AUTOSELECT=YES,URI=\"audio1.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=10,AVERAGE-BANDWIDTH=9,CODECS=\"a,b\",RESOLUTION=1x2,AUDIO=\"a\"\nvideo0.m3u8\n";
    let found = check_multivariant(good).unwrap();
    assert_eq!(found.uris(), ["audio1.m3u8", "video0.m3u8"]);
    for (from, to) in [
        ("BANDWIDTH=10,", ""),
        ("AVERAGE-BANDWIDTH=9", "AVERAGE-BANDWIDTH=11"),
        ("AUDIO=\"a\"", "AUDIO=\"b\""),
        ("NAME=\"x, y\",", ""),
        ("AUTOSELECT=YES", "AUTOSELECT=NO"),
        ("1x2", "1"),
        ("video0.m3u8\n", ""),
        ("#EXT-X-VERSION:9", "#EXT-X-TARGETDURATION:2"),
    ] {
        assert!(check_multivariant(&good.replacen(from, to, 1)).is_err(), "{from}");
    }
}
