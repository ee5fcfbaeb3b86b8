//! TLS towards servers: who is trusted, and what pgherd shows of itself.
//!
//! Invariant: `require` and less trust any server, as in libpq, but even then the server must have its certificate's key.
//! With a root file, everything from `require` on wants a chain to it; `verify-full` wants the configured name as well.
//!
//! Two things that OpenSSL takes and `rustls` alone does not, because servers in the field have them: a self-signed
//! certificate that stands in the root file itself, and a name that stands only in the common name.

use std::fmt;
use std::sync::{Arc, Mutex};

use pgherd_config::{Security, SslMode};
use pgherd_wire::{identity, tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

use crate::lock;

/// Makes the TLS sessions of one server.
pub struct Connector {
    settings: Security,
    /// `None` without TLS. Replaced whole when the files are read again.
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.settings.mode).finish()
    }
}

/// By what was configured: the files are read again on their own.
impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Connector {}

impl Connector {
    /// # Errors
    /// A file that cannot be used.
    pub fn new(settings: &Security) -> Result<Arc<Self>, String> {
        let config = Mutex::new(client_config(settings)?);
        Ok(Arc::new(Self { settings: settings.clone(), config }))
    }

    /// For servers that are asked for nothing.
    pub fn plain() -> Arc<Self> {
        let settings = Security { mode: SslMode::Disable, ..Security::default() };
        Arc::new(Self { settings, config: Mutex::new(None) })
    }

    /// Reads the files again; connections from now on use them.
    ///
    /// # Errors
    /// A file that cannot be used: the ones of before stay in force.
    pub fn reload(&self) -> Result<(), String> {
        let config = client_config(&self.settings)?;
        *lock(&self.config) = config;
        Ok(())
    }

    pub fn settings(&self) -> &Security {
        &self.settings
    }

    /// A session with the server that was configured by this name.
    pub(crate) fn session(&self, host: &str) -> Result<ClientConnection, String> {
        let config = lock(&self.config).clone().ok_or("TLS is not configured")?;
        let name = match ServerName::try_from(host) {
            Ok(name) => name.to_owned(),
            Err(_) if self.settings.mode == SslMode::VerifyFull => {
                return Err(format!("{host:?} is not a name that a certificate could have"));
            }
            // Nobody will look at it.
            Err(_) => ServerName::try_from("server.invalid").map_err(|e| e.to_string())?,
        };
        ClientConnection::new(config, name).map_err(|e| e.to_string())
    }
}

fn client_config(settings: &Security) -> Result<Option<Arc<ClientConfig>>, String> {
    if settings.mode == SslMode::Disable {
        return Ok(None);
    }
    let roots = settings.root.as_deref().map(identity::read_roots).transpose()?;
    let verifier = Verifier {
        roots: roots.filter(|_| settings.mode >= SslMode::Require),
        names: settings.mode == SslMode::VerifyFull,
    };
    let builder = ClientConfig::builder_with_provider(identity::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &settings.identity {
        Some((certificate, key)) => {
            let own = identity::read_identity(certificate, key)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    // PostgreSQL resumes no session.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Some(Arc::new(config)))
}

#[derive(Debug)]
struct Verifier {
    /// `None`: whoever it is.
    roots: Option<(Arc<RootCertStore>, Vec<CertificateDer<'static>>)>,
    names: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some((roots, exact)) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        if exact.iter().any(|root| root == end_entity) {
            if !tls::is_valid_at(end_entity, now.as_secs()) {
                return Err(CertificateError::Expired.into());
            }
        } else {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            let algorithms = identity::provider().signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        }
        if self.names {
            verify_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &identity::provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &identity::provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        identity::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The name by the certificate's list of names; by its common name only where it has no such list, as in libpq.
fn verify_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    if tls::lists_names(certificate) {
        return verify_server_name(&ParsedCertificate::try_from(certificate)?, name);
    }
    let common = tls::common_name(certificate).unwrap_or_default();
    let wanted = name.to_str();
    if matches(&common, &wanted) { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
}

/// A host name, or a name whose first label is "*" and stands for one label.
fn matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(parent), Some((label, rest))) => {
            !label.is_empty() && parent.contains('.') && parent.eq_ignore_ascii_case(rest)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_the_host_or_stands_for_one_label() {
        let cases = [
            ("db.example.com", "DB.example.com", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.com", "example.com", false),
            ("*", "localhost", false),
            ("", "localhost", false),
            ("10.0.0.1", "10.0.0.1", true),
        ];
        for (pattern, host, expected) in cases {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }
}
