use std::collections::BTreeMap;

use arcly_testkit::process::Arcly;
use serde_json::Value;

use crate::client::{arcly, exchange, get, send_json, start, start_demo, wait_until};

fn fetch(arcly: &Arcly, path: &str) -> Value {
    let answer = get(arcly.addr("http"), path, "GET", "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert_eq!(answer.header("access-control-allow-origin"), None, "the API sends no CORS headers");
    answer.json()
}

#[test]
fn info_streams_and_readers() {
    let arcly = start_demo();
    let http = arcly.addr("http");
    let info = fetch(&arcly, "/api/v1/info");
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["listeners"][0]["protocol"], "rtmp");
    assert_eq!(info["listeners"][1]["addr"], http.to_string());
    assert!(info["uptime_seconds"].is_u64());

    let list = fetch(&arcly, "/api/v1/streams");
    let stream = &list["items"][0];
    assert_eq!((&stream["path"], &stream["state"]), (&"live/demo".into(), &"live".into()));
    assert_eq!(stream["publisher"]["protocol"], "demo");
    wait_until("the bitrate is known", || {
        fetch(&arcly, "/api/v1/streams/live/demo")["bitrate_bps"].as_u64().is_some_and(|bps| bps > 50_000)
    });
    let one = fetch(&arcly, "/api/v1/streams/live/demo");
    assert_eq!(one["tracks"][0]["codec_string"], "avc1.64001f");
    assert_eq!(one["tracks"][1]["codec_string"], "mp4a.40.2");

    let mut reader = std::net::TcpStream::connect(http).unwrap();
    std::io::Write::write_all(
        &mut reader,
        format!("GET /live/demo.flv HTTP/1.1\r\nHost: {http}\r\n\r\n").as_bytes(),
    )
    .unwrap();
    wait_until("the reader is listed", || {
        fetch(&arcly, "/api/v1/readers")["items"].as_array().unwrap().len() == 1
    });
    let listed = fetch(&arcly, "/api/v1/readers")["items"][0].clone();
    assert_eq!((&listed["path"], &listed["protocol"]), (&"live/demo".into(), &"http-flv".into()));
    assert_eq!(listed["remote"], reader.local_addr().unwrap().to_string());
    let id = listed["id"].as_u64().unwrap();
    assert_eq!(fetch(&arcly, &format!("/api/v1/readers/{id}"))["id"], id);
    assert_eq!(get(http, &format!("/api/v1/readers/{id}"), "DELETE", "").status, 204);
    wait_until("the reader is gone", || {
        fetch(&arcly, "/api/v1/readers")["items"].as_array().unwrap().is_empty()
    });
    assert_eq!(get(http, &format!("/api/v1/readers/{id}"), "DELETE", "").status, 404);
}

#[test]
fn deleting_a_stream_disconnects_its_publisher() {
    let arcly = start_demo();
    let http = arcly.addr("http");
    assert_eq!(get(http, "/api/v1/streams/live/none", "DELETE", "").status, 404);
    assert_eq!(get(http, "/api/v1/streams/live/demo", "DELETE", "").status, 204);
    assert!(arcly.wait_for_log("publisher left", crate::client::PATIENCE), "{}", arcly.log());
}

