//! One certificate for every TLS listener.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{ConfigError, TlsConfig};

/// TLS of HTTPS and of RTMPS: the same certificate, different application protocols.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// HTTP/2 and HTTP/1.1.
    pub https: Arc<ServerConfig>,
    /// No application protocol.
    pub rtmps: Arc<ServerConfig>,
}

impl Tls {
    /// Loads the configured certificate; `None` when there is none.
    ///
    /// # Errors
    /// A file cannot be read, holds no certificate or key, or the two do not belong together.
    pub(crate) fn from_config(config: &TlsConfig) -> Result<Option<Self>, ConfigError> {
        let (Some(cert), Some(key)) = (&config.cert, &config.key) else { return Ok(None) };
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong("cert", cert, &error))?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("key", key, &error))?;
        let mut https = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
            .map_err(|error| wrong("cert", cert, &error))?;
        let rtmps = Arc::new(https.clone());
        https.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(Self { https: Arc::new(https), rtmps }))
    }
}

/// TLS as a client, trusting what the system trusts; made once.
///
/// # Errors
/// The system trusts nobody.
pub(crate) fn client() -> Result<Arc<ClientConfig>, String> {
    static CLIENT: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    CLIENT.get_or_init(load_client).clone()
}

fn load_client() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no trusted certificates; install ca-certificates".into());
    }
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
        .map_err(|error| error.to_string())
}

fn wrong(name: &str, path: &Path, error: &dyn core::fmt::Display) -> ConfigError {
    ConfigError::new(format!("tls.{name}: {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates() {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let cert = write("cert.pem", made.cert.pem());
        let load = |cert, key| Tls::from_config(&TlsConfig { cert, key }).map(|tls| tls.is_some());
        assert!(!load(None, None).unwrap());
        assert!(load(cert.clone(), write("key.pem", made.signing_key.serialize_pem())).unwrap());
        let error = load(cert.clone(), write("other.pem", other.signing_key.serialize_pem())).unwrap_err();
        assert!(error.to_string().contains("tls.cert"), "{error}");
        let error = load(cert, Some("/nonexistent".into())).unwrap_err();
        assert!(
            error.to_string().contains("tls.key") && error.to_string().contains("/nonexistent"),
            "{error}"
        );
    }
}
