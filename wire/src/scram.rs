//! SCRAM-SHA-256, both roles, as PostgreSQL speaks it (RFC 5802, RFC 7677, auth-scram.c, fe-auth-scram.c).
//!
//! Invariant: no message is answered twice. Whatever a peer sends, an exchange ends in success or in an
//! error, and after an error only in errors.
//!
//! Pure: messages in, messages out. Not here: the frames around them (AuthenticationSASL and so on), which
//! user has which password, what a failed client is told beyond its SQLSTATE.
//!
//! Channel binding is "tls-server-end-point" alone, as in PostgreSQL; the caller knows the certificate's hash
//! (`tls::end_point`) and offers [`MECHANISM_PLUS`] where there is one.
//!
//! Limits: messages of [`CLIENT_MESSAGE_BYTES_MAX`] and [`SERVER_MESSAGE_BYTES_MAX`]; a server may ask for
//! [`ITERATIONS_MAX`] iterations. [`Client::respond`] and [`Verifier::from_password`] cost about a
//! millisecond of CPU per 4096 iterations; the server role costs microseconds.
//!
//! Start reading at [`Server::first`].

use std::borrow::Cow;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::digest::CtOutput;
use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::{Digest, Sha256};

/// The mechanism's name in AuthenticationSASL and SASLInitialResponse.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// The same, bound to the TLS connection.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The GS2 header of a client that binds.
const BOUND: &str = "p=tls-server-end-point,,";

/// Longest message taken from a client; PostgreSQL's PG_MAX_SASL_MESSAGE_LENGTH.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 1024;

/// Longest message taken from a server; libpq's bound for authentication messages.
pub const SERVER_MESSAGE_BYTES_MAX: usize = 2000;

/// Most iterations that a server may make us compute, a fraction of a second. PostgreSQL's default is 4096;
/// without a bound, a hostile server could keep a worker busy for minutes.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// SCRAM_SHA_256_DEFAULT_ITERATIONS.
const ITERATIONS_DEFAULT: u32 = 4096;

/// SCRAM_DEFAULT_SALT_LEN.
const SALT_BYTES: usize = 16;

/// SCRAM_RAW_NONCE_LEN, 24 characters of base64.
const NONCE_BYTES: usize = 18;

/// Bytes of SHA-256: every key, signature and proof.
const KEY_BYTES: usize = 32;

type Key = [u8; KEY_BYTES];

/// Padded base64. PostgreSQL does not look at the bits that padding leaves over, so we do not either.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Why an exchange ended. Holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScramError {
    /// The message is not what the grammar allows; the text says where.
    Malformed(&'static str),
    TooLong {
        bytes: usize,
        bytes_max: usize,
    },
    /// A message after the exchange was over, or before its turn.
    OutOfTurn,
    NonceMismatch,
    /// The client asks for channel binding that was not offered, or its binding data is not what its first message announced.
    ChannelBinding,
    /// The client chose the mechanism with channel binding and does not bind.
    NotBound,
    /// The client could bind and was told that we cannot, or the other way round: somebody is in between.
    BindingNegotiation,
    /// The client is bound to another TLS connection than this one.
    BindingCheck,
    AuthorizationIdentity,
    /// A mandatory extension (`m=`), which nobody has defined yet.
    MandatoryExtension,
    /// The client's proof is wrong: a wrong password, or a user that does not exist.
    WrongProof,
    /// A server asks for more than [`ITERATIONS_MAX`].
    TooManyIterations(u32),
    /// A server ends the exchange with its own reason (`e=`).
    ServerRefused(String),
    /// A server's signature is wrong: it does not know the password and is not who it claims to be.
    WrongServerSignature,
}

impl ScramError {
    /// What a client is told when the exchange with it fails, as PostgreSQL does.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::WrongProof => "28P01",
            Self::BindingCheck => "28000",
            Self::AuthorizationIdentity | Self::MandatoryExtension => "0A000",
            Self::Malformed(_)
            | Self::TooLong { .. }
            | Self::OutOfTurn
            | Self::NonceMismatch
            | Self::ChannelBinding
            | Self::NotBound
            | Self::BindingNegotiation
            | Self::TooManyIterations(_)
            | Self::ServerRefused(_)
            | Self::WrongServerSignature => "08P01",
        }
    }
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(reason) => write!(f, "malformed SCRAM message: {reason}"),
            Self::TooLong { bytes, bytes_max } => {
                write!(f, "SCRAM message of {bytes} bytes is longer than {bytes_max}")
            }
            Self::OutOfTurn => f.write_str("SCRAM message out of turn"),
            Self::NonceMismatch => f.write_str("SCRAM nonce does not match"),
            Self::ChannelBinding => f.write_str("SCRAM channel binding is not supported"),
            Self::NotBound => {
                f.write_str("malformed SCRAM message: it does not include channel binding data")
            }
            Self::BindingNegotiation => f.write_str("SCRAM channel binding negotiation error"),
            Self::BindingCheck => f.write_str("SCRAM channel binding check failed"),
            Self::AuthorizationIdentity => f.write_str("SCRAM authorization identity is not supported"),
            Self::MandatoryExtension => f.write_str("client requires an unsupported SCRAM extension"),
            Self::WrongProof => f.write_str("password authentication failed"),
            Self::TooManyIterations(iterations) => {
                write!(f, "server asks for {iterations} SCRAM iterations, at most {ITERATIONS_MAX} are made")
            }
            Self::ServerRefused(reason) => write!(f, "server refused SCRAM: {reason:?}"),
            Self::WrongServerSignature => f.write_str("server does not know the password: wrong signature"),
        }
    }
}

impl std::error::Error for ScramError {}

/// What checks a password without being one: the four parts of `pg_authid.rolpassword`. While a password is being
/// replaced, two may be right.
#[derive(Clone)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    keys: VerifierKeys,
    /// Of other passwords with the same salt: a client is told one salt before it says anything.
    others: Vec<VerifierKeys>,
    /// False for [`Verifier::mock`]. PostgreSQL calls such an exchange doomed.
    genuine: bool,
}

#[derive(Clone, PartialEq, Eq)]
struct VerifierKeys {
    stored_key: Key,
    server_key: Key,
}

