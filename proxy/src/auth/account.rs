//! What is known of one user: enough to check it in every way, and to log in to servers in its name.

use std::fmt;

use md5::{Digest, Md5};
use pgherd_config::ResolvedSecret;
use pgherd_pool::{Secret, Secrets};
use pgherd_wire::scram;

pub struct Account {
    /// For SCRAM and for passwords as they are. `None`: only md5 hashes are known, or nothing.
    pub verifier: Option<scram::Verifier>,
    /// 32 hexadecimal digits each.
    pub md5: Vec<String>,
    secrets: Vec<ResolvedSecret>,
}

/// By the secrets alone: verifiers that were made of passwords have random salts.
impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        self.secrets == other.secrets
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.secrets.len())
    }
}

impl Account {
    /// Each of the secrets will be right.
    ///
    /// # Errors
    /// The rest of a sentence that begins with the owner: secrets that cannot stand beside each other.
    pub fn new(user: &str, secrets: Vec<ResolvedSecret>) -> Result<Self, String> {
        let mut verifier: Option<scram::Verifier> = None;
        let mut md5 = Vec::new();
        for secret in &secrets {
            match secret {
                ResolvedSecret::ScramVerifier(text) => {
                    let next = scram::Verifier::parse(text).ok_or("the SCRAM verifier cannot be read")?;
                    match &mut verifier {
                        None => verifier = Some(next),
                        Some(first) => {
                            if !first.also(next) {
                                return Err(
                                    "two SCRAM verifiers with different salts or iterations cannot both be \
                                     asked for; give one of the passwords itself"
                                        .into(),
                                );
                            }
                        }
                    }
                }
                ResolvedSecret::Plain(password) => md5.push(md5_of(user, password)),
                ResolvedSecret::Md5(hash) => md5.push(hash.trim_start_matches("md5").to_owned()),
            }
        }
        for secret in &secrets {
            if let ResolvedSecret::Plain(password) = secret {
                match &mut verifier {
                    Some(verifier) => verifier.also_password(password.as_bytes()),
                    None => verifier = Some(scram::Verifier::from_password(password.as_bytes())),
                }
            }
        }
        Ok(Self { verifier, md5, secrets })
    }

    pub fn has_secret(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Under "md5" it is asked for SCRAM.
    pub fn prefers_scram(&self) -> bool {
        self.md5.is_empty() && self.verifier.is_some()
    }

    /// What a client's proof holds is needed for servers.
    pub fn passes_through(&self) -> bool {
        self.secrets.iter().any(|secret| matches!(secret, ResolvedSecret::ScramVerifier(_)))
    }

    /// For servers.
    pub fn server_secrets(&self) -> Secrets {
        Self::secrets_for_servers(&self.secrets)
    }

    /// The same of secrets alone, without the verifiers that clients need.
    pub fn secrets_for_servers(secrets: &[ResolvedSecret]) -> Secrets {
        let list = secrets.iter().filter_map(|secret| match secret {
            ResolvedSecret::Plain(password) => Some(Secret::Password(password.clone())),
            ResolvedSecret::Md5(hash) => Some(Secret::Md5(hash.clone())),
            ResolvedSecret::ScramVerifier(_) => None,
        });
        Secrets::new(list.collect())
    }
}

/// What PostgreSQL stores for md5, without its prefix.
pub fn md5_of(user: &str, password: &str) -> String {
    hex(&Md5::new().chain_update(password).chain_update(user).finalize())
}

/// What a client answers to an md5 request.
pub fn md5_answer(hash: &str, salt: [u8; 4]) -> String {
    format!("md5{}", hex(&Md5::new().chain_update(hash).chain_update(salt).finalize()))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stand_beside_each_other_where_one_question_does_for_all() {
        let plain = |text: &str| ResolvedSecret::Plain(text.into());
        let verifier = |salt: &str| {
            let key = "A".repeat(43) + "=";
            ResolvedSecret::ScramVerifier(
                format!("SCRAM-SHA-256$4096:{salt}$B{key}:{key}").replace("BA", "A"),
            )
        };
        let md5 = || ResolvedSecret::Md5(format!("md5{}", md5_of("app", "old")));
        let shape = |secrets: Vec<ResolvedSecret>| match Account::new("app", secrets) {
            Ok(account) => format!("{} {}", account.verifier.is_some(), account.md5.len()),
            Err(why) => why.split(' ').take(4).collect::<Vec<_>>().join(" "),
        };
        let cases = [
            ("nothing", vec![], "false 0"),
            ("a password", vec![plain("a")], "true 1"),
            ("a hash", vec![md5()], "false 1"),
            ("two passwords", vec![plain("a"), plain("b")], "true 2"),
            ("a hash beside a password", vec![md5(), plain("b")], "true 2"),
            ("a verifier beside a password", vec![plain("a"), verifier("c2FsdA==")], "true 1"),
            ("the same salt", vec![verifier("c2FsdA=="), verifier("c2FsdA==")], "true 0"),
            ("two salts", vec![verifier("c2FsdA=="), verifier("cGVwcGVy")], "two SCRAM verifiers with"),
        ];
        for (why, secrets, expected) in cases {
            assert_eq!(shape(secrets), expected, "{why}");
        }
        let account = Account::new("app", vec![plain("a"), verifier("c2FsdA==")]).unwrap();
        assert!(account.verifier.unwrap().accepts(b"a"));
    }
}
