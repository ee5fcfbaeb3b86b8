//! PgBouncer's own file and flags.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::raw::*;
use crate::*;

#[test]
fn pgbouncers_file_and_flags_are_enough() {
    let place = Place::new();
    place.start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let ini = format!(
        "[databases]\none = host=127.0.0.1 port={} dbname={}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
         unix_socket_dir =\nauth_type = trust\nauth_file = users.txt\npool_mode = transaction\nadmin_users = app\n\
         pidfile = {}\nlogfile = {}\nserver_idle_timeout = 60\n",
        herd().port(0),
        place.on_server("one"),
        place.port,
        path("pid").display(),
        path("log").display(),
    );
    std::fs::write(path("pgbouncer.ini"), ini).expect("a file");
    let password = herd().env().into_iter().find(|(name, _)| *name == "APP_PASSWORD").expect("a password").1;
    std::fs::write(path("users.txt"), format!("\"app\" \"{password}\"\n")).expect("a file");
    std::os::unix::fs::symlink(program(), path("pgbouncer")).expect("a link");

    let said = Command::new(path("pgbouncer")).arg("-V").output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&said.stdout).lines().next(), Some("PgBouncer 1.25.2"));
    let printed = Command::new(program()).arg("import").arg(path("pgbouncer.ini")).output().expect("it runs");
    assert!(printed.status.success(), "{printed:?}");
    let toml = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(toml.contains("idle_timeout = \"60s\"") && toml.contains("# pidfile: no effect here"), "{toml}");

    let start = |flags: &[&str]| {
        let mut command = Command::new(path("pgbouncer"));
        command.args(flags).arg(path("pgbouncer.ini")).stderr(Stdio::null());
        herd().keeper().spawn(command).expect("it starts")
    };
    let pid = || std::fs::read_to_string(path("pid")).unwrap_or_default().trim().to_owned();
    let mut first = start(&["-q"]);
    until("it serves", || !pid().is_empty());
    let mut client = Wire::tcp(place.port);
    client.start("app", "one", &[]);
    client.run("SELECT 1");
    let mut boss = Wire::tcp(place.port);
    boss.start("app", "pgbouncer", &[]);
    assert_eq!(cell(&mut boss, "SHOW CONFIG", "key", "server_idle_timeout", "value"), "60");
    drop(boss);

    // -R: another one takes over; who is connected stays until it leaves.
    let before = pid();
    let mut second = start(&["-R", "-v"]);
    until("another one has taken over", || pid() != before && !pid().is_empty());
    client.run("SELECT 1");
    drop(client);
    until("the first ends", || {
        first.try_wait().is_ok_and(|ended| ended.is_some_and(|status| status.success()))
    });
    let mut client = Wire::tcp(place.port);
    client.start("app", "one", &[]);
    client.run("SELECT 1");
    assert_eq!(pid(), second.id().to_string());
    let sent = Command::new("kill").args(["-INT", &pid()]).status().expect("kill runs");
    assert!(sent.success());
    until("the second ends", || second.try_wait().is_ok_and(|ended| ended.is_some()));
    assert!(!path("pid").exists());
    std::thread::sleep(Duration::from_millis(10));
}

/// A file of PgBouncer's, served with a unix socket in the same folder.
struct Ini {
    folder: tempfile::TempDir,
    port: u16,
    process: std::process::Child,
}

impl Ini {
    fn serve(port: u16, ini: &str, users: &str) -> Self {
        // Short: a socket's path has its limit.
        let folder = tempfile::Builder::new().prefix("pgb").tempdir_in("/tmp").expect("a folder");
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(folder.path().join("userlist.txt"), users).expect("a file");
        std::fs::write(&file, ini.replace("FOLDER", &folder.path().display().to_string())).expect("a file");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let mut command = Command::new(program());
        command.arg("serve").arg(&file).stderr(log);
        let process = herd().keeper().spawn(command).expect("it starts");
        let mut ini = Self { folder, port, process };
        until("it serves", || {
            let ended = ini.process.try_wait().expect("our child");
            assert_eq!(ended, None, "{}", ini.log());
            ini.socket().exists()
        });
        ini
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{}", self.port))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn console(&self) -> Wire {
        let mut boss = Wire::unix(&self.socket());
        boss.start("pgbouncer", "pgbouncer", &[]);
        boss
    }

    fn login(&self, database: &str) -> Wire {
        let mut wire = Wire::unix(&self.socket());
        wire.start("app", database, &[]);
        wire
    }
}

