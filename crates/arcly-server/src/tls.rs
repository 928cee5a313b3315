//! TLS of every listener, with one certificate, and of this server as a client.

use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::certificate::Certificate;
use crate::config::{ConfigError, TlsConfig};

/// TLS of HTTPS, and of RTMPS and RTSPS: the same certificate, different application protocols.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// HTTP/2 and HTTP/1.1.
    pub https: Arc<ServerConfig>,
    /// No application protocol.
    pub plain: Arc<ServerConfig>,
    /// What all show.
    pub certificate: Arc<Certificate>,
}

impl Tls {
    /// TLS with the configured certificate; `None` when there is none.
    ///
    /// # Errors
    /// The certificate cannot be used.
    pub(crate) fn from_config(config: &TlsConfig) -> Result<Option<Self>, ConfigError> {
        let Some(certificate) = Certificate::load(config)? else { return Ok(None) };
        let mut https = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::new(format!("tls: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as _);
        let plain = Arc::new(https.clone());
        https.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(Self { https: Arc::new(https), plain, certificate }))
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
