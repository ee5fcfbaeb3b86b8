//! Where passwords come from when serving starts.
//!
//! Invariant: no password reaches a log. `Debug` of these types names the source, never the secret, and an
//! error names the entry of the configuration.
//!
//! Not here: checking a password or a verifier against a client (`wire::scram`).

use std::env::VarError;
use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::model::Secret;

/// Longest password we take from anywhere. PostgreSQL's clients send at most 65535 bytes of it; nobody
/// types this many.
const SECRET_BYTES_MAX: usize = 4096;

/// A secret with its source read.
#[derive(Clone, PartialEq, Eq)]
pub enum ResolvedSecret {
    Plain(String),
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, checked for its form.
    ScramVerifier(String),
    /// `md5` and 32 hexadecimal digits, in lower case.
    Md5(String),
}

impl fmt::Debug for ResolvedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(..)",
            Self::ScramVerifier(_) => "ScramVerifier(..)",
            Self::Md5(_) => "Md5(..)",
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain(..)"),
            Self::ScramVerifier(_) => f.write_str("ScramVerifier(..)"),
            Self::Md5(_) => f.write_str("Md5(..)"),
            Self::Environment(name) => f.debug_tuple("Environment").field(name).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Reads the environment or the file that a secret names. `owner` says whose it is, such as
/// `user "app"`, and begins every error.
///
/// A file's last line end does not belong to the password. A verifier may stand in a variable or a file
/// as well.
///
/// # Errors
/// The source is not there, cannot be read, is empty, too long, not text, or is a verifier without its form.
pub fn resolve(owner: &str, secret: &Secret) -> Result<ResolvedSecret, String> {
    resolve_with(owner, secret, |name| std::env::var(name))
}

/// As [`resolve`], for a password that pgherd must prove itself with.
///
/// # Errors
/// As [`resolve`], and a verifier: it can only check somebody else.
pub fn resolve_plain(owner: &str, secret: &Secret) -> Result<String, String> {
    match resolve(owner, secret)? {
        ResolvedSecret::Plain(password) => Ok(password),
        ResolvedSecret::ScramVerifier(_) => Err(format!(
            "{owner}: the password must be the password itself: a SCRAM verifier only checks others"
        )),
        ResolvedSecret::Md5(_) => {
            Err(format!("{owner}: the password must be the password itself, not an md5 hash"))
        }
    }
}

fn resolve_with(
    owner: &str,
    secret: &Secret,
    environment: impl Fn(&str) -> Result<String, VarError>,
) -> Result<ResolvedSecret, String> {
    match secret {
        Secret::Plain(password) => Ok(ResolvedSecret::Plain(password.clone())),
        Secret::ScramVerifier(verifier) => Ok(ResolvedSecret::ScramVerifier(verifier.clone())),
        Secret::Md5(hash) => Ok(ResolvedSecret::Md5(hash.clone())),
        Secret::Environment(name) => match environment(name) {
            Ok(text) => classify(&text)
                .map_err(|reason| format!("{owner}: the password in environment variable {name} {reason}")),
            Err(VarError::NotPresent) => Err(format!("{owner}: environment variable {name} is not set")),
            Err(VarError::NotUnicode(_)) => {
                Err(format!("{owner}: the password in environment variable {name} is not UTF-8"))
            }
        },
        Secret::File(path) => from_file(path)
            .map_err(|reason| format!("{owner}: the password in file {} {reason}", path.display())),
    }
}

