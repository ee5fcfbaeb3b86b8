//! TLS towards clients: pgherd's certificate, and whose certificates it takes.

use std::sync::Arc;

use pgherd_config::{ClientTls, SslMode};
use pgherd_wire::{identity, tls};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, ServerConnection};

/// Makes the TLS sessions with clients.
pub struct Acceptor {
    pub mode: SslMode,
    config: Arc<ServerConfig>,
    /// What a client can bind its proof to.
    pub end_point: Option<Vec<u8>>,
}

impl Acceptor {
    /// # Errors
    /// A file that cannot be used, by its name.
    pub fn new(settings: &ClientTls) -> Result<Self, String> {
        let own = identity::read_identity(&settings.certificate, &settings.private_key)?;
        let end_point = own.cert.first().and_then(tls::end_point);
        let builder = ServerConfig::builder_with_provider(identity::provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let builder = match &settings.client_ca {
            Some(path) => {
                let (roots, _) = identity::read_roots(path)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, identity::provider());
                // Which clients must have one is the business of their authentication method, too.
                let verifier = match settings.mode {
                    SslMode::VerifyCa | SslMode::VerifyFull => verifier,
                    _ => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|e| format!("{}: {e}", path.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        config.alpn_protocols = vec![tls::ALPN.to_vec()];
        // As PostgreSQL: no session is resumed, so nothing is kept for it.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { mode: settings.mode, config: Arc::new(config), end_point })
    }

    pub fn session(&self) -> Option<ServerConnection> {
        ServerConnection::new(self.config.clone()).ok()
    }
}
