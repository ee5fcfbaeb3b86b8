//! Certificates and keys in PEM files, as both sides of the proxy need them.
//!
//! An error is a sentence with the file's name, for the operator; a key is never in it.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

/// The cryptography of this program: one for all connections.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// # Errors
/// The file cannot be read, or has no certificate.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |e: rustls::pki_types::pem::Error| format!("{}: {}", path.display(), words(&e));
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if certificates.is_empty() {
        return Err(format!("{}: no certificate in the file", path.display()));
    }
    Ok(certificates)
}

/// A chain and the key to its first certificate.
///
/// # Errors
/// One of the files cannot be read, or the key is of another certificate.
pub fn read_identity(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String> {
    let chain = read_certificates(certificate)?;
    let der = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{}: {}", key.display(), words(&e)))?;
    let signer = provider()
        .key_provider
        .load_private_key(der)
        .map_err(|_| format!("{}: the private key is of a kind that cannot be used", key.display()))?;
    let identity = CertifiedKey::new(chain, signer);
    // Any other error says only that the certificate is of an old version: the peer decides whether it will do.
    if let Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = identity.keys_match() {
        return Err(format!(
            "{}: the private key is not that of the certificate in {}",
            key.display(),
            certificate.display()
        ));
    }
    Ok(Arc::new(identity))
}

/// Those who may sign: every certificate of a file.
///
/// # Errors
/// The file cannot be read, or nobody in it can be trusted.
pub fn read_roots(path: &Path) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), String> {
    let certificates = read_certificates(path)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    Ok((Arc::new(roots), certificates))
}

fn words(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error::*;
    match error {
        Io(e) => format!("cannot be read: {e}"),
        NoItemsFound => "nothing in PEM form was found in the file".into(),
        _ => "not PEM".into(),
    }
}
