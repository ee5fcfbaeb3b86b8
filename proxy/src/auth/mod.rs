//! Who may come in, and how it proves who it is.
//!
//! Invariant: what a client sees before it has proven itself (the messages, their words, the time they take) does not
//! depend on whether its user or its database exists.
//!
//! A [`Door`] is replaced whole when the configuration or one of its files is read again; a client that is on its way
//! in goes through the one it came to.
//!
//! Not here: the messages themselves (`handshake`).
//!
//! Start reading at [`Door::way`].

mod account;
pub mod query;
mod tls;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use pgherd_config::hba::{Asking, ClientCertificate, Hba, HbaMethod, IdentMaps};
use pgherd_config::{AuthMethod, Config, SslMode, resolve};
use pgherd_wire::message::Report;
use pgherd_wire::{Stream, scram, tls as wire_tls};

use crate::handshake::{self, Authenticated, Exchange, Refused, Startup};

pub use account::{Account, md5_answer, md5_of};
pub use tls::Acceptor;

/// How one client has to prove itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub method: HbaMethod,
    pub map: Option<String>,
    pub certificate: Option<ClientCertificate>,
}

pub struct Door {
    pub tls: Option<Acceptor>,
    method: AuthMethod,
    hba: Option<Hba>,
    idents: IdentMaps,
    accounts: HashMap<String, Arc<Account>>,
    /// What a user that does not exist is taken for under "md5".
    mock_is_scram: bool,
    pub query: Option<query::Asker>,
}

/// Salts of users that do not exist stay the same as long as the process lives, whatever is reloaded.
fn mock_secret() -> &'static [u8; 32] {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    SECRET.get_or_init(rand::random)
}

impl Door {
    /// # Errors
    /// A file or a secret that cannot be used; the text names it.
    pub fn new(config: &Config) -> Result<Self, String> {
        let mut accounts = HashMap::new();
        for user in &config.users {
            let owner = format!("user \"{}\"", user.name);
            let secrets: Result<Vec<_>, _> = user.passwords.iter().map(|s| resolve(&owner, s)).collect();
            let account = Account::new(&user.name, secrets?).map_err(|why| format!("{owner}: {why}"))?;
            accounts.insert(user.name.clone(), Arc::new(account));
        }
        let tls = config.server.tls.as_ref().map(Acceptor::new).transpose();
        let hba = config.auth.hba_file.as_deref().map(Hba::load).transpose().map_err(|p| p.to_string())?;
        let idents = match config.auth.ident_file.as_deref() {
            Some(path) => IdentMaps::load(path).map_err(|problems| problems.to_string())?,
            None => IdentMaps::default(),
        };
        let known = || accounts.values().filter(|account| account.has_secret());
        let mock_is_scram = known().next().is_some() && known().all(|account| account.prefers_scram());
        Ok(Self {
            tls: tls.map_err(|why| format!("server.tls: {why}"))?,
            method: config.auth.method,
            hba,
            idents,
            accounts,
            mock_is_scram,
            query: query::Asker::new(config)?,
        })
    }

    /// The method for this client.
    ///
    /// # Errors
    /// In PostgreSQL's words: no line is about this client, or one that turns it away.
    pub fn way(&self, asking: &Asking<'_>) -> Result<Way, Report> {
        if let (Some(acceptor), Some(_), false) = (&self.tls, asking.address, asking.tls)
            && acceptor.mode >= SslMode::Require
        {
            return Err(Report::fatal("28000", "SSL required")
                .detail("Connections over a network have to be encrypted (server.tls.mode).")
                .hint("Connect with sslmode=require or more."));
        }
        let method = match self.method {
            AuthMethod::Trust => HbaMethod::Trust,
            AuthMethod::Md5 => HbaMethod::Md5,
            AuthMethod::ScramSha256 => HbaMethod::ScramSha256,
            AuthMethod::Password => HbaMethod::Password,
            AuthMethod::Peer => HbaMethod::Peer,
            AuthMethod::Cert => HbaMethod::Cert,
            AuthMethod::Hba => return self.way_by_line(asking),
        };
        let certificate = (method == HbaMethod::Cert).then_some(ClientCertificate::VerifyFull);
        Ok(Way { method, map: None, certificate })
    }

    fn way_by_line(&self, asking: &Asking<'_>) -> Result<Way, Report> {
        let host = asking.address.map_or("[local]".into(), |address| address.to_canonical().to_string());
        let encryption = if asking.tls { "SSL encryption" } else { "no encryption" };
        let about = if asking.replication {
            format!("replication connection from host \"{host}\", user \"{}\", {encryption}", asking.user)
        } else {
            let Asking { user, database, .. } = asking;
            format!("host \"{host}\", user \"{user}\", database \"{database}\", {encryption}")
        };
        let rule = self.hba.as_ref().and_then(|hba| hba.find(asking));
        match rule {
            Some(rule) if rule.method != HbaMethod::Reject => {
                Ok(Way { method: rule.method, map: rule.map.clone(), certificate: rule.client_certificate })
            }
            Some(_) if asking.replication => {
                Err(Report::fatal("28000", format!("pg_hba.conf rejects {about}")))
            }
            Some(_) => Err(Report::fatal("28000", format!("pg_hba.conf rejects connection for {about}"))),
            None => Err(Report::fatal("28000", format!("no pg_hba.conf entry for {about}"))),
        }
    }

