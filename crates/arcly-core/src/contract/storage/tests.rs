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
    let entries = storage.list(prefix.as_ref(), None).await.expect("a listing");
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

/// Directories and files, hidden and unfinished ones, in the order that their paths have.
#[tokio::test]
async fn a_listing_comes_in_pages_and_in_order() {
    let (dir, storage) = storage().await;
    let root = dir.path().join("root");
    let mut expect = Vec::new();
    // `a-b` and `a.b` come before what is in `a`, and `a0` behind.
    for folder in ["a-b", "a", "a.b", "a0", "deep/er"] {
        std::fs::create_dir_all(root.join(folder)).expect("a directory");
        for n in 0..25 {
            let file = format!("{folder}/{n}.ts");
            std::fs::write(root.join(&file), "x").expect("written");
            expect.push(file);
        }
    }
    std::fs::create_dir(root.join(".hidden")).expect("a directory");
    std::fs::write(root.join(".hidden/1.ts"), "x").expect("written");
    std::fs::write(root.join("a/2.ts.part"), "x").expect("written");
    expect.sort_unstable();
    for most in [1, 7, 25, 124, 125, 126] {
        let (mut got, mut after): (Vec<String>, _) = (Vec::new(), None);
        loop {
            let page = storage.list_now(None, after.as_ref(), most).expect("a page");
            got.extend(page.iter().map(|entry| entry.name.to_string()));
            if page.len() < most {
                break;
            }
            after = page.into_iter().next_back().map(|entry| entry.name);
        }
        assert_eq!(got, expect, "in pages of {most}");
    }
    let of_a = storage.list(Some(&name("a")), Some(&name("a/3.ts"))).await.expect("a page");
    let of_a: Vec<_> = of_a.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(of_a, ["a/4.ts", "a/5.ts", "a/6.ts", "a/7.ts", "a/8.ts", "a/9.ts"]);
}

#[tokio::test]
async fn a_root_that_was_removed_is_made_again_by_who_creates() {
    let (dir, storage) = storage().await;
    put(&storage, "live/cam/1.ts", "x").await.expect("an object");
    std::fs::remove_dir_all(dir.path().join("root")).expect("removed");
    assert!(matches!(storage.stat(&name("live/cam/1.ts")).await, Err(StorageError::NotFound(_))));
    put(&storage, "live/cam/2.ts", "x").await.expect("an object");
    assert_eq!(names(&storage, None).await, ["live/cam/2.ts"]);
}

#[tokio::test]
async fn what_is_discarded_leaves_nothing() {
    let (dir, storage) = storage().await;
    let mut object = storage.create(&name("live/1.ts")).await.expect("created");
    object.append("media".into()).await.expect("written");
    object.discard().await.expect("discarded");
    assert_eq!(std::fs::read_dir(dir.path().join("root/live")).expect("there").count(), 0);
    put(&storage, "live/1.ts", "x").await.expect("the name is free");
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
    assert!(matches!(storage.list(Some(&name("link/sub")), None).await, Err(StorageError::Escapes(_))));

    assert_eq!(std::fs::read(outside.join("secret")).expect("untouched"), b"secret");
    let mut left: Vec<_> =
        std::fs::read_dir(&outside).expect("there").map(|e| e.expect("an entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["secret", "sub"], "nothing was created outside");
    assert_eq!(std::fs::read_dir(outside.join("sub")).expect("there").count(), 0);
}

/// Somebody who may write into the tree puts a link in the place of a directory again and again: what is written lands
/// in the tree, or nowhere.
#[tokio::test]
async fn h24_nobody_who_swaps_directories_leads_out_of_the_root() {
    use std::os::unix::fs::symlink;
    let (dir, storage) = storage().await;
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    std::fs::create_dir(&outside).expect("a directory");
    std::fs::write(outside.join("secret"), "secret").expect("written");
    let (live, aside, link) = (root.join("live"), root.join("aside"), root.join("link"));
    std::fs::create_dir(&live).expect("a directory");
    symlink(&outside, &link).expect("a link");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapping = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // What the storage made in a gap goes, and everything is where it was.
                if aside.exists() {
                    let _ = std::fs::remove_dir_all(&live);
                    let _ = std::fs::rename(&aside, &live);
                }
                for (from, to) in [(&live, &aside), (&link, &live), (&live, &link), (&aside, &live)] {
                    let _ = std::fs::rename(from, to);
                }
            }
        })
    };
    for n in 0..400 {
        let _ = put(&storage, &format!("live/{n}.ts"), "x").await;
        let read = storage.read(&name("live/secret"), 0..10).await;
        assert!(read.is_err(), "{read:?}");
        let _ = storage.delete(&name("live/secret")).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapping.join().expect("it does not panic");
    let left: Vec<_> =
        std::fs::read_dir(&outside).expect("there").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(left, ["secret"]);
}
