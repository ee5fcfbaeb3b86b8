//! PostgreSQL's pg_hba.conf and pg_ident.conf: who may connect from where to what, and how it proves itself.
//!
//! Invariant: an [`Hba`] exists only when every line of its file is right; what PostgreSQL knows and pgherd does not is
//! refused by name, for a line that is passed over would let somebody in, or keep somebody out.
//!
//! Pure but for reading the file. Not here: the proof itself.
//!
//! Start reading at [`Hba::find`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use crate::document::did_you_mean;
use crate::problems::{Draft, Problems};

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hba {
    rules: Vec<Rule>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// From 1.
    pub line: usize,
    pub method: HbaMethod,
    /// `map=`: the name of a map of system users.
    pub map: Option<String>,
    /// `clientcert=`: beside the method, a certificate.
    pub client_certificate: Option<ClientCertificate>,
    connection: ConnectionType,
    databases: Vec<DatabasePattern>,
    users: Vec<UserPattern>,
    /// `None`: any address, and for unix sockets.
    network: Option<Network>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HbaMethod {
    Trust,
    Reject,
    Md5,
    ScramSha256,
    Password,
    Peer,
    Cert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    VerifyCa,
    /// And its common name is the user's.
    VerifyFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionType {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
    /// Encrypted by GSSAPI, which no connection of ours is.
    HostGss,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum DatabasePattern {
    All,
    SameUser,
    Replication,
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum UserPattern {
    All,
    Name(String),
}

/// An address and which of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    bits: u128,
    mask: u128,
    v6: bool,
}

/// A client at the door.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    pub user: &'a str,
    pub database: &'a str,
    /// `None`: through a unix socket.
    pub address: Option<IpAddr>,
    pub tls: bool,
    /// A physical replication connection, which names no database.
    pub replication: bool,
}

impl Hba {
    /// Reads a file and checks it.
    ///
    /// # Errors
    /// Every problem of the file, or the one that it cannot be read.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::parse(&read(path)?, &path.display().to_string())
    }

    /// # Errors
    /// Every problem, sorted by place.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Problems> {
        let mut draft = Draft::new(text, file_name);
        let lines = lines(text, &mut draft);
        let rules: Vec<_> = lines.iter().filter_map(|fields| rule(fields, &mut draft)).collect();
        draft.finish(Some(Self { rules }))
    }

    /// The first line that is about this client.
    pub fn find(&self, asking: &Asking<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.is_about(asking))
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl Rule {
    fn is_about(&self, asking: &Asking<'_>) -> bool {
        let connection = match (self.connection, asking.address) {
            (ConnectionType::Local, address) => address.is_none(),
            (_, None) | (ConnectionType::HostGss, _) => false,
            (ConnectionType::Host, Some(_)) => true,
            (ConnectionType::HostSsl, Some(_)) => asking.tls,
            (ConnectionType::HostNoSsl, Some(_)) => !asking.tls,
        };
        let network = match (&self.network, asking.address) {
            (Some(network), Some(address)) => network.contains(address),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let database = |pattern: &DatabasePattern| match pattern {
            // As in PostgreSQL: "all" does not mean replication.
            _ if asking.replication => *pattern == DatabasePattern::Replication,
            DatabasePattern::All => true,
            DatabasePattern::SameUser => asking.database == asking.user,
            DatabasePattern::Replication => false,
            DatabasePattern::Name(name) => name == asking.database,
        };
        let user = |pattern: &UserPattern| match pattern {
            UserPattern::All => true,
            UserPattern::Name(name) => name == asking.user,
        };
        connection && network && self.databases.iter().any(database) && self.users.iter().any(user)
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        // A socket for both families shows IPv4 clients as mapped addresses.
        let (bits, v6) = match address.to_canonical() {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), false),
            IpAddr::V6(v6) => (v6.to_bits(), true),
        };
        self.v6 == v6 && (bits ^ self.bits) & self.mask == 0
    }

    fn new(address: IpAddr, mask: u128) -> Self {
        match address {
            IpAddr::V4(v4) => Self { bits: v4.to_bits().into(), mask, v6: false },
            IpAddr::V6(v6) => Self { bits: v6.to_bits(), mask, v6: true },
        }
    }

    fn width(address: IpAddr) -> u32 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    /// The mask of so many leading bits.
    fn prefix(address: IpAddr, length: u32) -> Option<u128> {
        let width = Self::width(address);
        let all = u128::MAX >> (128 - width);
        let host = if length == 0 { all } else { all.checked_shr(length).unwrap_or(0) };
        (length <= width).then_some(all & !host)
    }
}