    pub fn account(&self, user: &str) -> Option<&Arc<Account>> {
        self.accounts.get(user)
    }

    /// What is asked of a client. Of a user that does not exist, the same.
    fn exchange(&self, method: HbaMethod, user: &str, account: Option<&Account>, tls: bool) -> Exchange {
        let account = account.filter(|account| account.has_secret());
        let scram = |account: Option<&Account>| {
            let verifier = account.and_then(|account| account.verifier.clone());
            Exchange::Scram {
                verifier: verifier.unwrap_or_else(|| scram::Verifier::mock(user, mock_secret())),
                end_point: self.tls.as_ref().filter(|_| tls).and_then(|acceptor| acceptor.end_point.clone()),
            }
        };
        match method {
            HbaMethod::Md5 => match account {
                // As PostgreSQL: who has only a verifier proves itself with that.
                Some(account) if account.md5.is_empty() => scram(Some(account)),
                Some(account) => Exchange::Md5 { hashes: account.md5.clone() },
                None if self.mock_is_scram => scram(None),
                None => Exchange::Md5 { hashes: Vec::new() },
            },
            HbaMethod::Password => Exchange::Plain {
                verifier: account
                    .and_then(|account| account.verifier.clone())
                    .unwrap_or_else(|| scram::Verifier::mock(user, mock_secret())),
                hashes: account.map(|account| account.md5.clone()).unwrap_or_default(),
            },
            _ => scram(account),
        }
    }

    /// Lets a client in, or says why not.
    pub async fn admit(
        &self,
        stream: &mut Stream,
        startup: Startup,
        worker: usize,
    ) -> Result<(Authenticated, Arc<Account>), Refused> {
        let (user, database) = (startup.user().to_owned(), startup.database().to_owned());
        let way = {
            let address: Option<IpAddr> = stream.peer_addr().map(|address| address.ip());
            let replication = startup.is_physical_replication();
            let tls = stream.tls().is_some();
            let asking = Asking { user: &user, database: &database, address, tls, replication };
            self.way(&asking).map_err(Refused::Said)?
        };
        if let Some(wanted) = way.certificate {
            self.check_certificate(stream, &way, wanted, &user).map_err(Refused::Said)?;
        }
        let mut account = self.accounts.get(&user).cloned();
        if let Some(asker) = &self.query
            && account.as_ref().is_none_or(|account| !account.has_secret())
        {
            account = asker.ask(worker, &database, &user).await.map_err(Refused::Said)?.or(account);
        }
        let authenticated = match way.method {
            HbaMethod::Trust | HbaMethod::Cert => Authenticated { startup, keys: None },
            HbaMethod::Peer => {
                self.check_peer(stream, way.map.as_deref(), &user).await.map_err(Refused::Said)?;
                Authenticated { startup, keys: None }
            }
            method => {
                let exchange = self.exchange(method, &user, account.as_deref(), stream.tls().is_some());
                handshake::authenticate(stream, startup, exchange).await?
            }
        };
        match account {
            Some(account) => Ok((authenticated, account)),
            None => Err(Refused::Said(Report::fatal("28000", format!("role \"{user}\" does not exist")))),
        }
    }

    /// The chain was verified by TLS; this is about who it names.
    fn check_certificate(
        &self,
        stream: &Stream,
        way: &Way,
        wanted: ClientCertificate,
        user: &str,
    ) -> Result<(), Report> {
        let Some(certificate) = stream.tls().and_then(|tls| tls.peer_certificate()) else {
            return Err(Report::fatal("28000", "connection requires a valid client certificate"));
        };
        if wanted == ClientCertificate::VerifyCa {
            return Ok(());
        }
        let name = wire_tls::common_name(certificate);
        let map = way.map.as_deref().filter(|_| way.method == HbaMethod::Cert);
        if name.as_deref().is_some_and(|name| self.idents.allows(map, name, user)) {
            return Ok(());
        }
        tracing::info!(
            user,
            common_name = name.as_deref().unwrap_or("none"),
            map,
            "a certificate is of another user"
        );
        Err(Report::fatal("28000", format!("certificate authentication failed for user \"{user}\"")))
    }

    async fn check_peer(&self, stream: &Stream, map: Option<&str>, user: &str) -> Result<(), Report> {
        let failed = || Report::fatal("28000", format!("Peer authentication failed for user \"{user}\""));
        let Stream::Unix(socket) = stream else { return Err(failed()) };
        let uid = socket.peer_cred().map_err(|_| failed())?.uid();
        // The system's list of users may be a file, or a service that is slow.
        let found = tokio::task::spawn_blocking(move || nix::unistd::User::from_uid(uid.into())).await;
        let name = found.ok().and_then(Result::ok).flatten().map(|system_user| system_user.name);
        if name.as_deref().is_some_and(|name| self.idents.allows(map, name, user)) {
            return Ok(());
        }
        tracing::info!(user, uid, system_user = name.as_deref(), map, "a peer is another user");
        Err(failed())
    }
}