impl Drop for Ini {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_file_that_debian_ships_starts_as_it_is_and_its_console_needs_no_password_of_the_same_user() {
    // What the package's /etc/pgbouncer/pgbouncer.ini says beside comments, with other places.
    let port = free_port();
    let ini = format!(
        "[databases]\n\n[users]\n\n[pgbouncer]\nlogfile = FOLDER/pgbouncer.log\npidfile = FOLDER/pgbouncer.pid\n\
         listen_addr = localhost\nlisten_port = {port}\nunix_socket_dir = FOLDER\nauth_type = md5\n\
         auth_file = FOLDER/userlist.txt\n"
    );
    let served = Ini::serve(port, &ini, "");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(served.socket()).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o777, "as PgBouncer's unix_socket_mode");
    let mut boss = served.console();
    assert_eq!(boss.value("SHOW VERSION").as_deref(), Ok("PgBouncer 1.25.2"));
    assert_eq!(cell(&mut boss, "SHOW CONFIG", "key", "auth_type", "value"), "md5");
    assert_eq!(table(&mut boss, "SHOW DATABASES").len(), 1);
    for show in ["STATS", "POOLS", "LISTS", "USERS", "CLIENTS", "SERVERS", "TOTALS", "STATE"] {
        table(&mut boss, &format!("SHOW {show}"));
    }
    // By TCP, or under another name, it has to prove itself as everybody has.
    let mut stranger = Wire::tcp(port);
    stranger.send(&startup(196_608, "pgbouncer", "pgbouncer", &[]));
    assert_eq!(stranger.until(b'R').last().map(|m| m.body[..4].to_vec()), Some(vec![0, 0, 0, 5]));
    let mut stranger = Wire::unix(&served.socket());
    stranger.send(&startup(196_608, "postgres", "pgbouncer", &[]));
    assert_eq!(stranger.until(b'R').last().map(|m| m.body[..4].to_vec()), Some(vec![0, 0, 0, 5]));
    let mut stranger = Wire::unix(&served.socket());
    stranger.send(&startup(196_608, "pgbouncer", "shop", &[]));
    assert_eq!(stranger.until(b'R').last().map(|m| m.body[..4].to_vec()), Some(vec![0, 0, 0, 5]));
}

#[test]
fn what_a_database_of_pgbouncers_file_says_is_so() {
    let place = Place::new();
    place.start();
    let port = free_port();
    let password = herd().env().into_iter().find(|(name, _)| *name == "APP_PASSWORD").expect("a password").1;
    let (server, one, two) = (herd().port(0), place.on_server("one"), place.on_server("two"));
    let dead = free_port();
    let ini = format!(
        "[databases]\none = host=127.0.0.1 port={server} dbname={one} pool_size=3 timezone=Asia/Tokyo \
         connect_query='SET work_mem = ''5MB'''\n\
         forced = host=127.0.0.1 port={server} dbname={two} user=app password={password}\n\
         broken = host=127.0.0.1 port={server} dbname={two} connect_query='SELECT nonsense'\n\
         several = host=127.0.0.2,127.0.0.1 port={server} dbname={one}\n\
         away = host=127.0.0.1 port={dead} dbname={one}\n\
         * = host=127.0.0.1 port={server}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = FOLDER\nunix_socket_mode = 0700\n\
         auth_type = trust\nauth_file = FOLDER/userlist.txt\npool_mode = transaction\nquery_wait_timeout = 2\n"
    );
    let served = Ini::serve(port, &ini, &format!("\"app\" \"{password}\"\n\"other\" \"\"\n"));
    let mut boss = served.console();
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(served.socket()).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    // connect_query and settings of the startup packet; RESET goes back to the latter.
    let mut client = served.login("one");
    assert_eq!(client.value("SHOW work_mem").as_deref(), Ok("5MB"));
    assert_eq!(client.value("SHOW TimeZone").as_deref(), Ok("Asia/Tokyo"));
    client.run("SET TimeZone = 'UTC'");
    client.run("RESET TimeZone");
    assert_eq!(client.value("SHOW TimeZone").as_deref(), Ok("Asia/Tokyo"));
    // One that fails is logged, and the connection is used.
    assert_eq!(served.login("broken").value("SELECT 1").as_deref(), Ok("1"));
    assert!(served.log().contains("connect_query failed"), "{}", served.log());

    // Whoever comes, one role logs in.
    let mut other = Wire::tcp(port);
    other.start("other", "forced", &[]);
    assert_eq!(other.value("SELECT current_user").as_deref(), Ok("app"));
    assert_eq!(cell(&mut boss, "SHOW DATABASES", "name", "forced", "force_user"), "app");

    // A host that is away is passed over. (Nobody listens at 127.0.0.2.)
    let mut several = served.login("several");
    assert_eq!(several.value("SELECT 1").as_deref(), Ok("1"));
    assert_eq!(cell(&mut boss, "SHOW DATABASES", "name", "several", "load_balance_hosts"), "round-robin");
    assert_eq!(cell(&mut boss, "SHOW DATABASES", "name", "several", "host"), "127.0.0.2,127.0.0.1");
    let refused = error_of(&several.query("LISTEN x")).unwrap_or_default();
    assert!(refused.starts_with("0A000 cannot listen in a database that has several hosts"), "{refused}");

    // Any other name is the server's own.
    let mut any = served.login(&two);
    assert_eq!(any.value("SELECT current_database()").as_ref(), Ok(&two));
    assert_eq!(cell(&mut boss, "SHOW DATABASES", "name", &two, "database"), two);
    let mut nobody = Wire::tcp(port);
    nobody.send(&startup(196_608, "app", "nosuch", &[]));
    let error = error_of(&nobody.until(0)).unwrap_or_default();
    assert!(error.starts_with("3D000 "), "{error}");
    // It stays over RELOAD, and goes when it is not used.
    boss.run("RELOAD");
    assert_eq!(any.value("SELECT current_database()").as_ref(), Ok(&two));
    drop(any);
    boss.run("SET autodb_idle_timeout = 1");
    until("it is forgotten", || {
        let names = table(&mut boss, "SHOW DATABASES");
        !names.iter().any(|row| row[0].1.as_ref() == Some(&two))
    });
    assert_eq!(served.login(&two).value("SELECT current_database()").as_ref(), Ok(&two), "and comes back");
}

