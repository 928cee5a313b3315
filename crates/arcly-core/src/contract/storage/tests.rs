use super::*;

fn name(text: &str) -> StorageName {
    StorageName::parse(text).expect("a good name")
}

async fn storage() -> (tempfile::TempDir, FsStorage) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = FsStorage::open(dir.path().join("root")).await.expect("a directory");
    (dir, storage)
}

async fn put(storage: &FsStorage, text: &str, content: &'static str) -> Result<u64, StorageError> {
    let mut object = storage.create(&name(text)).await?;
    object.append(content.into()).await?;
    object.finish().await
}

async fn names(storage: &FsStorage, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(name);
    let entries = storage.list(prefix.as_ref()).await.expect("a listing");
    entries.iter().map(|entry| entry.name.to_string()).collect()
}

#[test]
fn r26_hostile_names() {
    let deep = vec!["a"; 256].join("/");
    let long = "a".repeat(513);
    let segment = "a".repeat(241);
    for text in [
        "",
        "/",
        "/etc/x",
        "..",
        ".",
        "../../../tmp/pwn",
        "a/../b",
        "a/./b",
        "a//b",
        "a/",
        "a\\..\\b",
        "%2e%2e/x",
        "a\0b",
        "a\r\nb",
        "a\u{202E}b",
        "~/x y",
        "C:x",
        ".hidden",
        "a/.hidden",
        "a.part",
        "a.part/b",
        "$(id)",
        &deep,
        &long,
        &segment,
    ] {
        let error = StorageName::parse(text).expect_err(text);
        assert_eq!(error.reason(), CloseReason::Forbidden, "{text:?}");
    }
    let longest = "a".repeat(240);
    for text in ["a", "live/cam/2026-11-22_10~1.mp4", &longest, "a..b", "part", "~a"] {
        assert!(StorageName::parse(text).is_ok(), "{text}");
    }
    let key = StreamKey::new("live", "site/cam");
    assert_eq!(
        StorageName::of_stream(&key, "1.mp4").map(|n| n.to_string()).ok().as_deref(),
        Some("live/site/cam/1.mp4")
    );
    assert!(StorageName::of_stream(&key, "../1.mp4").is_err());
}

#[tokio::test]
async fn an_object_appears_whole_when_it_is_finished() {
    let (_dir, storage) = storage().await;
    let cam = name("live/cam/1.ts");
    let mut object = storage.create(&cam).await.expect("created");
    object.append("0123".into()).await.expect("written");
    object.append("456789".into()).await.expect("written");
    assert_eq!(object.written(), 10);
    assert!(matches!(storage.stat(&cam).await, Err(StorageError::NotFound(_))));
    assert!(names(&storage, None).await.is_empty());
    assert!(matches!(storage.create(&cam).await.map(drop), Err(StorageError::Exists(_))));
    assert_eq!(object.finish().await.expect("finished"), 10);
    assert_eq!(storage.stat(&cam).await.expect("there").size, 10);
    assert!(matches!(storage.create(&cam).await.map(drop), Err(StorageError::Exists(_))));

    for (range, expect) in [
        (0..10, "0123456789"),
        (3..5, "34"),
        (8..100, "89"),
        (10..20, ""),
        (u64::MAX - 1..u64::MAX, ""),
        (5..5, ""),
    ] {
        let read = storage.read(&cam, range.clone()).await;
        match read {
            Ok(bytes) => assert_eq!(bytes, expect, "{range:?}"),
            Err(StorageError::Io(_)) => {
                assert!(range.start > i64::MAX as u64, "{range:?}: beyond what a file can be")
            }
            Err(error) => panic!("{range:?}: {error}"),
        }
    }
    let too_much = storage.read(&cam, 0..MAX_READ + 1).await;
    assert!(matches!(too_much, Err(StorageError::Limit { what: "read", .. })));
}