#[test]
fn errors_are_problems_that_say_what_to_do() {
    let arcly = start(&[]);
    let http = arcly.addr("http");
    let cases = [
        (get(http, "/api/v1/nothing", "GET", ""), 404, "openapi.json"),
        (get(http, "/api/v1/info", "DELETE", ""), 405, "openapi.json"),
        (get(http, "/api/v1/streams/live/none", "GET", ""), 404, "live/none"),
        (get(http, "/api/v1/streams/live//none", "GET", ""), 404, "name"),
        (get(http, "/api/v1/relays/7", "DELETE", ""), 404, "/api/v1/relays"),
        (send_json(http, "/api/v1/relays", "POST", "{"), 400, "from"),
        (
            send_json(http, "/api/v1/relays", "POST", r#"{"from":"file:///etc/passwd","to":"live/a"}"#),
            400,
            "file:",
        ),
        (send_json(http, "/api/v1/relays", "POST", r#"{"from":"live/a","to":"live/a"}"#), 400, "itself"),
        (send_json(http, "/api/v1/relays", "POST", r#"{"from":"live/a","to":"live/b","x":1}"#), 400, "`x`"),
        (get(http, "/live/none.flv", "GET", ""), 404, "live/none"),
        (get(http, "/live/none.ts", "GET", ""), 404, "live/none"),
        (get(http, "/live/none", "POST", "Content-Length: 0\r\n"), 405, ".flv"),
    ];
    for (answer, status, word) in cases {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.head);
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().contains(word), "{word:?} is not in {problem}");
    }
}

/// H12, H13, H14, H28.
#[test]
fn pages_of_other_origins_get_nothing_from_the_api() {
    let arcly = start(&[]);
    let http = arcly.addr("http");
    let body = r#"{"from":"rtmp://127.0.0.1:1/live/a","to":"live/a"}"#;
    let post = |fields: &str| {
        let length = body.len();
        exchange(http, format!(
            "POST /api/v1/relays HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        ).as_bytes())
    };
    assert_eq!(post("Content-Type: text/plain\r\n").status, 415);
    assert_eq!(post("").status, 415);
    assert_eq!(post("Content-Type: application/json\r\nOrigin: https://evil.example\r\n").status, 403);
    assert_eq!(get(http, "/api/v1/streams", "GET", "Origin: https://evil.example\r\n").status, 403);
    let rebound = format!(
        "GET /api/v1/info HTTP/1.1\r\nHost: evil.example:{}\r\nConnection: close\r\n\r\n",
        http.port()
    );
    assert_eq!(exchange(http, rebound.as_bytes()).status, 403);
    let preflight = get(
        http,
        "/api/v1/relays",
        "OPTIONS",
        "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n",
    );
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (403, None));
    let spoofed = get(http, "/api/v1/info", "GET", "X-Forwarded-For: 10.0.0.1\r\n");
    assert_eq!(spoofed.status, 200, "nobody's word is taken for the peer's address");
}

const AUTH: &str = "
[[auth.users]]
name = 'admin'
password = 'correct horse'
actions = ['publish', 'play', 'api']
[[auth.users]]
name = 'viewer'
password = 'battery staple'
actions = ['play']
";

fn start_with(config: &str, command: &str) -> (Arcly, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("arcly.toml");
    std::fs::write(&file, config).unwrap();
    let args = [command, "-c", file.to_str().unwrap(), "--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    (Arcly::start(&mut arcly(&args)), dir)
}

#[test]
fn configured_credentials_are_needed_everywhere() {
    let (arcly, _dir) = start_with(AUTH, "demo");
    let http = arcly.addr("http");
    // admin:correct horse, viewer:battery staple
    let admin = "Authorization: Basic YWRtaW46Y29ycmVjdCBob3JzZQ==\r\n";
    let viewer = "Authorization: Basic dmlld2VyOmJhdHRlcnkgc3RhcGxl\r\n";
    let status = |path, fields| get(http, path, "GET", fields).status;
    assert_eq!((status("/api/v1/info", ""), status("/metrics", "")), (401, 401));
    assert_eq!((status("/api/v1/info", viewer), status("/api/v1/info", admin)), (403, 200));
    wait_until("live/demo is live", || get(http, "/live/demo.flv", "HEAD", viewer).status == 200);
    let refused = get(http, "/live/demo.flv", "GET", "");
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (401, Some("unauthorized")));
    assert!(refused.header("www-authenticate").is_some_and(|value| value.starts_with("Basic")));
    let in_query = get(http, "/live/demo.flv?user=viewer&pass=battery", "HEAD", "");
    assert_eq!(in_query.status, 401);
    let list = get(http, "/", "GET", "Accept: application/json\r\n").json();
    assert_eq!(
        list["items"].as_array().unwrap().len(),
        0,
        "what needs credentials is not shown to strangers"
    );
    assert_eq!((status("/healthz", ""), status("/readyz", "")), (200, 200));
    // H18
    assert!(!arcly.log().contains("battery") && !arcly.log().contains("YWRtaW46"), "{}", arcly.log());
}

#[test]
fn metrics_in_both_formats() {
    let arcly = start_demo();
    let http = arcly.addr("http");
    let closed = "arcly_sessions_closed_total{protocol=\"http\",reason=\"peer_closed\"} ";
    wait_until("a connection was counted", || get(http, "/metrics", "GET", "").text().contains(closed));
    let text = get(http, "/metrics", "GET", "");
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = text.text();
    for line in [
        "arcly_build_info{version=\"",
        "arcly_streams{state=\"live\"} 1",
        "arcly_sessions{protocol=\"demo\",role=\"publish\"} 1",
        "# TYPE arcly_ingest_bytes_total counter",
        "arcly_panics_total 0",
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let open = get(http, "/metrics", "GET", "Accept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(open.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    assert!(open.text().ends_with("# EOF\n"));
}

/// `docs/metrics.md` has what is served, and nothing else: names, types and labels.
#[test]
fn every_metric_is_in_the_documentation() {
    let arcly = start_demo();
    let served = get(arcly.addr("http"), "/metrics", "GET", "").text();
    let types = served.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: BTreeMap<&str, &str> = types.collect();
    let page = include_str!("../../../../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
    let (mut documented, mut labels) = (BTreeMap::new(), BTreeMap::new());
    for row in &rows {
        let name = row[1].trim_matches('`');
        if !row[4].contains("With a certificate only") {
            documented.insert(name, row[2]);
        }
        let names = row[3].split(", `").filter(|label| !label.contains(':') || label.contains("`:"));
        let label =
            |label: &str| label.split('`').find(|part| !part.is_empty()).unwrap_or_default().to_owned();
        labels.insert(name, names.map(label).collect::<Vec<_>>());
    }
    assert_eq!(types, documented, "what is served, and what docs/metrics.md says");
    for line in served.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once('{') else { continue };
        for label in rest.split('"').step_by(2).map(|text| text.trim_matches([',', '=', '}', ' '])) {
            let known = label.parse::<f64>().is_ok() || labels[name].iter().any(|known| known == label);
            assert!(known, "{line}: {:?} are documented", labels[name]);
        }
    }
}

/// Asserts that `value` has what `schema` requires, and nothing that it does not name.
fn check_schema(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{at}: {name}"));
        return check_schema(document, target, value, at);
    }
    if let Some(choices) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        let fitting = choices.iter().find(|choice| (choice["type"] == "null") == value.is_null());
        return check_schema(document, fitting.unwrap_or(&choices[0]), value, at);
    }
    if let Some(values) = schema["enum"].as_array() {
        assert!(values.contains(value), "{at}: {value} is none of {values:?}");
    }
    assert!(is_of_type(schema, value), "{at}: {value} is not of {schema}");
    if let (Some(properties), Some(object)) = (schema["properties"].as_object(), value.as_object()) {
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(object.contains_key(key), "{at}: `{key}` is required and not there");
        }
        for (key, inner) in object {
            let schema = properties.get(key).unwrap_or_else(|| panic!("{at}.{key} is not documented"));
            check_schema(document, schema, inner, &format!("{at}.{key}"));
        }
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        check_schema(document, &schema["items"], item, &format!("{at}[{n}]"));
    }
}

fn is_of_type(schema: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    };
    match &schema["type"] {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        // A reference, or anything.
        _ => true,
    }
}

#[test]
fn what_is_served_is_what_the_openapi_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_string_lossy().into_owned();
    let arcly = start(&["demo", "--data-dir", &data]);
    let http = arcly.addr("http");
    wait_until("live/demo is live", || get(http, "/live/demo.flv", "HEAD", "").status == 200);
    let clip = r#"{"path":"live/demo","pre_roll":"1s","duration":"1s"}"#;
    assert_eq!(send_json(http, "/api/v1/recordings", "POST", clip).status, 202);
    wait_until("the clip is there", || {
        !fetch(&arcly, "/api/v1/recordings")["items"].as_array().unwrap().is_empty()
    });
    let relay = r#"{"from":"rtmp://127.0.0.1:1/live/a","to":"live/a"}"#;
    assert_eq!(send_json(http, "/api/v1/relays", "POST", relay).status, 201);
    // A reader of the stream, for as long as it is not dropped.
    let mut reader = std::net::TcpStream::connect(http).unwrap();
    std::io::Write::write_all(&mut reader, b"GET /live/demo.flv HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        .unwrap();
    wait_until("it is listed", || {
        fetch(&arcly, "/api/v1/readers")["items"].as_array().is_some_and(|items| !items.is_empty())
    });
    let first = |list: &str| fetch(&arcly, list)["items"][0]["id"].to_string();
    let (reader_id, relay_id) = (first("/api/v1/readers"), first("/api/v1/relays"));
    let document = fetch(&arcly, "/api/v1/openapi.json");
    let mut checked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let schema = &methods["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let id = if path.contains("relays") { &relay_id } else { &reader_id };
        let path = path.replace("{path}", "live/demo").replace("{id}", id);
        let value = fetch(&arcly, &path);
        if let Some(items) = value["items"].as_array() {
            assert!(!items.is_empty(), "{path} shows nothing");
        }
        check_schema(&document, schema, &value, &path);
        checked += 1;
    }
    assert!(checked >= 9, "{checked} resources");
    let problem = get(http, "/api/v1/streams/live/none", "GET", "").json();
    check_schema(&document, &document["components"]["schemas"]["Problem"], &problem, "problem");
}

#[test]
fn the_openapi_document_has_every_route() {
    let arcly = start(&[]);
    let document = fetch(&arcly, "/api/v1/openapi.json");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let http = arcly.addr("http");
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{path}", "live/none").replace("{id}", "999");
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let answer = match method.as_str() {
                "post" => send_json(http, &path, "POST", "{}"),
                _ => get(http, &path, &method.to_uppercase(), ""),
            };
            assert!(answer.status < 500 && answer.status != 405, "{method} {path}: {}", answer.status);
            let unknown =
                answer.text().contains("no such resource") || answer.text().contains("nothing of that name");
            assert!(!unknown, "{method} {path} is documented and not there");
        }
    }
    let documented = document["paths"].as_object().unwrap();
    for route in [
        "/api/v1/info",
        "/api/v1/streams",
        "/api/v1/streams/{path}",
        "/api/v1/readers",
        "/api/v1/readers/{id}",
        "/api/v1/recordings",
        "/api/v1/recordings/{path}",
        "/{path}/recordings",
        "/{path}/whip",
        "/{path}/whip/{id}",
        "/{path}/whep",
        "/{path}/whep/{id}",
        "/api/v1/relays",
        "/api/v1/relays/{id}",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert!(documented.contains_key(route), "{route} is not documented");
    }
}