/// Names of system users, and who they may be in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdentMaps {
    maps: HashMap<String, Vec<(String, String)>>,
}

impl IdentMaps {
    /// # Errors
    /// As [`Hba::load`].
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::parse(&read(path)?, &path.display().to_string())
    }

    /// # Errors
    /// Every problem, sorted by place.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Problems> {
        let mut draft = Draft::new(text, file_name);
        let mut maps: HashMap<String, Vec<(String, String)>> = HashMap::new();
        for fields in lines(text, &mut draft) {
            let mut one = |field: Option<&Vec<Token>>, what: &str| match field.map(Vec::as_slice) {
                Some([token]) if !token.quoted && token.text.starts_with('/') => {
                    draft.push(token.at, "regular expressions are not supported");
                    None
                }
                Some([token]) if !token.quoted && what == "database user" && token.text.starts_with('+') => {
                    draft.push(token.at, "membership in a role (\"+role\") is not supported");
                    None
                }
                Some([token]) => Some(token.text.clone()),
                Some(tokens) => {
                    draft.push(tokens[0].at, format!("must be one {what}"));
                    None
                }
                None => {
                    draft.push(fields[0][0].at, format!("the line ends before its {what}"));
                    None
                }
            };
            let map = one(fields.first(), "map");
            let system = one(fields.get(1), "system user");
            let user = one(fields.get(2), "database user");
            if let Some(more) = fields.get(3) {
                draft.push(more[0].at, "nothing may follow the database user");
            }
            if let (Some(map), Some(system), Some(user)) = (map, system, user) {
                maps.entry(map).or_default().push((system, user));
            }
        }
        draft.finish(Some(Self { maps }))
    }

    /// Whether a system user may be this database user: by the map, or without one by having the same name.
    pub fn allows(&self, map: Option<&str>, system: &str, user: &str) -> bool {
        let Some(map) = map else { return system == user };
        self.maps
            .get(map)
            .is_some_and(|lines| lines.iter().any(|(from, to)| from == system && (to == user || to == "all")))
    }

    pub fn has(&self, map: &str) -> bool {
        self.maps.contains_key(map)
    }
}

