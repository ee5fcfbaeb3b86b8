//! Everything between accept and the first ReadyForQuery, with psql and with real servers: TLS on both sides, unix
//! sockets, every authentication method, the HBA file, users that a server is asked for.
//!
//! The judge of what psql does is psql; of what a server sees, its own `pg_stat_ssl` and its log.
//!
//! Start reading at [`Stage`].

mod raw;

#[path = "getting_in/methods.rs"]
mod methods;
#[path = "getting_in/tls.rs"]
mod tls;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use pgherd::demo::servers::{Herd, HerdOptions};
use raw::Endpoint;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// The first server speaks TLS, the second does not.
pub const SECURE: usize = 0;
pub const OPEN: usize = 1;

pub struct Stage {
    pub herd: Herd,
    pub ca: Authority,
    /// Who signs nothing that anybody trusts.
    pub stranger: Authority,
}

/// Signs certificates, and writes them where everybody can read them.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub root: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let root = folder.join(format!("{name}.crt"));
        fs::write(&root, certificate.pem()).expect("the folder can be written");
        Self { issuer: Issuer::new(params, key), root }
    }

    /// The files of a certificate for a common name and other names, and of its key.
    pub fn sign(&self, folder: &Path, file: &str, common: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let paths = (folder.join(format!("{file}.crt")), folder.join(format!("{file}.key")));
        fs::write(&paths.0, certificate.pem()).expect("the folder can be written");
        fs::write(&paths.1, key.serialize_pem()).expect("the folder can be written");
        // libpq and PostgreSQL insist.
        fs::set_permissions(&paths.1, fs::Permissions::from_mode(0o600)).expect("our own file");
        paths
    }
}

/// One for all tests of this program.
pub fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let herd = Herd::start(2, HerdOptions::default()).expect("a herd of PostgreSQL servers");
        let ca = Authority::new(herd.folder(), "ca");
        let stranger = Authority::new(herd.folder(), "stranger");
        let data = data_folder(&herd, SECURE);
        let (certificate, key) = ca.sign(&data, "server", "localhost", &["localhost", "127.0.0.1"]);
        let owner = fs::metadata(&data).expect("a data folder");
        for file in [&certificate, &key] {
            std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).expect("given away");
        }
        // Who is not named below proves itself by SCRAM, over TLS or without.
        let hba = "local all all trust\n\
             hostssl all only_tls all scram-sha-256\n\
             hostnossl all only_plain all scram-sha-256\n\
             host all only_tls,only_plain all reject\n\
             host all by_md5 all md5\n\
             host all in_clear all password\n\
             host all all all scram-sha-256\n";
        for server in [SECURE, OPEN] {
            fs::write(data_folder(&herd, server).join("pg_hba.conf"), hba).expect("the file is written");
            let sql = "CREATE ROLE only_tls LOGIN PASSWORD 'secret'; CREATE ROLE only_plain LOGIN PASSWORD 'secret';\n\
                       CREATE ROLE in_clear LOGIN PASSWORD 'secret'; CREATE ROLE rotated LOGIN PASSWORD 'new';\n\
                       CREATE ROLE through LOGIN PASSWORD 'secret'; CREATE ROLE \"Guest\" LOGIN PASSWORD 'guest';\n\
                       CREATE ROLE expired LOGIN PASSWORD 'secret' VALID UNTIL '2001-01-01';\n\
                       CREATE ROLE asker LOGIN PASSWORD 'asker' IN ROLE pg_read_all_data;\n\
                       SET password_encryption = md5; CREATE ROLE by_md5 LOGIN PASSWORD 'secret';\n\
                       GRANT SELECT ON pg_authid TO asker";
            herd.psql(server, sql).expect("roles");
        }
        herd.psql(SECURE, "ALTER SYSTEM SET ssl = on").expect("TLS is turned on");
        for server in [SECURE, OPEN] {
            herd.psql(server, "SELECT pg_reload_conf()").expect("a reload");
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while herd.psql(SECURE, "SHOW ssl").expect("an answer") != "on" {
            assert!(std::time::Instant::now() < deadline, "the server does not turn TLS on");
        }
        Stage { herd, ca, stranger }
    })
}

fn data_folder(herd: &Herd, server: usize) -> PathBuf {
    herd.folder().join(format!("s{server}")).join("data")
}

impl Stage {
    /// Serves: `head` is what stands before the databases; `databases` are names and addresses.
    pub fn serve(&self, head: &str, databases: &[(&str, &str)]) -> Endpoint {
        let port = raw::free_port();
        let mut text = head.replace("PORT", &port.to_string());
        for (name, address) in databases {
            text += &format!("\n[[databases.{name}.shards]]\nname = \"s0\"\nprimary = \"{address}\"\n");
        }
        Endpoint::start(&self.herd, port, &text)
    }

    /// A server's address with parameters.
    pub fn address(&self, server: usize, parameters: &str) -> String {
        format!("{}{parameters}", self.herd.address(server))
    }

    pub fn app_password(&self) -> &str {
        &self.herd.options().app_password
    }

    /// psql's answer, or what it complained about.
    pub fn psql(&self, connection: &str, password: &str, sql: &str) -> Result<String, String> {
        let mut command: Command = self.herd.binaries().command("psql");
        command.args(["-X", "-A", "-t", "-d", connection, "-c", sql]);
        command.env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "10");
        // Nothing of who runs this.
        command.env("HOME", self.herd.folder());
        let output = command.output().expect("psql runs");
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let mut words = said.lines().filter_map(|line| line.rsplit_once(": FATAL:  ").map(|(_, said)| said));
        Err(words.next_back().map_or_else(|| said.trim_end().to_owned(), str::to_owned))
    }
}
