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