#[test]
fn set_changes_what_pgbouncers_file_says_until_it_is_read_again() {
    let place = Place::new();
    place.start();
    let port = free_port();
    let password = herd().env().into_iter().find(|(name, _)| *name == "APP_PASSWORD").expect("a password").1;
    let ini = format!(
        "[databases]\none = host=127.0.0.1 port={} dbname={}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = FOLDER\nauth_type = trust\n\
         auth_file = FOLDER/userlist.txt\npool_mode = session\ndefault_pool_size = 7\n",
        herd().port(0),
        place.on_server("one")
    );
    let served = Ini::serve(port, &ini, &format!("\"app\" \"{password}\"\n"));
    let mut boss = served.console();
    let mut config = |key: &str| {
        let mut of = |column: &str| cell(&mut boss, "SHOW CONFIG", "key", key, column);
        (of("value"), of("changeable"))
    };
    let pair = |value: &str, changeable: &str| (value.to_owned(), changeable.to_owned());
    assert_eq!(config("default_pool_size"), pair("7", "yes"));
    assert_eq!(config("pool_mode"), pair("session", "yes"));
    assert_eq!(config("listen_port"), pair(&port.to_string(), "no"));
    assert_eq!(config("tcp_keepidle"), pair("0", "no"));
    assert_eq!(config("stats_period"), pair("60", "no"));

    // In session mode the client keeps its server.
    let mut first = served.login("one");
    first.run("SELECT 1");
    let busy = |boss: &mut Wire| cell(boss, "SHOW POOLS", "database", "one", "sv_active");
    assert_eq!(busy(&mut boss), "1");
    let said = boss.query("SET pool_mode = 'transaction'");
    assert_eq!(error_of(&said), None);
    let tag = said.iter().find(|m| m.kind == b'C').map(|m| m.body.clone());
    assert_eq!(tag.as_deref(), Some(&b"SET pool_mode=transaction\0"[..]));
    drop(first);
    let mut second = served.login("one");
    second.run("SELECT 1");
    until("nobody keeps a server", || busy(&mut boss) == "0");
    assert_eq!(cell(&mut boss, "SHOW DATABASES", "name", "one", "pool_mode"), "transaction");

    for (command, wanted) in [
        ("SET default_pool_size = 3", None),
        ("SET query_timeout = 0.25", None),
        ("SET auth_type = 'md5'", None),
        ("SET max_prepared_statements TO '0'", None),
        ("SET default_pool_size = many", Some("08P01 SET failed")),
        ("SET pool_mode = 'none'", Some("08P01 SET failed")),
        ("SET listen_port = 1", Some("08P01 SET failed")),
        ("SET disable_pqexec = 1", Some("08P01 SET failed")),
        ("SET colour = 1", Some("08P01 SET failed")),
    ] {
        assert_eq!(error_of(&boss.query(command)).as_deref(), wanted, "{command}");
    }
    // What changes nothing says so.
    let said = boss.query("SET log_connections = 0");
    assert_eq!(said.iter().map(|m| m.kind as char).collect::<String>(), "NCZ", "{}", show(&said));
    assert_eq!(cell(&mut boss, "SHOW CONFIG", "key", "log_connections", "value"), "1");
    let error = second.value("SELECT pg_sleep(5)").unwrap_err();
    assert!(error.starts_with("57014 "), "{error}");
    let mut stranger = Wire::tcp(port);
    stranger.send(&startup(196_608, "app", "one", &[]));
    assert_eq!(stranger.until(b'R').last().map(|m| m.body[..4].to_vec()), Some(vec![0, 0, 0, 5]), "md5");

    boss.run("RELOAD");
    assert_eq!(cell(&mut boss, "SHOW CONFIG", "key", "default_pool_size", "value"), "7");
    assert_eq!(cell(&mut boss, "SHOW CONFIG", "key", "auth_type", "value"), "trust");
    served.login("one").run("SELECT 1");
}