fn read(path: &Path) -> Result<String, Problems> {
    use std::io::Read as _;
    let name = path.display().to_string();
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|e| Problems::of_file(&name, format!("cannot read the file: {e}")))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Problems::of_file(&name, format!("the file is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// One word, and whether quotes took its special meaning from it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    at: usize,
    text: String,
    quoted: bool,
}

impl Token {
    fn is(&self, word: &str) -> bool {
        !self.quoted && self.text == word
    }
}

/// The fields of each line that has any; a field is a list of words between commas.
fn lines(text: &str, problems: &mut Draft<'_>) -> Vec<Vec<Vec<Token>>> {
    let mut found = Vec::new();
    let mut fields: Vec<Vec<Token>> = Vec::new();
    let mut chars = text.char_indices().peekable();
    // After a comma the next word belongs to the same field.
    let mut comma = false;
    while let Some(&(at, c)) = chars.peek() {
        match c {
            '\n' => {
                chars.next();
                comma = false;
                if !fields.is_empty() {
                    found.push(std::mem::take(&mut fields));
                }
            }
            '\\' if text[at + 1..].starts_with('\n') || text[at + 1..].starts_with("\r\n") => {
                // The line goes on in the next one.
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
                chars.next();
            }
            '#' => while chars.next_if(|(_, c)| *c != '\n').is_some() {},
            ',' => {
                chars.next();
                comma = !fields.is_empty();
            }
            c if c.is_whitespace() => {
                chars.next();
            }
            _ => {
                let mut token = Token { at, text: String::new(), quoted: c == '"' };
                let mut inside = false;
                while let Some(&(_, c)) = chars.peek() {
                    if c == '\n' || (!inside && (c.is_whitespace() || c == ',' || c == '#')) {
                        break;
                    }
                    chars.next();
                    if c == '"' {
                        // A doubled quote stands for one.
                        if inside && chars.next_if(|(_, c)| *c == '"').is_some() {
                            token.text.push('"');
                        } else {
                            inside = !inside;
                        }
                    } else {
                        token.text.push(c);
                    }
                }
                if inside {
                    problems.push(at, "a quote is not closed");
                }
                match fields.last_mut() {
                    Some(field) if comma => field.push(token),
                    _ => fields.push(vec![token]),
                }
                comma = false;
            }
        }
    }
    if !fields.is_empty() {
        found.push(fields);
    }
    found
}

const METHODS: &[(&str, HbaMethod)] = &[
    ("trust", HbaMethod::Trust),
    ("reject", HbaMethod::Reject),
    ("md5", HbaMethod::Md5),
    ("scram-sha-256", HbaMethod::ScramSha256),
    ("password", HbaMethod::Password),
    ("peer", HbaMethod::Peer),
    ("cert", HbaMethod::Cert),
];

/// PostgreSQL's other methods.
const METHODS_NOT_HERE: &[&str] = &["gss", "sspi", "ident", "ldap", "radius", "pam", "bsd", "oauth"];

const CONNECTION_TYPES: &[(&str, ConnectionType)] = &[
    ("local", ConnectionType::Local),
    ("host", ConnectionType::Host),
    ("hostssl", ConnectionType::HostSsl),
    ("hostnossl", ConnectionType::HostNoSsl),
    ("hostgssenc", ConnectionType::HostGss),
    // No connection of ours is encrypted by GSSAPI, so all are this.
    ("hostnogssenc", ConnectionType::Host),
];

fn rule(fields: &[Vec<Token>], problems: &mut Draft<'_>) -> Option<Rule> {
    let start = fields[0][0].at;
    let line = problems.place(start).line;
    let mut rest = fields.iter();
    let mut next = |what: &str, problems: &mut Draft<'_>| {
        let field = rest.next();
        if field.is_none() {
            problems.push(start, format!("the line ends before its {what}"));
        }
        field
    };

    let word = single(next("connection type", problems)?, "connection type", problems)?;
    let known = CONNECTION_TYPES.iter().find(|(name, _)| word.is(name));
    let Some((_, connection)) = known else {
        if ["include", "include_if_exists", "include_dir"].contains(&word.text.as_str()) {
            problems.push(word.at, format!("\"{}\" is not supported: put the lines here", word.text));
            return None;
        }
        let advice = did_you_mean(&word.text, CONNECTION_TYPES.iter().map(|(name, _)| *name));
        problems.push(word.at, format!("{:?} is not a connection type{advice}", word.text));
        return None;
    };

    let databases = next("database", problems)?;
    let databases: Vec<_> = databases.iter().map(|token| database(token, problems)).collect();
    let users = next("user", problems)?;
    let users: Vec<_> = users.iter().map(|token| user(token, problems)).collect();

    let mut network = Some(None);
    if *connection != ConnectionType::Local {
        let token = single(next("address", problems)?, "address", problems)?;
        network = match address(token, problems) {
            Some(Where::Anywhere) => Some(None),
            Some(Where::In(network)) => Some(Some(network)),
            Some(Where::NeedsMask(ip)) => {
                let token = single(next("mask or method", problems)?, "mask", problems)?;
                match token.text.parse::<IpAddr>() {
                    Ok(mask) if mask.is_ipv4() == ip.is_ipv4() => {
                        let mask = match mask {
                            IpAddr::V4(v4) => v4.to_bits().into(),
                            IpAddr::V6(v6) => v6.to_bits(),
                        };
                        Some(Some(Network::new(ip, mask)))
                    }
                    Ok(_) => {
                        problems.push(token.at, "the mask is of the other address family");
                        None
                    }
                    Err(_) => {
                        problems.push(
                            token.at,
                            format!(
                                "{:?} is not a mask; an address alone is written {ip}/{}",
                                token.text,
                                Network::width(ip)
                            ),
                        );
                        return None;
                    }
                }
            }
            None => None,
        };
    }

    let word = single(next("method", problems)?, "method", problems)?;
    let known = METHODS.iter().find(|(name, _)| word.is(name));
    let method = match known {
        Some((_, method)) => *method,
        // PostgreSQL takes it for peer, too.
        None if word.is("ident") && *connection == ConnectionType::Local => HbaMethod::Peer,
        None if METHODS_NOT_HERE.contains(&word.text.as_str()) => {
            problems.push(word.at, format!("the method \"{}\" is not supported", word.text));
            return None;
        }
        None => {
            let advice = did_you_mean(&word.text, METHODS.iter().map(|(name, _)| *name));
            problems.push(word.at, format!("{:?} is not a method{advice}", word.text));
            return None;
        }
    };
    if method == HbaMethod::Peer && *connection != ConnectionType::Local {
        problems.push(word.at, "the method \"peer\" is for local lines only");
    }
    if method == HbaMethod::Cert && *connection != ConnectionType::HostSsl {
        problems.push(word.at, "the method \"cert\" is for hostssl lines only");
    }

    let mut rule = Rule {
        line,
        method,
        map: None,
        client_certificate: (method == HbaMethod::Cert).then_some(ClientCertificate::VerifyFull),
        connection: *connection,
        databases: Vec::new(),
        users: Vec::new(),
        network: None,
    };
    for field in rest {
        for token in field {
            option(token, &mut rule, problems);
        }
    }
    rule.databases = databases.into_iter().collect::<Option<_>>()?;
    rule.users = users.into_iter().collect::<Option<_>>()?;
    rule.network = network?;
    Some(rule)
}