/// ClientKey and ServerKey: as good as the password, for servers whose verifier is the one that they were made for.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    client_key: Key,
    server_key: Key,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

impl Verifier {
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, or `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let (iterations_salt, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = iterations_salt.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        Some(Self {
            iterations: count(iterations.as_bytes())?,
            salt,
            keys: VerifierKeys {
                stored_key: key(stored_key.as_bytes())?,
                server_key: key(server_key.as_bytes())?,
            },
            others: Vec::new(),
            genuine: true,
        })
    }

    /// What PostgreSQL would store for this password: a random salt and 4096 iterations.
    pub fn from_password(password: &[u8]) -> Self {
        let mut salt = [0; SALT_BYTES];
        rand::rng().fill_bytes(&mut salt);
        Self::derive(password, &salt, ITERATIONS_DEFAULT)
    }

    /// Takes this password as well.
    pub fn also_password(&mut self, password: &[u8]) {
        let other = Self::derive(password, &self.salt, self.iterations);
        self.others.push(other.keys);
    }

    /// Takes another verifier's password as well. `false`: its salt is another one, so it cannot stand beside this one.
    #[must_use]
    pub fn also(&mut self, other: Self) -> bool {
        let same = other.salt == self.salt && other.iterations == self.iterations;
        if same {
            self.others.push(other.keys);
            self.others.extend(other.others);
        }
        same
    }

    /// Whether this is the password, for one that was sent as it is. Costs the iterations, whoever the user is.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let derived = Self::derive(password, &self.salt, self.iterations);
        let mut found = false;
        for keys in std::iter::once(&self.keys).chain(&self.others) {
            found |= equal(&keys.stored_key, &derived.keys.stored_key);
        }
        found && self.genuine
    }

    /// For a user who does not exist: the exchange looks like any other and always fails, so that nobody
    /// can ask which users there are. The salt must not change from one attempt to the next, so it comes
    /// from the name and from a secret that lives as long as the process.
    pub fn mock(user: &str, process_secret: &[u8; 32]) -> Self {
        let derived = |purpose: &[u8]| hmac(process_secret, &[purpose, user.as_bytes()]);
        Self {
            iterations: ITERATIONS_DEFAULT,
            salt: derived(b"salt:")[..SALT_BYTES].to_vec(),
            keys: VerifierKeys { stored_key: derived(b"stored:"), server_key: derived(b"server:") },
            others: Vec::new(),
            genuine: false,
        }
    }

    fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let keys = Keys::derive(password, salt, iterations);
        Self {
            iterations,
            salt: salt.to_vec(),
            keys: VerifierKeys { stored_key: hash(&keys.client_key), server_key: keys.server_key },
            others: Vec::new(),
            genuine: true,
        }
    }
}

/// Our side towards a client.
pub struct Server {
    verifier: Verifier,
    nonce: String,
    /// The binding that is offered.
    offered: Option<Vec<u8>>,
    /// The client chose the mechanism with binding.
    plus: bool,
    phase: ServerPhase,
    proven: Option<Keys>,
}

enum ServerPhase {
    AwaitFirst,
    AwaitFinal {
        /// What the client's `c=` has to be: its own GS2 header, in base64.
        binding: Vec<u8>,
        /// The client's nonce and ours.
        nonce: Vec<u8>,
        /// `client-first-message-bare,server-first-message`, the beginning of AuthMessage.
        messages: Vec<u8>,
    },
    Over,
}

impl Server {
    pub fn new(verifier: Verifier) -> Self {
        Self::with_nonce(verifier, fresh_nonce())
    }

    fn with_nonce(verifier: Verifier, nonce: String) -> Self {
        Self { verifier, nonce, offered: None, plus: false, phase: ServerPhase::AwaitFirst, proven: None }
    }

    /// Offers channel binding: the hash of the certificate that the client was shown.
    pub fn offer_binding(mut self, end_point: Option<Vec<u8>>) -> Self {
        self.offered = end_point;
        self
    }

    /// The names for AuthenticationSASL, the best first.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        if self.offered.is_some() { &[MECHANISM_PLUS, MECHANISM] } else { &[MECHANISM] }
    }

    /// Takes the client's choice. `false`: it was not offered.
    #[must_use]
    pub fn choose(&mut self, mechanism: &[u8]) -> bool {
        self.plus = mechanism == MECHANISM_PLUS.as_bytes();
        self.mechanisms().iter().any(|offered| offered.as_bytes() == mechanism)
    }

    /// After success: what logs in to servers in the client's name.
    pub fn take_keys(&mut self) -> Option<Keys> {
        self.proven.take()
    }

    /// Takes client-first-message (the data of SASLInitialResponse), gives server-first-message (for
    /// AuthenticationSASLContinue).
    ///
    /// The user name in it is ignored, as in PostgreSQL: the startup packet's counts.
    ///
    /// # Errors
    /// [`ScramError`]; the exchange is over.
    pub fn first(&mut self, client_first: &[u8]) -> Result<Vec<u8>, ScramError> {
        let ServerPhase::AwaitFirst = mem::replace(&mut self.phase, ServerPhase::Over) else {
            return Err(ScramError::OutOfTurn);
        };
        bounded(client_first, CLIENT_MESSAGE_BYTES_MAX)?;

        // gs2-header: "n,,", "y,," or "p=tls-server-end-point,,".
        let (binding, rest): (Vec<u8>, _) = match client_first {
            [b'n' | b'y', ..] if self.plus => return Err(ScramError::NotBound),
            [b'n', b',', rest @ ..] => (b"biws".into(), rest),
            // It could bind and thinks that we cannot. Where we can, somebody has kept our offer from it.
            [b'y', b',', ..] if self.offered.is_some() => return Err(ScramError::BindingNegotiation),
            [b'y', b',', rest @ ..] => (b"eSws".into(), rest),
            [b'p', b'=', ..] => match (&self.offered, client_first.strip_prefix(BOUND.as_bytes())) {
                (Some(end_point), Some(_)) if self.plus => {
                    let header = [BOUND.as_bytes(), end_point].concat();
                    (BASE64.encode(header).into(), &client_first[BOUND.len() - 1..])
                }
                _ => return Err(ScramError::ChannelBinding),
            },
            _ => return Err(ScramError::Malformed("it does not begin with a channel-binding flag")),
        };
        let bare = match rest {
            [b',', bare @ ..] => bare,
            [b'a', b'=', ..] => return Err(ScramError::AuthorizationIdentity),
            _ => return Err(ScramError::Malformed("a comma is missing after the channel-binding flag")),
        };
        if bare.starts_with(b"m=") {
            return Err(ScramError::MandatoryExtension);
        }
        let mut attributes = Attributes(Some(bare));
        attributes.expect(b'n', "the user name (n=) is missing")?;
        let client_nonce = attributes.expect(b'r', "the nonce (r=) is missing")?;
        if client_nonce.is_empty() || !client_nonce.iter().all(u8::is_ascii_graphic) {
            return Err(ScramError::Malformed("the nonce is empty or has characters that are not printable"));
        }
        while attributes.any()?.is_some() {}

        let nonce = [client_nonce, self.nonce.as_bytes()].concat();
        let server_first = [
            b"r=",
            nonce.as_slice(),
            b",s=",
            BASE64.encode(&self.verifier.salt).as_bytes(),
            b",i=",
            self.verifier.iterations.to_string().as_bytes(),
        ]
        .concat();
        let messages = [bare, b",", &server_first].concat();
        self.phase = ServerPhase::AwaitFinal { binding, nonce, messages };
        Ok(server_first)
    }

    /// Takes client-final-message, gives server-final-message (for AuthenticationSASLFinal). `Ok` is the
    /// proof that the client knows the password.
    ///
    /// # Errors
    /// [`ScramError::WrongProof`] when it does not; others when the message is wrong. The exchange is over.
    pub fn finish(&mut self, client_final: &[u8]) -> Result<Vec<u8>, ScramError> {
        let phase = mem::replace(&mut self.phase, ServerPhase::Over);
        let ServerPhase::AwaitFinal { binding, nonce, messages } = phase else {
            return Err(ScramError::OutOfTurn);
        };
        bounded(client_final, CLIENT_MESSAGE_BYTES_MAX)?;

        let mut attributes = Attributes(Some(client_final));
        if attributes.expect(b'c', "the channel binding (c=) is missing")? != binding {
            return Err(if self.plus { ScramError::BindingCheck } else { ScramError::ChannelBinding });
        }
        if attributes.expect(b'r', "the nonce (r=) is missing")? != nonce {
            return Err(ScramError::NonceMismatch);
        }
        let (proof, without_proof) = loop {
            let end = client_final.len() - attributes.0.map_or(0, <[u8]>::len);
            match attributes.any()? {
                // `end` is behind the comma that ends the attribute before the proof.
                Some((b'p', proof)) => break (proof, &client_final[..end - 1]),
                Some(_) => {}
                None => return Err(ScramError::Malformed("the proof (p=) is missing")),
            }
        };
        if attributes.0.is_some() {
            return Err(ScramError::Malformed("something follows the proof"));
        }
        let proof = key(proof).ok_or(ScramError::Malformed("the proof is not 32 bytes in base64"))?;

        let auth_message = [messages.as_slice(), b",", without_proof].concat();
        let mut proven = None;
        for keys in std::iter::once(&self.verifier.keys).chain(&self.verifier.others) {
            let client_key = xor(&proof, &hmac(&keys.stored_key, &[&auth_message]));
            if equal(&hash(&client_key), &keys.stored_key) {
                proven = Some(Keys { client_key, server_key: keys.server_key });
            }
        }
        let Some(keys) = proven.filter(|_| self.verifier.genuine) else {
            return Err(ScramError::WrongProof);
        };
        let signature = hmac(&keys.server_key, &[&auth_message]);
        self.proven = Some(keys);
        Ok(format!("v={}", BASE64.encode(signature)).into_bytes())
    }
}

/// Our side towards a server.
pub struct Client {
    proof: Proof,
    /// The GS2 header, and behind it the binding.
    binding: Vec<u8>,
    /// client-first-message-bare.
    bare: String,
    nonce: String,
    phase: ClientPhase,
}

enum Proof {
    Password(Vec<u8>),
    Remembered(Arc<Remembered>),
    Keys(Keys),
}

/// Keys kept of one password: one for each salt that its servers have given, of the last so many.
const REMEMBERED_MAX: usize = 16;

/// A password with the keys that were derived of it: a server that is logged in to again costs no iterations.
pub struct Remembered {
    password: Vec<u8>,
    /// The one used last at the end.
    derived: Mutex<Vec<Derived>>,
}

struct Derived {
    salt: Vec<u8>,
    iterations: u32,
    keys: Keys,
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembered(..)")
    }
}

impl Remembered {
    pub fn new(password: &[u8]) -> Arc<Self> {
        Arc::new(Self { password: password.to_vec(), derived: Mutex::default() })
    }

    fn keys(&self, salt: &[u8], iterations: u32) -> Keys {
        let list = || self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        let mut derived = list();
        if let Some(at) = derived.iter().position(|d| d.salt == salt && d.iterations == iterations) {
            let found = derived.remove(at);
            let keys = found.keys.clone();
            derived.push(found);
            return keys;
        }
        // Not under the lock: it takes a millisecond or more.
        drop(derived);
        let keys = Keys::derive(&self.password, salt, iterations);
        let mut derived = list();
        // A server gives the salt that it likes, and may give another one each time.
        if derived.len() >= REMEMBERED_MAX {
            derived.remove(0);
        }
        derived.push(Derived { salt: salt.to_vec(), iterations, keys: keys.clone() });
        keys
    }
}

/// Whether a client binds to its TLS connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// It cannot, or must not.
    None,
    /// It can, and was not offered it.
    NotOffered,
    /// It does: the hash of the server's certificate.
    EndPoint(Vec<u8>),
}

enum ClientPhase {
    AwaitFirst,
    AwaitFinal { server_signature: Key },
    Over,
}

impl Client {
    pub fn new(password: &[u8]) -> Self {
        // No name, as libpq: the server takes the startup packet's.
        Self::with_nonce(password, "", fresh_nonce())
    }

    /// With a password whose keys are kept.
    pub fn remembering(password: Arc<Remembered>) -> Self {
        Self { proof: Proof::Remembered(password), ..Self::with_nonce(b"", "", fresh_nonce()) }
    }

    /// With what a client of ours has proven, instead of a password.
    pub fn from_keys(keys: Keys) -> Self {
        Self { proof: Proof::Keys(keys), ..Self::with_nonce(b"", "", fresh_nonce()) }
    }

    pub fn bind(mut self, binding: &Binding) -> Self {
        // "y" only where no binding was offered: where it was, "y" reads as a downgrade by somebody in between.
        self.binding = match binding {
            Binding::None => b"n,,".to_vec(),
            Binding::NotOffered => b"y,,".to_vec(),
            Binding::EndPoint(hash) => [BOUND.as_bytes(), hash].concat(),
        };
        self
    }

    fn with_nonce(password: &[u8], user: &str, nonce: String) -> Self {
        let bare = format!("n={user},r={nonce}");
        let proof = Proof::Password(password.to_vec());
        Self { proof, binding: b"n,,".to_vec(), bare, nonce, phase: ClientPhase::AwaitFirst }
    }

    /// client-first-message, for SASLInitialResponse.
    pub fn first(&mut self) -> Vec<u8> {
        let header = match self.binding.first() {
            Some(b'p') => BOUND,
            Some(b'y') => "y,,",
            _ => "n,,",
        };
        format!("{header}{}", self.bare).into_bytes()
    }

    /// Takes server-first-message, gives client-final-message. Costs the iterations that the server asks
    /// for.
    ///
    /// # Errors
    /// [`ScramError`]; the exchange is over.
    pub fn respond(&mut self, server_first: &[u8]) -> Result<Vec<u8>, ScramError> {
        let ClientPhase::AwaitFirst = mem::replace(&mut self.phase, ClientPhase::Over) else {
            return Err(ScramError::OutOfTurn);
        };
        bounded(server_first, SERVER_MESSAGE_BYTES_MAX)?;

        let mut attributes = Attributes(Some(server_first));
        let nonce = attributes.expect(b'r', "the nonce (r=) is missing")?;
        let added = nonce.strip_prefix(self.nonce.as_bytes()).ok_or(ScramError::NonceMismatch)?;
        if added.is_empty() {
            // Our nonce alone would let a recorded exchange be played again to the server.
            return Err(ScramError::NonceMismatch);
        }
        let salt = attributes.expect(b's', "the salt (s=) is missing")?;
        let salt = BASE64.decode(salt).map_err(|_| ScramError::Malformed("the salt is not base64"))?;
        let iterations = attributes.expect(b'i', "the iteration count (i=) is missing")?;
        let iterations =
            count(iterations).ok_or(ScramError::Malformed("the iteration count is not a positive number"))?;
        if attributes.0.is_some() {
            return Err(ScramError::Malformed("something follows the iteration count"));
        }
        if iterations > ITERATIONS_MAX {
            return Err(ScramError::TooManyIterations(iterations));
        }

        let mut client_final = [b"c=", BASE64.encode(&self.binding).as_bytes(), b",r=", nonce].concat();
        let auth_message = [self.bare.as_bytes(), b",", server_first, b",", &client_final].concat();
        let keys = match &self.proof {
            Proof::Password(password) => Keys::derive(password, &salt, iterations),
            Proof::Remembered(password) => password.keys(&salt, iterations),
            Proof::Keys(keys) => keys.clone(),
        };
        let client_signature = hmac(&hash(&keys.client_key), &[&auth_message]);
        let proof = xor(&keys.client_key, &client_signature);
        client_final.extend_from_slice(b",p=");
        client_final.extend_from_slice(BASE64.encode(proof).as_bytes());

        let server_signature = hmac(&keys.server_key, &[&auth_message]);
        self.phase = ClientPhase::AwaitFinal { server_signature };
        Ok(client_final)
    }

    /// Takes server-final-message. `Ok` is the proof that the server knows the password; without it,
    /// AuthenticationOk must not be believed.
    ///
    /// # Errors
    /// [`ScramError`]; the exchange is over.
    pub fn finish(&mut self, server_final: &[u8]) -> Result<(), ScramError> {
        let ClientPhase::AwaitFinal { server_signature } = mem::replace(&mut self.phase, ClientPhase::Over)
        else {
            return Err(ScramError::OutOfTurn);
        };
        bounded(server_final, SERVER_MESSAGE_BYTES_MAX)?;

        let mut attributes = Attributes(Some(server_final));
        if server_final.starts_with(b"e=") {
            let reason = attributes.expect(b'e', "the error (e=) is missing")?;
            return Err(ScramError::ServerRefused(String::from_utf8_lossy(reason).into_owned()));
        }
        let signature = attributes.expect(b'v', "the signature (v=) is missing")?;
        if attributes.0.is_some() {
            return Err(ScramError::Malformed("something follows the signature"));
        }
        let signature =
            key(signature).ok_or(ScramError::Malformed("the signature is not 32 bytes in base64"))?;
        if equal(&signature, &server_signature) { Ok(()) } else { Err(ScramError::WrongServerSignature) }
    }
}

/// What is left of a message: attributes `x=value` between commas. `None` when the last one was taken.
struct Attributes<'m>(Option<&'m [u8]>);

impl<'m> Attributes<'m> {
    /// The next attribute's value when its name is this one.
    fn expect(&mut self, name: u8, missing: &'static str) -> Result<&'m [u8], ScramError> {
        match self.any()? {
            Some((found, value)) if found == name => Ok(value),
            _ => Err(ScramError::Malformed(missing)),
        }
    }

    fn any(&mut self) -> Result<Option<(u8, &'m [u8])>, ScramError> {
        let Some(rest) = self.0 else { return Ok(None) };
        let end = rest.iter().position(|b| *b == b',');
        self.0 = end.map(|end| &rest[end + 1..]);
        match &rest[..end.unwrap_or(rest.len())] {
            [name, b'=', value @ ..] if name.is_ascii_alphabetic() => Ok(Some((*name, value))),
            _ => Err(ScramError::Malformed("an attribute is not a letter, \"=\" and a value")),
        }
    }
}

fn bounded(message: &[u8], bytes_max: usize) -> Result<(), ScramError> {
    if message.len() > bytes_max {
        return Err(ScramError::TooLong { bytes: message.len(), bytes_max });
    }
    if message.contains(&0) {
        // PostgreSQL reads a C string and refuses what follows its end.
        return Err(ScramError::Malformed("it contains a zero byte"));
    }
    Ok(())
}

/// An iteration count: digits only, 1 to the largest that PostgreSQL can store.
fn count(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    text.parse::<i32>().ok().and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0)
}

fn key(base64: &[u8]) -> Option<Key> {
    BASE64.decode(base64).ok()?.try_into().ok()
}

fn fresh_nonce() -> String {
    let mut bytes = [0; NONCE_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    BASE64.encode(bytes)
}

impl Keys {
    fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = salted_password(&normalized(password), salt, iterations);
        Self { client_key: hmac(&salted, &[b"Client Key"]), server_key: hmac(&salted, &[b"Server Key"]) }
    }
}

/// SASLprep, or the bytes as they are where it has no answer (not UTF-8, prohibited characters, nothing
/// left): `pg_saslprep` and its callers. A password in LATIN1 has to work, too.
fn normalized(password: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(password) else { return Cow::Borrowed(password) };
    match stringprep::saslprep(text) {
        Ok(prepared) if prepared.is_empty() => Cow::Borrowed(password),
        Ok(prepared) => Cow::Owned(prepared.into_owned().into_bytes()),
        Err(_) => Cow::Borrowed(password),
    }
}

/// `Hi` of RFC 5802: PBKDF2 with HMAC-SHA-256 and one block of output.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    // The keyed state is copied for each round: it saves hashing the password twice every time.
    let keyed = keyed(password);
    let round = |parts: &[&[u8]]| -> Key {
        let mut mac = keyed.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let mut last = round(&[salt, &1u32.to_be_bytes()]);
    let mut sum = last;
    for _ in 1..iterations {
        last = round(&[&last]);
        sum = xor(&sum, &last);
    }
    sum
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = keyed(key);
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn hash(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

fn xor(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// In constant time: how long it takes says nothing about where they differ.
fn equal(a: &Key, b: &Key) -> bool {
    CtOutput::<Sha256>::new((*a).into()) == CtOutput::new((*b).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn rfc_client() -> Client {
        Client::with_nonce(b"pencil", "user", CLIENT_NONCE.into())
    }

    fn rfc_server() -> Server {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::derive(b"pencil", &salt, 4096);
        Server::with_nonce(verifier, SERVER_NONCE.into())
    }

    /// A whole exchange of our client with our server.
    fn exchange(password: &[u8], verifier: Verifier) -> Result<(), ScramError> {
        let (mut client, mut server) = (Client::new(password), Server::new(verifier));
        let server_first = server.first(&client.first())?;
        let server_final = server.finish(&client.respond(&server_first)?)?;
        client.finish(&server_final)
    }

    #[test]
    fn an_exchange_is_bound_to_its_connection() {
        use Binding::{EndPoint, NotOffered};
        let (here, elsewhere) = (vec![7; 32], vec![8; 32]);
        let plus = MECHANISM_PLUS;
        type Case<'a> = (&'a str, Option<&'a Vec<u8>>, Binding, &'a str, Result<(), ScramError>);
        let cases: [Case<'_>; 8] = [
            ("bound", Some(&here), EndPoint(here.clone()), plus, Ok(())),
            ("another connection", Some(&here), EndPoint(elsewhere), plus, Err(ScramError::BindingCheck)),
            ("not offered, not wanted", None, NotOffered, MECHANISM, Ok(())),
            ("offered, not wanted", Some(&here), Binding::None, MECHANISM, Ok(())),
            (
                "the offer was taken out",
                Some(&here),
                NotOffered,
                MECHANISM,
                Err(ScramError::BindingNegotiation),
            ),
            ("chosen, not done", Some(&here), Binding::None, plus, Err(ScramError::NotBound)),
            (
                "done, not chosen",
                Some(&here),
                EndPoint(here.clone()),
                MECHANISM,
                Err(ScramError::ChannelBinding),
            ),
            ("done, not offered", None, EndPoint(here.clone()), MECHANISM, Err(ScramError::ChannelBinding)),
        ];
        for (why, offered, binding, chosen, expected) in cases {
            let mut client = Client::new(b"pencil").bind(&binding);
            let verifier = Verifier::derive(b"pencil", b"salt", 1);
            let mut server = Server::new(verifier).offer_binding(offered.cloned());
            assert!(server.choose(chosen.as_bytes()), "{why}");
            let outcome = (|| {
                let server_first = server.first(&client.first())?;
                let server_final = server.finish(&client.respond(&server_first)?)?;
                client.finish(&server_final)
            })();
            assert_eq!(outcome, expected, "{why}");
        }
        assert!(
            !Server::new(Verifier::derive(b"a", b"b", 1)).choose(plus.as_bytes()),
            "what was not offered"
        );
    }

    #[test]
    fn while_a_password_is_replaced_both_are_right() {
        let mut verifier = Verifier::derive(b"old", b"salt", 2);
        verifier.also_password(b"new");
        assert!(verifier.also(Verifier::derive(b"newest", b"salt", 2)));
        assert!(
            !verifier.also(Verifier::derive(b"other", b"pepper", 2)),
            "two salts cannot both be asked for"
        );
        for (password, expected) in [("old", Ok(())), ("new", Ok(())), ("newest", Ok(()))] {
            assert_eq!(exchange(password.as_bytes(), verifier.clone()), expected, "{password}");
            assert!(verifier.accepts(password.as_bytes()), "{password}");
        }
        assert_eq!(exchange(b"other", verifier.clone()), Err(ScramError::WrongProof));
        assert!(!verifier.accepts(b"other"));
        assert!(!Verifier::mock("x", &[1; 32]).accepts(b"other"));
    }

    #[test]
    fn keys_are_derived_once_for_a_salt_and_kept_for_a_few_salts_only() {
        let password = Remembered::new(b"pencil");
        let login = |salt: &[u8], right: &[u8]| {
            let mut client = Client::remembering(password.clone());
            let mut server = Server::new(Verifier::derive(right, salt, 2));
            let challenge = server.first(&client.first()).unwrap();
            let proof = client.respond(&challenge).unwrap();
            server.finish(&proof).and_then(|signature| client.finish(&signature))
        };
        let kept = || password.derived.lock().unwrap().iter().map(|d| d.salt.clone()).collect::<Vec<_>>();

        for _ in 0..3 {
            assert_eq!(login(b"salt", b"pencil"), Ok(()));
        }
        assert_eq!(kept(), [b"salt".to_vec()]);
        // The salt alone proves nothing.
        assert_eq!(login(b"salt", b"another"), Err(ScramError::WrongProof));
        for n in 0..100u8 {
            assert_eq!(login(&[n], b"pencil"), Ok(()));
            assert_eq!(login(b"salt", b"pencil"), Ok(()), "what is used stays");
        }
        assert_eq!(kept().len(), REMEMBERED_MAX);
        assert_eq!(kept().last().unwrap(), b"salt");
        assert_eq!(format!("{password:?}"), "Remembered(..)");
    }

    #[test]
    fn what_a_client_has_proven_logs_in_where_the_verifier_is_the_same() {
        let verifier = Verifier::derive(b"pencil", b"salt", 2);
        let (mut client, mut server) = (Client::new(b"pencil"), Server::new(verifier.clone()));
        assert!(server.take_keys().is_none());
        let server_first = server.first(&client.first()).unwrap();
        server.finish(&client.respond(&server_first).unwrap()).unwrap();
        let keys = server.take_keys().expect("the proof held them");
        let log_in = |verifier: Verifier| {
            let (mut client, mut server) = (Client::from_keys(keys.clone()), Server::new(verifier));
            let server_first = server.first(&client.first())?;
            let server_final = server.finish(&client.respond(&server_first)?)?;
            client.finish(&server_final)
        };
        assert_eq!(log_in(verifier), Ok(()));
        let another = Verifier::derive(b"pencil", b"pepper", 2);
        assert_eq!(log_in(another), Err(ScramError::WrongProof), "the same password under another salt");
    }

    fn show(result: Result<Vec<u8>, ScramError>) -> String {
        match result {
            Ok(message) => String::from_utf8(message).unwrap(),
            Err(error) => format!("{}: {error}", error.sqlstate()),
        }
    }

    #[test]
    fn both_roles_say_what_rfc_7677_says() {
        let (mut client, mut server) = (rfc_client(), rfc_server());
        assert_eq!(client.first(), CLIENT_FIRST.as_bytes());
        assert_eq!(show(server.first(CLIENT_FIRST.as_bytes())), SERVER_FIRST);
        assert_eq!(show(client.respond(SERVER_FIRST.as_bytes())), CLIENT_FINAL);
        assert_eq!(show(server.finish(CLIENT_FINAL.as_bytes())), SERVER_FINAL);
        assert_eq!(client.finish(SERVER_FINAL.as_bytes()), Ok(()));
    }

    #[test]
    fn the_password_counts_and_nothing_else() {
        let verifier = Verifier::from_password(b"hunter2");
        assert_eq!(exchange(b"hunter2", verifier.clone()), Ok(()));
        assert_eq!(exchange(b"hunter3", verifier.clone()), Err(ScramError::WrongProof));
        assert_eq!(exchange(b"", verifier), Err(ScramError::WrongProof));
    }

    /// Stored by PostgreSQL 15, `CREATE ROLE ... PASSWORD` in a UTF8 database.
    #[test]
    fn a_verifier_of_postgresql_knows_its_password() {
        let cases: [(&str, &[u8], &str); 6] = [
            (
                "ASCII",
                b"pencil",
                "SCRAM-SHA-256$4096:Md96IWHTsm3FJATDmtLM3A==$CKYdf8ZA9p9FwGMJn5KW7yBmThhiOuHHohIMXFHA7qs=:jdjFsrldyl6p4VQAcF0oAB/v4Z76eUQnz9+xNFEYlKA=",
            ),
            (
                "prepared: I, soft hyphen, X, no-break space, Roman nine is \"IX IX\"",
                b"IX IX",
                "SCRAM-SHA-256$4096:LoQOMWhi9h+MbTtkME77Yw==$IMA3/dPFPDykiBx5mYlhQ7nCMV/df2SQrGRPYsy69+w=:g0E4moSkxk6Cgl6/cgbNcsOoqRtEdvpcRiqFcJUVwEg=",
            ),
            (
                "as it is: an Arabic letter with a digit after it is prohibited",
                "\u{627}1".as_bytes(),
                "SCRAM-SHA-256$4096:0OpvV4/zmUB6xNXo33o/aA==$/CvslJkpWx0il18QvwjpeMk4KOa/w95byYCpD8OYplI=:GiA5xukRm9oE5SdK/np5+3MH6kIYRcU2BbqNbhXuVWg=",
            ),
            (
                "as it is: a control character",
                b"tab\there",
                "SCRAM-SHA-256$4096:CDmKaylCLfnCoElKa4oBAw==$KiAjDGCsBSco3hchx7/VHROa+LBdSXbk+onTFjXWq4g=:GL27o/D4aOTGELedhvrC6oSA/DJ8rVLyTAT7lSqNRR0=",
            ),
            (
                "as it is: nothing would be left",
                "\u{ad}".as_bytes(),
                "SCRAM-SHA-256$4096:gfwcBbUX6L+hnXScHyWnLw==$M67YvIKbYwx7YdAzk1GTRrc6a2LO5WfCTmUpP7Jj4Jo=:9l4YWagFsa9FF4SsoOBWi4x80zoChC2C+C3NLwuZjHQ=",
            ),
            (
                "as it is: a code point not assigned in Unicode 3.2, so the Roman nine stays",
                "\u{221}x\u{2168}".as_bytes(),
                "SCRAM-SHA-256$4096:rkZTmQHj2Bz8qNChoIeNkQ==$HKAVzt907gRmpq7bqlUFARVLaIZwA1ZkEdB0B/Hyaww=:ZR4gCOEyRsNY+s42/zZToE4+UO8Dmh0y5vzK5ZT33/Q=",
            ),
        ];
        for (why, password, verifier) in cases {
            let verifier = Verifier::parse(verifier).unwrap();
            assert_eq!(exchange(password, verifier.clone()), Ok(()), "{why}");
            assert_eq!(exchange(b"other", verifier), Err(ScramError::WrongProof), "{why}");
        }
        let typed = "I\u{ad}X\u{a0}\u{2168}".as_bytes();
        assert_eq!(exchange(typed, Verifier::parse(cases[1].2).unwrap()), Ok(()), "typed unprepared");
    }

    #[test]
    fn a_password_that_is_not_utf8_is_taken_as_it_is() {
        assert_eq!(exchange(b"gr\xfc\xdfe", Verifier::from_password(b"gr\xfc\xdfe")), Ok(()));
    }

    #[test]
    fn only_the_form_of_a_verifier_is_one() {
        const GOOD: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert!(Verifier::parse(GOOD).is_some());
        let bad = [
            ("another mechanism", GOOD.replace("256", "512")),
            ("no iterations", GOOD.replace("4096", "0")),
            ("a sign", GOOD.replace("4096", "+4096")),
            ("more than an int", GOOD.replace("4096", "2147483648")),
            ("no salt", GOOD.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "")),
            ("a salt without padding", GOOD.replace("gQ==", "gQ")),
            ("a short key", GOOD.replace("WG5d", "")),
            ("something behind", format!("{GOOD}x")),
            ("nothing", String::new()),
            ("an md5 hash", "md5a6343a68d964ca596d9752250d54bb8a".into()),
        ];
        for (why, text) in bad {
            assert!(Verifier::parse(&text).is_none(), "{why}");
        }
    }

    #[test]
    fn a_user_who_does_not_exist_looks_like_one_and_is_always_refused() {
        let salt_of = |verifier: Verifier| {
            let first = Server::new(verifier).first(b"n,,n=,r=abc").unwrap();
            String::from_utf8(first).unwrap().split_once(",s=").unwrap().1.to_string()
        };
        let secret = [7; 32];
        let anna = salt_of(Verifier::mock("anna", &secret));

        assert_eq!(anna, salt_of(Verifier::mock("anna", &secret)), "the same answer every time");
        assert_ne!(anna, salt_of(Verifier::mock("bert", &secret)), "another user, another salt");
        assert_ne!(anna, salt_of(Verifier::mock("anna", &[8; 32])), "not to be guessed from outside");
        let real = salt_of(Verifier::from_password(b"x"));
        assert_eq!(anna.len(), real.len(), "no difference to a real one: {anna} {real}");
        assert_eq!(exchange(b"x", Verifier::mock("anna", &secret)), Err(ScramError::WrongProof));

        // Even with the right proof for its keys.
        let doomed = Verifier { genuine: false, ..Verifier::from_password(b"x") };
        assert_eq!(exchange(b"x", doomed), Err(ScramError::WrongProof));
    }

    #[test]
    fn a_server_refuses_what_is_not_a_first_message() {
        let long = format!("n,,n=,r={}", "x".repeat(1024));
        let cases = [
            (
                "no name",
                "n,,n=,r=abc",
                "r=abc%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            ),
            (
                "the client could bind",
                "y,,n=,r=abc",
                "r=abc%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            ),
            (
                "an extension",
                "n,,n=,r=abc,x=1",
                "r=abc%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            ),
            (
                "the client binds",
                "p=tls-server-end-point,,n=,r=abc",
                "08P01: SCRAM channel binding is not supported",
            ),
            (
                "somebody else's rights",
                "n,a=postgres,n=,r=abc",
                "0A000: SCRAM authorization identity is not supported",
            ),
            (
                "a mandatory extension",
                "n,,m=1,n=,r=abc",
                "0A000: client requires an unsupported SCRAM extension",
            ),
            ("nothing", "", "08P01: malformed SCRAM message: it does not begin with a channel-binding flag"),
            (
                "an unknown flag",
                "x,,n=,r=abc",
                "08P01: malformed SCRAM message: it does not begin with a channel-binding flag",
            ),
            (
                "no second comma",
                "n,n=,r=abc",
                "08P01: malformed SCRAM message: a comma is missing after the channel-binding flag",
            ),
            ("no nonce", "n,,n=", "08P01: malformed SCRAM message: the nonce (r=) is missing"),
            (
                "an empty nonce",
                "n,,n=,r=",
                "08P01: malformed SCRAM message: the nonce is empty or has characters that are not printable",
            ),
            (
                "a blank in the nonce",
                "n,,n=,r=a b",
                "08P01: malformed SCRAM message: the nonce is empty or has characters that are not printable",
            ),
            (
                "a broken extension",
                "n,,n=,r=abc,1",
                "08P01: malformed SCRAM message: an attribute is not a letter, \"=\" and a value",
            ),
            ("a zero byte", "n,,n=,r=abc\0", "08P01: malformed SCRAM message: it contains a zero byte"),
            ("too long", &long, "08P01: SCRAM message of 1032 bytes is longer than 1024"),
        ];
        for (why, message, expected) in cases {
            assert_eq!(show(rfc_server().first(message.as_bytes())), expected, "{why}");
        }
    }

    #[test]
    fn a_server_refuses_what_is_not_the_final_message_of_its_exchange() {
        let cases = [
            ("the right one", CLIENT_FINAL.to_string(), SERVER_FINAL),
            (
                "another binding",
                CLIENT_FINAL.replace("biws", "eSws"),
                "08P01: SCRAM channel binding is not supported",
            ),
            ("another nonce", CLIENT_FINAL.replace("rOpr", "xOpr"), "08P01: SCRAM nonce does not match"),
            (
                "only its own nonce",
                CLIENT_FINAL.replace(SERVER_NONCE, ""),
                "08P01: SCRAM nonce does not match",
            ),
            (
                "another proof",
                CLIENT_FINAL.replace("p=dHzb", "p=eHzb"),
                "28P01: password authentication failed",
            ),
            (
                "an extension that was not signed",
                CLIENT_FINAL.replace(",p=", ",x=1,p="),
                "28P01: password authentication failed",
            ),
            (
                "a short proof",
                CLIENT_FINAL.replace("p=dHzb", "p="),
                "08P01: malformed SCRAM message: the proof is not 32 bytes in base64",
            ),
            (
                "no proof",
                CLIENT_FINAL.replace(",p=", ",q="),
                "08P01: malformed SCRAM message: the proof (p=) is missing",
            ),
            (
                "more than a proof",
                format!("{CLIENT_FINAL},x=1"),
                "08P01: malformed SCRAM message: something follows the proof",
            ),
            (
                "a trailing comma",
                format!("{CLIENT_FINAL},"),
                "08P01: malformed SCRAM message: something follows the proof",
            ),
            (
                "nothing",
                String::new(),
                "08P01: malformed SCRAM message: an attribute is not a letter, \"=\" and a value",
            ),
        ];
        for (why, message, expected) in cases {
            let mut server = rfc_server();
            server.first(CLIENT_FIRST.as_bytes()).unwrap();
            assert_eq!(show(server.finish(message.as_bytes())), expected, "{why}");
            assert_eq!(
                server.finish(CLIENT_FINAL.as_bytes()),
                Err(ScramError::OutOfTurn),
                "{why}: only once"
            );
        }
    }

    #[test]
    fn a_client_refuses_a_server_that_is_not_in_its_exchange() {
        let cases = [
            ("the right one", SERVER_FIRST.to_string(), CLIENT_FINAL),
            ("another nonce", SERVER_FIRST.replace("rOpr", "xOpr"), "08P01: SCRAM nonce does not match"),
            (
                "nothing added to the nonce",
                SERVER_FIRST.replace(SERVER_NONCE, ""),
                "08P01: SCRAM nonce does not match",
            ),
            (
                "a salt that is none",
                SERVER_FIRST.replace("W22Z", "W2*Z"),
                "08P01: malformed SCRAM message: the salt is not base64",
            ),
            (
                "no iterations",
                SERVER_FIRST.replace("4096", "0"),
                "08P01: malformed SCRAM message: the iteration count is not a positive number",
            ),
            (
                "more than we make",
                SERVER_FIRST.replace("4096", "1000001"),
                "08P01: server asks for 1000001 SCRAM iterations, at most 1000000 are made",
            ),
            (
                "something behind",
                format!("{SERVER_FIRST},x=1"),
                "08P01: malformed SCRAM message: something follows the iteration count",
            ),
            (
                "an extension before",
                format!("m=1,{SERVER_FIRST}"),
                "08P01: malformed SCRAM message: the nonce (r=) is missing",
            ),
            (
                "nothing",
                String::new(),
                "08P01: malformed SCRAM message: an attribute is not a letter, \"=\" and a value",
            ),
        ];
        for (why, message, expected) in cases {
            let mut client = rfc_client();
            assert_eq!(show(client.respond(message.as_bytes())), expected, "{why}");
            assert_eq!(
                client.respond(SERVER_FIRST.as_bytes()),
                Err(ScramError::OutOfTurn),
                "{why}: only once"
            );
        }
        let cases = [
            ("the right one", SERVER_FINAL.to_string(), Ok(())),
            (
                "another signature",
                SERVER_FINAL.replace("6rri", "7rri"),
                Err(ScramError::WrongServerSignature),
            ),
            ("an error", "e=other-error".into(), Err(ScramError::ServerRefused("other-error".into()))),
            ("no signature", "x=1".into(), Err(ScramError::Malformed("the signature (v=) is missing"))),
            (
                "something behind",
                format!("{SERVER_FINAL},x=1"),
                Err(ScramError::Malformed("something follows the signature")),
            ),
        ];
        for (why, message, expected) in cases {
            let mut client = rfc_client();
            client.respond(SERVER_FIRST.as_bytes()).unwrap();
            assert_eq!(client.finish(message.as_bytes()), expected, "{why}");
            assert_eq!(
                client.finish(SERVER_FINAL.as_bytes()),
                Err(ScramError::OutOfTurn),
                "{why}: only once"
            );
        }
    }

    #[test]
    fn a_step_cannot_be_skipped() {
        assert_eq!(rfc_server().finish(CLIENT_FINAL.as_bytes()), Err(ScramError::OutOfTurn));
        assert_eq!(rfc_client().finish(SERVER_FINAL.as_bytes()), Err(ScramError::OutOfTurn));
    }

    #[test]
    fn no_bytes_make_either_role_panic_or_believe() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let verifier = Verifier::derive(b"pencil", b"salt", 1);
        for _ in 0..20_000 {
            let mut damaged = |good: &str| -> Vec<u8> {
                let mut bytes = good.as_bytes().to_vec();
                for _ in 0..random.random_range(1..4) {
                    let at = random.random_range(0..=bytes.len());
                    match random.random_range(0..4) {
                        0 => bytes.truncate(at),
                        1 => bytes.insert(at, random.random()),
                        2 => bytes.insert(at, b",=nrcpvsiy"[random.random_range(0..10)]),
                        _ => bytes = (0..at).map(|_| random.random()).collect(),
                    }
                }
                bytes
            };
            let mut server = Server::with_nonce(verifier.clone(), "s".into());
            let _ = server.first(&damaged("n,,n=user,r=abc"));
            let last = damaged("c=biws,r=abcs,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
            assert!(server.finish(&last).is_err(), "seed {seed}");

            let mut client = Client::with_nonce(b"pencil", "", "abc".into());
            // One iteration, and what damage makes of it: `i=1` grows only by chance of a digit.
            let _ = client.respond(&damaged("r=abcs,s=c2FsdA==,i=1"));
            assert!(client.finish(&damaged(SERVER_FINAL)).is_err(), "seed {seed}");
            let _ = Verifier::parse(&String::from_utf8_lossy(&damaged("SCRAM-SHA-256$1:c2FsdA==$YQ==:YQ==")));
        }
    }
}
