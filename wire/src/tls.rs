//! TLS over a TCP socket, with the same readiness as the socket itself.
//!
//! Why not an `AsyncRead` around another: a session asks whether a read would give something before it lends a
//! block, takes "written" as "on its way", and carries a connection from one thread's runtime to another's.
//!
//! Invariants: [`Tls::poll_write`] reports bytes as written only when nothing of them is left in here, so that nobody
//! has to remember to flush; until then it is called again with the same bytes in front. Bytes that came in the
//! clear are never taken for the peer's words.
//!
//! Not here: which certificates are good enough (who builds the `rustls` configuration decides).

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Connection;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};

/// ALPN's name of the protocol. Required where TLS begins without a request for it.
pub const ALPN: &[u8] = b"postgresql";

/// One read of the socket: a whole record of the largest size.
const READ_BYTES: usize = 17 * 1024;

/// Plaintext encrypted at a time: what a peer that does not read makes us keep.
const WRITE_BYTES: usize = 64 * 1024;

thread_local! {
    /// Ciphertext lives here only between a read and its decryption, so one buffer serves all connections of a thread.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

pub struct Tls {
    /// `None` only between [`Self::detach`] and [`Self::attach`].
    socket: Option<TcpStream>,
    session: Connection,
    /// Plaintext bytes ready to be read.
    unread: usize,
    /// Ciphertext that did not fit into the last reader's buffer.
    rest: Vec<u8>,
    /// The caller's bytes that are encrypted and not all sent; not reported as written yet.
    owed: usize,
    eof: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// The socket as `rustls` wants it.
struct Blocking<'a, 'c, 'w> {
    socket: &'a mut TcpStream,
    cx: &'c mut Context<'w>,
}

impl Write for Blocking<'_, '_, '_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write(self.cx, data) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write_vectored(self.cx, slices) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    /// Shakes hands. `received`: what the peer has sent of the handshake already.
    ///
    /// # Errors
    /// The peer was told by an alert, where TLS has one for it.
    ///
    /// # Cancel safety
    /// Not safe: the connection is lost.
    pub async fn handshake(
        socket: TcpStream,
        mut session: Connection,
        received: &[u8],
    ) -> io::Result<Box<Self>> {
        session.set_buffer_limit(None);
        let rest = received.to_vec();
        let mut tls = Box::new(Self { socket: Some(socket), session, unread: 0, rest, owed: 0, eof: false });
        std::future::poll_fn(|cx| tls.poll_handshake(cx)).await?;
        Ok(tls)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.eof {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Err(e) = ready!(self.poll_receive(cx)) {
                // The alert that says why.
                let _ = self.poll_send(cx);
                return Poll::Ready(Err(e));
            }
        }
    }

    /// Sends all that was encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let Some(socket) = &mut self.socket else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            match self.session.write_tls(&mut Blocking { socket, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes ciphertext in, from what is left over or from one read of the socket, until there is plaintext.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(self.decrypt(&rest));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let Some(socket) = &mut self.socket else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(socket).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // Also without close_notify: a message that was cut is seen by its length.
                self.eof = true;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(self.decrypt(read.filled()))
        })
    }

    /// Stops where there is plaintext to be read: the rest is kept, for `rustls` takes no more then.
    fn decrypt(&mut self, mut ciphertext: &[u8]) -> io::Result<()> {
        while !ciphertext.is_empty() && self.unread == 0 && !self.eof {
            if self.session.read_tls(&mut ciphertext)? == 0 {
                self.eof = true;
            }
            let state = self
                .session
                .process_new_packets()
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            self.unread = state.plaintext_bytes_to_read();
            self.eof |= state.peer_has_closed();
        }
        if !self.eof {
            self.rest.extend_from_slice(ciphertext);
        }
        Ok(())
    }

    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unread > 0 || !self.rest.is_empty() || self.eof {
            return Poll::Ready(Ok(()));
        }
        match &self.socket {
            Some(socket) => socket.poll_read_ready(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// As much as has come and fits; 0 is the end of the stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        loop {
            if self.unread > 0 {
                let n = self.session.reader().read(&mut buf[filled..])?;
                self.unread -= n;
                filled += n;
            }
            if filled == buf.len() || (self.unread == 0 && self.eof) {
                return Poll::Ready(Ok(filled));
            }
            if filled > 0 && self.rest.is_empty() {
                return Poll::Ready(Ok(filled));
            }
            match self.poll_receive(cx) {
                // Answers that TLS itself owes (a key update) go out as they can; the next write sends what is left.
                Poll::Ready(Ok(())) => {
                    if self.session.wants_write() && self.owed == 0 {
                        let _ = self.poll_send(cx)?;
                    }
                }
                Poll::Ready(Err(e)) => {
                    let _ = self.poll_send(cx);
                    return Poll::Ready(Err(e));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Encrypts and sends. `Pending`: to be called again with the same bytes in front; more may follow them.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.owed == 0 {
            self.owed = self.session.writer().write(&data[..data.len().min(WRITE_BYTES)])?;
        }
        ready!(self.poll_send(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.owed).min(data.len())))
    }

    /// Takes the socket out of its runtime: nothing can be read or written before [`Self::attach`].
    pub fn detach(&mut self) -> io::Result<std::net::TcpStream> {
        self.socket.take().ok_or(io::ErrorKind::NotConnected)?.into_std()
    }

    /// Puts the socket into the runtime of this thread.
    pub fn attach(&mut self, socket: std::net::TcpStream) -> io::Result<()> {
        self.socket = Some(TcpStream::from_std(socket)?);
        Ok(())
    }

    pub fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_ref()
    }

    /// Whether the peer agreed to speak PostgreSQL's protocol inside.
    pub fn spoke_alpn(&self) -> bool {
        self.session.alpn_protocol() == Some(ALPN)
    }

    /// The peer's own certificate.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.session.peer_certificates()?.first()
    }

    /// Version and cipher, in OpenSSL's words: what operators know from PostgreSQL and PgBouncer.
    pub fn agreed(&self) -> &'static str {
        use rustls::CipherSuite::*;
        match self.session.negotiated_cipher_suite().map(|suite| suite.suite()) {
            Some(TLS13_AES_256_GCM_SHA384) => "TLSv1.3/TLS_AES_256_GCM_SHA384",
            Some(TLS13_AES_128_GCM_SHA256) => "TLSv1.3/TLS_AES_128_GCM_SHA256",
            Some(TLS13_CHACHA20_POLY1305_SHA256) => "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256",
            Some(TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384) => "TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384",
            Some(TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) => "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256",
            Some(TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256) => "TLSv1.2/ECDHE-ECDSA-CHACHA20-POLY1305",
            Some(TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) => "TLSv1.2/ECDHE-RSA-AES256-GCM-SHA384",
            Some(TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) => "TLSv1.2/ECDHE-RSA-AES128-GCM-SHA256",
            Some(TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256) => "TLSv1.2/ECDHE-RSA-CHACHA20-POLY1305",
            _ => "TLS",
        }
    }
}

