//! The certificate of every TLS listener, and its replacement while they run.
//!
//! Whoever renews certificates writes two files, in some order and not at once. What is read is taken only when it is
//! good as a whole: a chain and a key that belong together, not expired. Until then the old one stays. Sessions keep
//! the certificate they began with.
//!
//! | what happens to the files | what happens here |
//! |---|---|
//! | replaced | noticed within [`INTERVAL`], or at once with SIGHUP |
//! | half-written, of two different certificates, gone, expired | one warning for each change, and a count; the old one stays |

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::{ConfigError, TlsConfig};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// A certificate, out of two files that may change.
#[derive(Debug)]
pub(crate) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<Loaded>,
    /// The files as they were when they were last read, whatever came of it.
    tried: Mutex<[Option<Mark>; 2]>,
    rejected: AtomicU64,
}

/// What the files hold.
#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    /// Seconds since 1970 at the end of the leaf's validity.
    expires: i64,
}

/// What changes about a file when its content does: device, number, size, and both times in seconds and nanoseconds.
type Mark = [i128; 7];

fn mark(path: &Path) -> Option<Mark> {
    let of = |meta: Metadata| {
        [
            meta.dev().into(),
            meta.ino().into(),
            meta.size().into(),
            meta.mtime().into(),
            meta.mtime_nsec().into(),
            meta.ctime().into(),
            meta.ctime_nsec().into(),
        ]
    };
    std::fs::metadata(path).ok().map(of)
}

impl Certificate {
    /// Loads the configured certificate; `None` when there is none. One that has expired is used, with a warning.
    ///
    /// # Errors
    /// A file cannot be read, holds no certificate or key, or the two do not belong together.
    pub(crate) fn load(config: &TlsConfig) -> Result<Option<Arc<Self>>, ConfigError> {
        let (Some(cert), Some(key)) = (&config.cert, &config.key) else { return Ok(None) };
        let tried = Mutex::new([mark(cert), mark(key)]);
        let loaded = Loaded::read(cert, key)?;
        if loaded.is_expired() {
            tracing::warn!(file = %cert.display(), "the TLS certificate has expired");
        }
        Ok(Some(Arc::new(Self {
            cert: cert.clone(),
            key: key.clone(),
            current: ArcSwap::from_pointee(loaded),
            tried,
            rejected: AtomicU64::new(0),
        })))
    }

    /// Looks at the files until the server goes down.
    pub(crate) async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let this = Arc::clone(&self);
            // Files may be on a disk that is slow, or not there. A look that panics is a look less.
            let _ = tokio::task::spawn_blocking(move || this.refresh(false)).await;
        }
    }

    /// Reads the files if they have changed since they were read last, or in any case when `anyway`. True when there is
    /// a new certificate.
    pub(crate) fn refresh(&self, anyway: bool) -> bool {
        let marks = [mark(&self.cert), mark(&self.key)];
        let mut tried = self.tried.lock();
        if *tried == marks && !anyway {
            return false;
        }
        *tried = marks;
        let read = Loaded::read(&self.cert, &self.key).and_then(Loaded::unexpired(&self.cert));
        match read {
            Ok(loaded) if loaded.key.cert == self.current.load().key.cert => false,
            Ok(loaded) => {
                tracing::info!(file = %self.cert.display(), expires = loaded.expires, "new TLS certificate");
                self.current.store(Arc::new(loaded));
                true
            }
            Err(error) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "the TLS certificate in use stays");
                false
            }
        }
    }

    /// Seconds since 1970 when the certificate in use expires.
    pub(crate) fn expires(&self) -> i64 {
        self.current.load().expires
    }

    /// How often the files held nothing that could be used.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}

impl Loaded {
    fn read(cert: &Path, key: &Path) -> Result<Self, ConfigError> {
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong("cert", cert, &error))?;
        let leaf = chain.first().ok_or_else(|| wrong("cert", cert, &"there is no certificate in it"))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| wrong("cert", cert, &error))?;
        let expires = parsed.validity().not_after.timestamp();
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("key", key, &error))?;
        let certified = CertifiedKey::from_der(chain, secret, &aws_lc_rs::default_provider())
            .map_err(|error| wrong("cert", cert, &error))?;
        Ok(Self { key: Arc::new(certified), expires })
    }

    fn is_expired(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.expires < i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
    }

    /// Refuses one that has expired.
    fn unexpired(cert: &Path) -> impl FnOnce(Self) -> Result<Self, ConfigError> {
        |loaded| if loaded.is_expired() { Err(wrong("cert", cert, &"it has expired")) } else { Ok(loaded) }
    }
}