#[test]
fn relays_start_report_and_stop() {
    let arcly = start(&[]);
    let http = arcly.addr("http");
    let started = send_json(
        http,
        "/api/v1/relays",
        "POST",
        r#"{"from":"rtmp://user:hunter2@127.0.0.1:1/live/a?token=abc","to":"live/a"}"#,
    );
    assert_eq!(started.status, 201, "{}", started.text());
    let id = started.json()["id"].as_u64().unwrap();
    assert_eq!(started.header("location"), Some(format!("/api/v1/relays/{id}").as_str()));
    wait_until("it says what is wrong", || {
        fetch(&arcly, "/api/v1/relays")["items"][0]["last_error"].is_string()
    });
    let listed = fetch(&arcly, "/api/v1/relays");
    assert_eq!(listed["items"][0]["from"], "rtmp://127.0.0.1:1/live/a");
    assert!(
        !listed.to_string().contains("hunter2")
            && !arcly.log().contains("hunter2")
            && !arcly.log().contains("abc")
    );
    assert_eq!(get(http, &format!("/api/v1/relays/{id}"), "DELETE", "").status, 204);
    assert_eq!(fetch(&arcly, "/api/v1/relays")["items"].as_array().unwrap().len(), 0);
}

/// H01, H03, H15.
#[test]
fn only_names_are_names() {
    let arcly = start(&[]);
    let http = arcly.addr("http");
    let paths = [
        "/../../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/..%2fetc/passwd",
        "/..%5cetc",
        "/live/a%00",
        "//etc/passwd",
        "/a/../../../etc/passwd",
        "/%252e%252e/etc",
        "/%c0%ae%c0%ae/etc",
        "//evil.example/x",
        "/live//a",
        "/live/./a",
        "/live/a/",
        "/live%2Fa",
    ];
    let mut bodies = std::collections::BTreeSet::new();
    for path in paths {
        for path in [path.to_owned(), format!("{path}.flv")] {
            let answer = get(http, &path, "GET", "");
            assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
            assert_eq!(answer.header("location"), None, "{path}");
            bodies.insert(answer.text());
        }
    }
    assert_eq!(bodies.len(), 1, "the answers differ: {bodies:?}");
    for path in ["/api/v1/streams/live%2Fa", "/api/v1/streams/live//a", "/api/v1/streams/live/a/"] {
        assert_eq!(get(http, path, "GET", "").status, 404, "{path}");
    }
}