impl Drop for Tls {
    /// Says that nothing follows, if that needs no waiting: without it OpenSSL reports an error where a plain
    /// socket just ends.
    fn drop(&mut self) {
        if self.socket.is_some() && !self.session.is_handshaking() && self.owed == 0 {
            self.session.send_close_notify();
            let _ = self.poll_send(&mut Context::from_waker(std::task::Waker::noop()));
        }
    }
}

/// What channel binding is bound to: "tls-server-end-point" of RFC 5929, the certificate's hash by the hash function of
/// its own signature. `None` where that has no single one (Ed25519): then there is no binding, as in PostgreSQL.
pub fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
    let algorithm = &parsed.signature_algorithm;
    let mut hash = HASHES.iter().find(|(oid, _)| *oid == algorithm.oid).map(|(_, hash)| *hash);
    if algorithm.oid == RSASSA_PSS {
        // Its parameters begin with the hash's identifier, in two wrappings; SHA-1 where they are left out.
        let parameters = algorithm.parameters.as_ref().map(|any| any.value()).unwrap_or_default();
        hash = PSS_HASHES
            .iter()
            .find(|(oid, _)| parameters.windows(oid.len()).take(8).any(|bytes| bytes == *oid))
            .map(|(_, hash)| *hash)
            .or(parameters.is_empty().then_some(Hash::Sha256));
    }
    Some(match hash? {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// Signature algorithms. MD5 and SHA-1 are replaced by SHA-256, says the RFC.
const HASHES: &[(ObjectIdentifier, Hash)] = &[
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"), Hash::Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"), Hash::Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"), Hash::Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"), Hash::Sha384),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"), Hash::Sha512),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"), Hash::Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), Hash::Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"), Hash::Sha384),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"), Hash::Sha512),
];

/// SHA-256, SHA-384 and SHA-512 as DER writes their identifiers (2.16.840.1.101.3.4.2.x).
const PSS_HASHES: &[(&[u8], Hash)] = &[
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], Hash::Sha256),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], Hash::Sha384),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], Hash::Sha512),
];

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// The subject's common name: the last one, as OpenSSL's first from the end of the RFC 2253 form.
///
/// `None` also for a name with a zero byte: whoever reads it as a C string would be shown another one (CVE-2009-4034).
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
    let subject = &parsed.tbs_certificate.subject.0;
    let value = &subject.iter().flat_map(|rdn| rdn.0.iter()).find(|part| part.oid == COMMON_NAME)?.value;
    let name = match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok()?.as_str().to_owned(),
        Tag::PrintableString => value.decode_as::<PrintableStringRef<'_>>().ok()?.as_str().to_owned(),
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok()?.as_str().to_owned(),
        _ => return None,
    };
    (!name.contains('\0')).then_some(name)
}

/// Whether the certificate's time has come and has not passed.
pub fn is_valid_at(certificate: &CertificateDer<'_>, unix_seconds: u64) -> bool {
    x509_cert::Certificate::from_der(certificate).is_ok_and(|parsed| {
        let validity = &parsed.tbs_certificate.validity;
        let (from, to) = (
            validity.not_before.to_unix_duration().as_secs(),
            validity.not_after.to_unix_duration().as_secs(),
        );
        (from..=to).contains(&unix_seconds)
    })
}