#[tokio::test]
async fn list_rename_and_delete() {
    let (dir, storage) = storage().await;
    for text in ["live/b/1.ts", "live/a/2.ts", "live/a/1.ts", "vod/x"] {
        put(&storage, text, "x").await.expect(text);
    }
    std::fs::write(dir.path().join("root/live/a/not a storage name"), "x").expect("written");
    assert_eq!(names(&storage, None).await, ["live/a/1.ts", "live/a/2.ts", "live/b/1.ts", "vod/x"]);
    assert_eq!(names(&storage, Some("live/a")).await, ["live/a/1.ts", "live/a/2.ts"]);
    assert!(names(&storage, Some("live/none")).await.is_empty());
    assert!(names(&storage, Some("vod/x")).await.is_empty(), "an object has nothing below it");

    let taken = storage.rename(&name("vod/x"), &name("live/a/1.ts")).await;
    assert!(matches!(taken, Err(StorageError::Exists(_))));
    storage.rename(&name("vod/x"), &name("new/place/x")).await.expect("renamed");
    assert!(matches!(storage.rename(&name("vod/x"), &name("y")).await, Err(StorageError::NotFound(_))));
    storage.delete(&name("live/a/1.ts")).await.expect("deleted");
    assert!(matches!(storage.delete(&name("live/a/1.ts")).await, Err(StorageError::NotFound(_))));
    assert!(
        matches!(storage.delete(&name("live/a")).await, Err(StorageError::NotFound(_))),
        "a directory is no object"
    );
    assert_eq!(names(&storage, None).await, ["live/a/2.ts", "live/b/1.ts", "new/place/x"]);
}

#[tokio::test]
async fn f42_an_object_that_was_not_finished_is_kept_and_not_overwritten() {
    let (dir, storage) = storage().await;
    let mut object = storage.create(&name("cam.ts")).await.expect("created");
    object.append("media".into()).await.expect("written");
    drop(object);
    assert_eq!(std::fs::read(dir.path().join("root/cam.ts.part")).expect("kept"), b"media");
    assert!(matches!(storage.create(&name("cam.ts")).await.map(drop), Err(StorageError::Exists(_))));
    put(&storage, "cam-2.ts", "x").await.expect("another name");
}

#[tokio::test]
async fn finishing_does_not_replace_what_took_the_name_meanwhile() {
    let (dir, storage) = storage().await;
    let object = storage.create(&name("cam.ts")).await.expect("created");
    std::fs::write(dir.path().join("root/cam.ts"), "other").expect("written");
    assert!(matches!(object.finish().await, Err(StorageError::Exists(_))));
    assert_eq!(storage.read(&name("cam.ts"), 0..10).await.expect("there"), "other");
}

#[cfg(unix)]
#[tokio::test]
async fn h24_no_link_leads_out_of_the_root() {
    use std::os::unix::fs::symlink;
    let (dir, storage) = storage().await;
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    std::fs::create_dir_all(outside.join("sub")).expect("a directory");
    std::fs::write(outside.join("secret"), "secret").expect("written");
    symlink(&outside, root.join("link")).expect("a link");
    symlink(outside.join("secret"), root.join("file")).expect("a link");
    symlink(outside.join("new"), root.join("dangling")).expect("a link");
    symlink(outside.join("new"), root.join("fresh.part")).expect("a link");
    put(&storage, "good", "x").await.expect("an object");

    for text in ["link/secret", "link/sub/x", "file", "link/new"] {
        for (what, result) in [
            ("read", storage.read(&name(text), 0..10).await.map(drop)),
            ("stat", storage.stat(&name(text)).await.map(drop)),
            ("delete", storage.delete(&name(text)).await),
            ("rename from", storage.rename(&name(text), &name("stolen")).await),
        ] {
            assert!(matches!(result, Err(StorageError::Escapes(_))), "{what} {text}: {result:?}");
        }
    }
    for text in ["link/x", "link/sub/deep/x"] {
        assert!(matches!(put(&storage, text, "x").await, Err(StorageError::Escapes(_))), "{text}");
        assert!(
            matches!(storage.rename(&name("good"), &name(text)).await, Err(StorageError::Escapes(_))),
            "{text}"
        );
    }
    for text in ["file", "dangling", "fresh"] {
        assert!(matches!(put(&storage, text, "x").await, Err(StorageError::Exists(_))), "{text}");
    }
    assert_eq!(names(&storage, None).await, ["good"]);
    assert!(names(&storage, Some("link")).await.is_empty());
    assert!(matches!(storage.list(Some(&name("link/sub"))).await, Err(StorageError::Escapes(_))));

    assert_eq!(std::fs::read(outside.join("secret")).expect("untouched"), b"secret");
    let mut left: Vec<_> =
        std::fs::read_dir(&outside).expect("there").map(|e| e.expect("an entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["secret", "sub"], "nothing was created outside");
    assert_eq!(std::fs::read_dir(outside.join("sub")).expect("there").count(), 0);
}