fn wrong(name: &str, path: &Path, error: &dyn core::fmt::Display) -> ConfigError {
    ConfigError::new(format!("tls.{name}: {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, CertifiedKey as Made, KeyPair, date_time_ymd, generate_simple_self_signed,
    };
    use tempfile::TempDir;

    use super::*;

    struct Files(TempDir);

    impl Files {
        fn config(&self) -> TlsConfig {
            let path = |name| Some(self.0.path().join(name));
            TlsConfig { cert: path("cert.pem"), key: path("key.pem") }
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            // By another file that takes its place, as whoever is careful does it.
            std::fs::write(self.0.path().join("new"), text).unwrap();
            std::fs::rename(self.0.path().join("new"), self.0.path().join(name)).unwrap();
        }

        fn put(&self, made: &Made<KeyPair>) {
            self.write("cert.pem", made.cert.pem());
            self.write("key.pem", made.signing_key.serialize_pem());
        }
    }

    fn made() -> Made<KeyPair> {
        generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    fn until(year: i32) -> Made<KeyPair> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let signing_key = KeyPair::generate().unwrap();
        Made { cert: params.self_signed(&signing_key).unwrap(), signing_key }
    }

    #[test]
    fn what_is_configured_must_be_good() {
        let files = Files(tempfile::tempdir().unwrap());
        let load = |config: &TlsConfig| Certificate::load(config).map(|loaded| loaded.is_some());
        assert!(!load(&TlsConfig::default()).unwrap());
        files.put(&until(2_038));
        assert_eq!(Certificate::load(&files.config()).unwrap().unwrap().expires(), 2_145_916_800);
        files.write("key.pem", made().signing_key.serialize_pem());
        let error = load(&files.config()).unwrap_err().to_string();
        assert!(error.contains("tls.cert"), "{error}");
        let error = load(&TlsConfig { key: Some("/nonexistent".into()), ..files.config() }).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("tls.key") && error.contains("/nonexistent"), "{error}");
        files.put(&until(2_001));
        assert!(load(&files.config()).unwrap(), "to have one that has expired beats to have none");
    }

    #[test]
    fn f58_only_what_is_good_as_a_whole_replaces_the_old_one() {
        let files = Files(tempfile::tempdir().unwrap());
        let (old, new) = (made(), made());
        files.put(&old);
        let certificate = Certificate::load(&files.config()).unwrap().unwrap();
        let serves = |made: &Made<KeyPair>| certificate.current.load().key.cert == [made.cert.der().clone()];
        assert!(!certificate.refresh(false) && !certificate.refresh(true) && serves(&old), "nothing is new");

        let pem = new.cert.pem();
        let bad: [(&str, &[u8]); 4] = [
            ("half of it", &pem.as_bytes()[..pem.len() / 2]),
            ("empty", b""),
            ("rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ("of another key", pem.as_bytes()),
        ];
        for (count, (what, bytes)) in bad.into_iter().enumerate() {
            files.write("cert.pem", bytes);
            assert!(!certificate.refresh(false) && serves(&old), "{what}");
            assert!(!certificate.refresh(false), "it is looked at once");
            assert_eq!(certificate.rejected(), count as u64 + 1, "{what}");
        }
        std::fs::remove_file(files.0.path().join("cert.pem")).unwrap();
        assert!(!certificate.refresh(false) && serves(&old), "gone");
        files.put(&until(2_001));
        assert!(!certificate.refresh(false) && serves(&old), "expired");

        files.put(&new);
        assert!(certificate.refresh(false) && serves(&new));
        assert_eq!(certificate.rejected(), 6);
    }

    #[tokio::test]
    async fn f58_files_that_change_are_noticed() {
        let files = Files(tempfile::tempdir().unwrap());
        files.put(&made());
        let certificate = Certificate::load(&files.config()).unwrap().unwrap();
        let shutdown = CancellationToken::new();
        let watching = tokio::spawn(Arc::clone(&certificate).watch(shutdown.clone()));
        files.put(&until(2_038));
        let replaced = async {
            while certificate.expires() != 2_145_916_800 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), replaced).await.expect("within five seconds");
        shutdown.cancel();
        watching.await.unwrap();
    }
}