fn single<'t>(field: &'t [Token], what: &str, problems: &mut Draft<'_>) -> Option<&'t Token> {
    match field {
        [token] => Some(token),
        _ => {
            problems.push(field[0].at, format!("the {what} must be one word"));
            None
        }
    }
}

fn option(token: &Token, rule: &mut Rule, problems: &mut Draft<'_>) {
    let Some((name, value)) = token.text.split_once('=') else {
        problems.push(token.at, format!("{:?} is not an option: name=value", token.text));
        return;
    };
    match (name, value) {
        ("map", _) if matches!(rule.method, HbaMethod::Peer | HbaMethod::Cert) => {
            rule.map = Some(value.into())
        }
        ("map", _) => problems.push(token.at, "the option \"map\" is for the methods peer and cert"),
        ("clientcert", "verify-ca" | "verify-full") if rule.connection != ConnectionType::HostSsl => {
            problems.push(token.at, "the option \"clientcert\" is for hostssl lines only");
        }
        ("clientcert", "verify-ca") if rule.method == HbaMethod::Cert => {
            problems.push(token.at, "with the method \"cert\", clientcert is always verify-full");
        }
        ("clientcert", "verify-ca") => rule.client_certificate = Some(ClientCertificate::VerifyCa),
        ("clientcert", "verify-full") => rule.client_certificate = Some(ClientCertificate::VerifyFull),
        ("clientcert", _) => {
            problems.push(token.at, format!("clientcert must be verify-ca or verify-full, but is {value:?}"));
        }
        _ => problems.push(token.at, format!("the option {name:?} is not supported")),
    }
}

fn database(token: &Token, problems: &mut Draft<'_>) -> Option<DatabasePattern> {
    if token.quoted {
        return Some(DatabasePattern::Name(token.text.clone()));
    }
    match token.text.as_str() {
        "all" => Some(DatabasePattern::All),
        "sameuser" => Some(DatabasePattern::SameUser),
        "replication" => Some(DatabasePattern::Replication),
        "samerole" | "samegroup" => {
            problems.push(token.at, format!("\"{}\" is not supported", token.text));
            None
        }
        name => plain(name, token.at, problems).map(DatabasePattern::Name),
    }
}

