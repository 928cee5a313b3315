use super::super::{Span, TakeoverConfig};
use super::*;

fn load(file: &str, env: &[(&str, &str)], flags: &Overrides) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("arcly.toml");
    std::fs::write(&path, file).unwrap();
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::load(Some(&path), env, flags).map_err(|e| e.to_string())
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = "[rtmp]\nlisten = ':1'\n";
    let env = [("ARCLY_RTMP__LISTEN", ":2")];
    let flags = Overrides { rtmp: Some(Listen::Any(3)), ..Overrides::default() };
    let port = |file, env: &[_], flags: &_| load(file, env, flags).unwrap().rtmp.listen;
    assert_eq!(port("", &[], &Overrides::default()), Listen::Any(1935));
    assert_eq!(port(file, &[], &Overrides::default()), Listen::Any(1));
    assert_eq!(port(file, &env, &Overrides::default()), Listen::Any(2));
    assert_eq!(port(file, &env, &flags), Listen::Any(3));
}

#[test]
fn what_the_command_line_switches_off_is_off_over_tls_as_well() {
    let off = |file: &str| {
        let flags = Overrides { rtsp: Some(Listen::Off), ..Overrides::default() };
        let config = load(file, &[], &flags).unwrap();
        [config.rtsp.listen, config.rtsp.tls_listen, config.http.tls_listen]
    };
    assert_eq!(off(""), [Listen::Off, Listen::Off, Listen::Any(8443)]);
    assert_eq!(off("[rtsp]\ntls_listen = ':1'\n"), [Listen::Off, Listen::Any(1), Listen::Any(8443)]);
}

#[test]
fn a_back_channel_is_named_as_streams_are() {
    let back_channel =
        |name: &str| load(&format!("[rtsp]\nback_channel = '{name}'\n"), &[], &Overrides::default());
    assert_eq!(back_channel("talk").unwrap().rtsp.back_channel.as_deref(), Some("talk"));
    for wrong in ["", "..", "/talk"] {
        assert!(back_channel(wrong).unwrap_err().to_string().contains("rtsp.back_channel"), "{wrong}");
    }
}

#[test]
fn groups_are_checked() {
    for (key, value) in [
        ("range", "'10.0.0.0/8'"),
        ("range", "'ff02::/16'"),
        ("range", "'239.192.0.1/16'"),
        ("port", "8003"),
        ("port", "80"),
        ("port", "65504"),
    ] {
        let error = load(&format!("[rtsp.multicast]\n{key} = {value}\n"), &[], &Overrides::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(&format!("rtsp.multicast.{key}")), "{error}");
    }
}

#[test]
fn variables_take_the_form_of_their_key() {
    let env = [
        ("ARCLY_RTMP__LISTEN", "1940"),
        ("ARCLY_LIMITS__STREAMS", "12"),
        ("ARCLY_HTTP__CORS_ORIGINS", "https://a.example,https://b.example"),
        ("ARCLY_APPS__LIVE__GRACE", "3s"),
        ("ARCLY_APPS__LIVE__TAKEOVER", "standby"),
        ("ARCLY_DATA_DIR", "/srv/1"),
        ("ARCLY_TLS__CERT", "1"),
        ("ARCLY_TLS__KEY", "true"),
        ("ARCLY_FFMPEG", "/usr/bin/ffmpeg"),
        ("RTMP__LISTEN", "not ours"),
    ];
    let config = load("", &env, &Overrides::default()).unwrap();
    assert_eq!(config.rtmp.listen, Listen::Any(1940));
    assert_eq!(config.limits.streams, 12);
    assert_eq!(config.http.cors_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.apps["live"].grace, Span::secs(3));
    assert_eq!(config.apps["live"].takeover, TakeoverConfig::Standby);
    assert_eq!(config.data_dir, Path::new("/srv/1"));
    assert_eq!(
        config.tls.cert.as_deref(),
        Some(Path::new("1")),
        "a path that looks like a number stays text"
    );
    assert_eq!(config.tls.key.as_deref(), Some(Path::new("true")));
}

#[test]
fn errors_name_the_key_and_the_nearest_name() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        ("[rtmp]\nlisen = ':1'", &[], &["line 2", "lisen", "did you mean `listen`?", "arcly.toml"]),
        ("[rmtp]\n", &[], &["rmtp", "did you mean `rtmp`?"]),
        ("[rtmp]\nlisten = 'nowhere'", &[], &["line 2", "nowhere", "host:port"]),
        ("[apps.live]\ntakeover = 'replase'", &[], &["replase", "did you mean `replace`?"]),
        ("[limits]\nstreams = 'x'", &[], &["line 2", "streams"]),
        ("rtmp", &[], &["line 1"]),
        ("", &[("ARCLY_RTMP__LISEN", ":1")], &["ARCLY_RTMP__LISEN", "did you mean `listen`?"]),
        ("", &[("ARCLY_LIMITS__STREAMS", "many")], &["ARCLY_LIMITS__STREAMS"]),
        ("", &[("ARCLY_DATA_DIR__X", "1")], &["ARCLY_DATA_DIR__X"]),
        ("[webrtc]\npublic_addresses = ['here']", &[], &["line 2", "IP address"]),
        ("", &[("ARCLY_WEBRTC__PUBLIC_ADDRESSES", "192.0.2.1,::")], &["webrtc.public_addresses", "`::`"]),
        ("[tls]\ncert = 'a.pem'", &[], &["tls.key"]),
        ("[egress]\ntick = '2s'", &[], &["egress.tick", "second"]),
        ("[egress]\ntick = 'often'", &[], &["line 2", "often"]),
        ("[apps.'a/b']\n", &[], &["apps.a/b"]),
        ("[[auth.users]]\nname='a'\npassword='secret'\nactions=['fly']", &[], &["auth.users", "fly"]),
        ("[[auth.keys]]\nid='k'\nsecret='changeme-changeme-changeme'", &[], &["auth.keys", "sample"]),
        ("[[relays]]\nfrom='gopher://x/y/z'\nto='live/a'", &[], &["relays", "gopher"]),
    ];
    for (file, env, words) in cases {
        let error = load(file, env, &Overrides::default()).expect_err(file);
        for word in *words {
            assert!(error.contains(word), "{file:?} {env:?}: {word:?} is not in: {error}");
        }
    }
}

#[test]
fn log_variables_beat_the_file_and_the_flag_beats_them() {
    let filter = |env: &[_], flag: Option<&str>| {
        let flags = Overrides { log: flag.map(str::to_owned), ..Overrides::default() };
        load("[log]\nfilter = 'file'", env, &flags).unwrap().log.filter
    };
    assert_eq!(filter(&[], None), "file");
    assert_eq!(filter(&[("RUST_LOG", "rust")], None), "rust");
    assert_eq!(filter(&[("RUST_LOG", "rust"), ("ARCLY_LOG", "arcly")], None), "arcly");
    assert_eq!(filter(&[("ARCLY_LOG", "arcly")], Some("flag")), "flag");
}

#[test]
fn a_printed_configuration_is_one() {
    let text = Config::default().to_toml();
    assert_eq!(Config::from_toml(&text).unwrap(), Config::default(), "{text}");
}

#[test]
fn secrets_are_not_printed() {
    let config =
        Config::from_toml("[[auth.users]]\nname='a'\npassword='hunter2!'\nactions=['play']").unwrap();
    assert!(!config.to_toml().contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_named_file_must_exist() {
    let error =
        Config::load(Some(Path::new("/nonexistent/arcly.toml")), [], &Overrides::default()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/arcly.toml"), "{error}");
}