/// Whether the certificate lists the names that it is for; if not, libpq goes by the common name.
pub fn lists_names(certificate: &CertificateDer<'_>) -> bool {
    x509_cert::Certificate::from_der(certificate).is_ok_and(|parsed| {
        parsed.tbs_certificate.extensions.iter().flatten().any(|e| e.extn_id == SUBJECT_ALT_NAME)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rcgen::{
        CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    };
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
    use tokio::net::TcpListener;

    use super::*;
    use crate::Stream;

    fn certificate(
        name: &str,
        algorithm: &'static rcgen::SignatureAlgorithm,
    ) -> (CertificateDer<'static>, KeyPair) {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate_for(algorithm).unwrap();
        (params.self_signed(&key).unwrap().der().clone(), key)
    }

    fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let (certificate, key) = certificate("server", &PKCS_ECDSA_P256_SHA256);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.serialize_der().try_into().unwrap())
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    }

    /// Two ends that have shaken hands.
    async fn pair() -> (Stream, Stream) {
        let (server, client) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connect = async {
            let socket = TcpStream::connect(address).await.unwrap();
            let session = ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
            Stream::Tcp(socket).secure(session.into(), &[]).await.unwrap()
        };
        let accept = async {
            let mut stream = Stream::Tcp(listener.accept().await.unwrap().0);
            // As if the first bytes had been read to see what they are.
            let mut first = [0; 100];
            let n = stream.read(&mut first).await.unwrap();
            let session = ServerConnection::new(server).unwrap();
            stream.secure(session.into(), &first[..n]).await.unwrap()
        };
        tokio::join!(accept, connect)
    }

    async fn read_all(stream: &mut Stream, buffer: usize) -> Vec<u8> {
        let (mut all, mut block) = (Vec::new(), vec![0; buffer]);
        loop {
            std::future::poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
            match stream.read(&mut block).await.unwrap() {
                0 => return all,
                n => all.extend_from_slice(&block[..n]),
            }
        }
    }

    #[tokio::test]
    async fn bytes_arrive_whatever_the_size_of_writes_and_reads() {
        for (write, read) in [(1, 16_384), (5_000, 7), (16_384, 16_384), (1 << 20, 1_000), (1 << 20, 1 << 20)]
        {
            let (mut server, mut client) = pair().await;
            let sent: Vec<u8> = (0..write * 3).map(|n| (n % 251) as u8).collect();
            let all = sent.clone();
            let writer = tokio::spawn(async move {
                for part in all.chunks(write) {
                    server.write_all(part).await.unwrap();
                }
            });
            // A reader that is late: the writer finds the socket full.
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(read_all(&mut client, read).await == sent, "{write} {read}");
            writer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_is_ready_when_all_was_read() {
        let (mut server, mut client) = pair().await;
        server.write_all(&[7; 100]).await.unwrap();
        let mut block = [0; 60];
        assert_eq!(client.read(&mut block).await.unwrap(), 60);
        let ready = |stream: &Stream| {
            stream.poll_read_ready(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
        };
        assert!(ready(&client), "forty bytes are left, and no event will come for them");
        assert_eq!(client.read(&mut block).await.unwrap(), 40);
        let more = tokio::time::timeout(Duration::from_millis(50), client.read(&mut block)).await;
        assert!(more.is_err() && !ready(&client));
    }

    #[tokio::test]
    async fn a_connection_goes_to_another_runtime() {
        let (mut server, mut client) = pair().await;
        server.write_all(b"before").await.unwrap();
        let mut block = [0; 3];
        client.read(&mut block).await.unwrap();
        let detached = client.detach().unwrap();
        let other = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut stream = Stream::attach(detached).unwrap();
                stream.write_all(b"from there").await.unwrap();
                read_all(&mut stream, 100).await
            })
        });
        let mut block = [0; 100];
        let n = server.read(&mut block).await.unwrap();
        assert_eq!(&block[..n], b"from there");
        server.write_all(b" and after").await.unwrap();
        drop(server);
        let heard = tokio::task::spawn_blocking(|| other.join()).await.unwrap().unwrap();
        assert_eq!(heard, b"ore and after");
    }

    #[test]
    fn a_certificate_is_read() {
        for (algorithm, bytes) in
            [(&PKCS_ECDSA_P256_SHA256, Some(32)), (&PKCS_ECDSA_P384_SHA384, Some(48)), (&PKCS_ED25519, None)]
        {
            let (der, _) = certificate("app", algorithm);
            assert_eq!(end_point(&der).map(|hash| hash.len()), bytes);
            assert_eq!(common_name(&der).as_deref(), Some("app"));
            assert!(lists_names(&der));
        }
        let hidden = certificate("app\0.example", &PKCS_ECDSA_P256_SHA256).0;
        assert_eq!(common_name(&hidden), None, "a name that C would read as another");
        for junk in [&b""[..], b"\x30\x03\x01", &[0x30; 1000]] {
            let der = CertificateDer::from(junk);
            assert_eq!((end_point(&der), common_name(&der), lists_names(&der)), (None, None, false));
        }
    }
}