fn user(token: &Token, problems: &mut Draft<'_>) -> Option<UserPattern> {
    match token.text.as_str() {
        name if token.quoted => Some(UserPattern::Name(name.into())),
        "all" => Some(UserPattern::All),
        name if name.starts_with('+') => {
            problems.push(token.at, "membership in a role (\"+role\") is not supported");
            None
        }
        name => plain(name, token.at, problems).map(UserPattern::Name),
    }
}

fn plain(name: &str, at: usize, problems: &mut Draft<'_>) -> Option<String> {
    match name.chars().next() {
        Some('@') => problems.push(at, "names from another file (\"@file\") are not supported"),
        Some('/') => problems.push(at, "regular expressions are not supported"),
        _ => return Some(name.into()),
    }
    None
}

enum Where {
    Anywhere,
    In(Network),
    NeedsMask(IpAddr),
}

fn address(token: &Token, problems: &mut Draft<'_>) -> Option<Where> {
    if token.is("all") {
        return Some(Where::Anywhere);
    }
    if token.is("samehost") || token.is("samenet") {
        problems.push(token.at, format!("\"{}\" is not supported: name the addresses", token.text));
        return None;
    }
    let (ip, length) = match token.text.split_once('/') {
        Some((ip, length)) => (ip, Some(length)),
        None => (token.text.as_str(), None),
    };
    let Ok(ip) = ip.parse::<IpAddr>() else {
        let why = if ip.contains([':', '%']) || ip.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            format!("{ip:?} is not an address")
        } else {
            format!("host names ({:?}) are not supported: name the addresses", token.text)
        };
        problems.push(token.at, why);
        return None;
    };
    let Some(length) = length else { return Some(Where::NeedsMask(ip)) };
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let mask = length.parse().ok().filter(|_| digits).and_then(|length| Network::prefix(ip, length));
    if mask.is_none() {
        let width = Network::width(ip);
        problems.push(
            token.at,
            format!("the length of the network must be from 0 to {width}, but is {length:?}"),
        );
    }
    mask.map(|mask| Where::In(Network::new(ip, mask)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        match Hba::parse(text, "f") {
            Ok(_) => Vec::new(),
            Err(problems) => problems.lines().map(|line| line.replacen("f:", "", 1)).collect(),
        }
    }

    #[test]
    fn the_first_line_that_is_about_a_client_decides() {
        let hba = Hba::parse(
            "# TYPE  DATABASE  USER  ADDRESS  METHOD\n\
             local   all       all                       peer  map=ops\n\
             host    shop      app,\"all\"  10.0.0.0/8   scram-sha-256\n\
             host    shop,crm  reports   10.1.2.3 255.255.255.255  md5\n\
             hostssl all       all       ::1/128         cert\n\
             hostnossl all     all       ::1/128         reject\n\
             host    sameuser  all       192.168.0.0/16  password\n\
             host    replication all     all             trust\n\
             host    \"replication\" all 127.0.0.1/32    trust\n\
             hostgssenc all    all       all             reject\n\
             host    all       bob       0.0.0.0/0       \\\n\
                     trust\n",
            "f",
        )
        .expect("a good file");
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let cases = [
            ("a socket", None, "shop", "app", false, Some(2)),
            ("in the network", ip("10.9.9.9"), "shop", "app", false, Some(3)),
            ("a user called all", ip("10.9.9.9"), "shop", "all", false, Some(3)),
            ("a quoted all is a name", ip("10.9.9.9"), "shop", "carol", false, None),
            ("one address by its mask", ip("10.1.2.3"), "crm", "reports", false, Some(4)),
            ("mapped IPv4", ip("::ffff:10.1.2.3"), "crm", "reports", false, Some(4)),
            ("outside", ip("11.1.2.3"), "crm", "reports", false, None),
            ("TLS", ip("::1"), "x", "y", true, Some(5)),
            ("no TLS", ip("::1"), "x", "y", false, Some(6)),
            ("same name", ip("192.168.4.4"), "y", "y", false, Some(7)),
            ("another name", ip("192.168.4.4"), "x", "y", false, None),
            ("a database called replication", ip("127.0.0.1"), "replication", "y", false, Some(9)),
            ("a line in two", ip("1.2.3.4"), "x", "bob", false, Some(11)),
        ];
        for (why, address, database, user, tls, line) in cases {
            let asking = Asking { user, database, address, tls, replication: false };
            assert_eq!(hba.find(&asking).map(|rule| rule.line), line, "{why}");
        }
        let physical =
            Asking { user: "r", database: "", address: ip("127.0.0.1"), tls: false, replication: true };
        assert_eq!(hba.find(&physical).map(|rule| rule.line), Some(8));
        let first = &hba.rules()[0];
        assert_eq!((first.method, first.map.as_deref()), (HbaMethod::Peer, Some("ops")));
        assert_eq!(hba.rules()[3].client_certificate, Some(ClientCertificate::VerifyFull));
    }

    #[test]
    fn all_problems_are_said_at_once_with_their_line() {
        let found = problems(
            "hots all all 10.0.0.0/8 trust\n\
             host all all 10.0.0.0/33 trust\n\
             host all all 10.0.0.1 trust\n\
             host all all example.com trust\n\
             host all +ops samenet ldap\n\
             host all\n\
             local all all cert\n\
             host @list all all md5 map=x\n\
             hostssl all all all scram-sha-256 clientcert=yes pamservice=x\n\
             host all all 10.0.0.1 ffff:: peer\n\
             local all \"open peer\n\
             host all all 1.2.3 trsut\n",
        );
        let expected = [
            "1:1: \"hots\" is not a connection type; did you mean \"host\"?",
            "2:14: the length of the network must be from 0 to 32, but is \"33\"",
            "3:23: \"trust\" is not a mask; an address alone is written 10.0.0.1/32",
            "4:14: host names (\"example.com\") are not supported: name the addresses",
            "5:10: membership in a role (\"+role\") is not supported",
            "5:15: \"samenet\" is not supported: name the addresses",
            "5:23: the method \"ldap\" is not supported",
            "6:1: the line ends before its user",
            "7:15: the method \"cert\" is for hostssl lines only",
            "8:6: names from another file (\"@file\") are not supported",
            "8:24: the option \"map\" is for the methods peer and cert",
            "9:35: clientcert must be verify-ca or verify-full, but is \"yes\"",
            "9:50: the option \"pamservice\" is not supported",
            "10:23: the mask is of the other address family",
            "10:30: the method \"peer\" is for local lines only",
            "11:1: the line ends before its method",
            "11:11: a quote is not closed",
            "12:14: \"1.2.3\" is not an address",
            "12:20: \"trsut\" is not a method; did you mean \"trust\"?",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_map_says_who_a_system_user_may_be() {
        let maps = IdentMaps::parse("ops root admin\nops ann app # and more\n\nall bob all\n", "f").unwrap();
        let cases = [
            ("the map's line", Some("ops"), "root", "admin", true),
            ("another user", Some("ops"), "root", "app", false),
            ("any user", Some("all"), "bob", "app", true),
            ("no such map", Some("none"), "root", "root", false),
            ("the same name, without a map", None, "app", "app", true),
            ("the same name, with a map", Some("ops"), "app", "app", false),
        ];
        for (why, map, system, user, expected) in cases {
            assert_eq!(maps.allows(map, system, user), expected, "{why}");
        }
        let problems = IdentMaps::parse("ops root\nops /^a b\nops a b c\n", "f").unwrap_err();
        let lines: Vec<String> = problems.lines().collect();
        assert_eq!(
            lines,
            [
                "f:1:1: the line ends before its database user",
                "f:2:5: regular expressions are not supported",
                "f:3:9: nothing may follow the database user",
            ]
        );
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        let text = "host all all 10.0.0.0/8 md5 map=x \"a\"\"b\",c \\\n # x\nlocal a,,b c peer\n";
        let mut seed = 1_u64;
        for _ in 0..2_000 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = b"\"\\\n#,/=@+ \xc3\xa9"[(seed >> 20) as usize % 12];
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let _ = Hba::parse(&text, "f");
            let _ = IdentMaps::parse(&text, "f");
        }
    }
}