fn from_file(path: &Path) -> Result<ResolvedSecret, String> {
    let mut bytes = Vec::new();
    // One line end more than the longest password, and one byte to see that there is more.
    let bytes_max = SECRET_BYTES_MAX as u64 + 3;
    std::fs::File::open(path)
        .and_then(|file| file.take(bytes_max).read_to_end(&mut bytes))
        .map_err(|e| format!("cannot be read: {e}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_string())?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    classify(line)
}

/// A password, or a verifier by its form. The error is the rest of a sentence.
///
/// # Errors
/// Empty, too long, or nearly a verifier.
pub fn classify(text: &str) -> Result<ResolvedSecret, String> {
    if text.is_empty() {
        // PostgreSQL lets nobody in with an empty password.
        Err("is empty".into())
    } else if text.len() > SECRET_BYTES_MAX {
        Err(format!("is longer than {SECRET_BYTES_MAX} bytes"))
    } else if text.contains('\0') {
        Err("contains a zero byte".into())
    } else if is_verifier(text) {
        Ok(ResolvedSecret::ScramVerifier(text.into()))
    } else if text.starts_with("SCRAM-SHA-256$") {
        Err("begins like a SCRAM verifier, but is not \
             SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"
            .into())
    } else if is_md5(text) {
        Ok(ResolvedSecret::Md5(text.to_ascii_lowercase()))
    } else {
        Ok(ResolvedSecret::Plain(text.into()))
    }
}

/// As PostgreSQL's `parse_scram_secret` decides.
fn is_verifier(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") else { return false };
    let Some((iterations_salt, keys)) = rest.split_once('$') else { return false };
    let Some((iterations, salt)) = iterations_salt.split_once(':') else { return false };
    let Some((stored_key, server_key)) = keys.split_once(':') else { return false };
    let iterations_good = iterations.bytes().all(|b| b.is_ascii_digit())
        && iterations.parse::<i32>().is_ok_and(|count| count > 0);
    iterations_good
        && base64_bytes(salt).is_some_and(|bytes| bytes > 0)
        && base64_bytes(stored_key) == Some(32)
        && base64_bytes(server_key) == Some(32)
}

/// How many bytes a padded base64 text stands for.
fn base64_bytes(text: &str) -> Option<usize> {
    let data = text.trim_end_matches('=');
    let padding = text.len() - data.len();
    let good = data.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    (good && padding <= 2 && text.len().is_multiple_of(4)).then_some(data.len() * 3 / 4)
}

/// `md5` and 32 hexadecimal digits, as in `pg_authid`.
fn is_md5(text: &str) -> bool {
    text.strip_prefix("md5").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn a_secret_is_read_from_where_it_was_said_to_be() {
        let directory = std::env::temp_dir().join(format!("pgherd-config-secret-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = |name: &str, content: &[u8]| -> Secret {
            let path: PathBuf = directory.join(name);
            std::fs::write(&path, content).unwrap();
            Secret::File(path)
        };
        let environment = |name: &str| match name {
            "GOOD" => Ok("hunter2".to_string()),
            "VERIFIER" => Ok(VERIFIER.to_string()),
            "EMPTY" => Ok(String::new()),
            _ => Err(VarError::NotPresent),
        };
        let plain = |text: &str| Ok(ResolvedSecret::Plain(text.into()));
        let cases = [
            ("itself", Secret::Plain("hunter2".into()), plain("hunter2")),
            ("a variable", Secret::Environment("GOOD".into()), plain("hunter2")),
            (
                "a verifier in a variable",
                Secret::Environment("VERIFIER".into()),
                Ok(ResolvedSecret::ScramVerifier(VERIFIER.into())),
            ),
            (
                "no variable",
                Secret::Environment("NONE".into()),
                Err("user \"app\": environment variable NONE is not set"),
            ),
            (
                "an empty variable",
                Secret::Environment("EMPTY".into()),
                Err("user \"app\": the password in environment variable EMPTY is empty"),
            ),
            ("a file without a line end", file("a", b"hunter2"), plain("hunter2")),
            ("a file with a line end", file("b", b"hunter2\n"), plain("hunter2")),
            ("a file from Windows", file("c", b"hunter2\r\n"), plain("hunter2")),
            ("only the last line end goes", file("d", b" hunter2 \n\n"), plain(" hunter2 \n")),
        ];
        for (why, secret, expected) in cases {
            let resolved = resolve_with("user \"app\"", &secret, environment);
            assert_eq!(resolved, expected.map_err(str::to_string), "{why}");
        }

        let errors = [
            ("an empty file", file("e", b"\n"), " is empty"),
            ("not text", file("f", &[0xff]), " is not UTF-8"),
            ("too long", file("g", &[b'x'; 5000]), " is longer than 4096 bytes"),
            ("no file", Secret::File(directory.join("none")), "No such file or directory (os error 2)"),
        ];
        for (why, secret, end) in errors {
            let error = resolve_with("user \"app\"", &secret, environment).unwrap_err();
            assert!(error.starts_with("user \"app\": the password in file "), "{why}: {error}");
            assert!(error.ends_with(end), "{why}: {error}");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_verifier_cannot_be_used_to_log_in() {
        let error = resolve_plain("control", &Secret::ScramVerifier(VERIFIER.into())).unwrap_err();
        assert_eq!(
            error,
            "control: the password must be the password itself: a SCRAM verifier only checks others"
        );
    }

    #[test]
    fn a_verifier_is_told_from_a_password_by_its_form() {
        let cases = [
            ("as PostgreSQL stores it", VERIFIER.to_string(), "ScramVerifier(..)"),
            ("no iterations", VERIFIER.replace("4096", "0"), "refused"),
            ("a sign", VERIFIER.replace("4096", "+4096"), "refused"),
            ("a short key", VERIFIER.replace("wfPL", ""), "refused"),
            ("not base64", VERIFIER.replace("wfPL", "wf-L"), "refused"),
            ("only its beginning", "SCRAM-SHA-256$".into(), "refused"),
            ("an md5 hash", "md5a6343a68d964ca596d9752250d54bb8a".into(), "Md5(..)"),
            ("md5 in a password", "md5isnotgood".into(), "Plain(..)"),
        ];
        for (why, text, expected) in cases {
            let shown = classify(&text).map_or("refused".into(), |secret| format!("{secret:?}"));
            assert_eq!(shown, expected, "{why}");
        }
    }

    #[test]
    fn debug_output_has_no_secret() {
        let secrets = [
            (Secret::Plain("hunter2".into()), "Plain(..)"),
            (Secret::ScramVerifier(VERIFIER.into()), "ScramVerifier(..)"),
            (Secret::Environment("APP".into()), "Environment(\"APP\")"),
            (Secret::File("/run/p".into()), "File(\"/run/p\")"),
        ];
        for (secret, shown) in secrets {
            assert_eq!(format!("{secret:?}"), shown);
        }
    }
}
