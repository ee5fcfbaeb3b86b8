//! Another pgherd takes over, and systemd is told.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::raw::*;
use crate::*;

#[test]
fn a_new_pgherd_takes_over_and_neither_a_new_nor_a_connected_client_sees_an_error() {
    let mut place = Place::new();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("a folder");
    place.pool = "size = 4".into();
    place.server = "drain = \"clients\"".into();
    let text = place.text().replace(
        &format!("listen = [\"127.0.0.1:{}\"]", place.port),
        &format!(
            "listen = [\"127.0.0.1:{}\", \"unix:{}:{}\"]",
            place.port,
            folder.path().display(),
            place.port
        ),
    );
    let socket = folder.path().join(format!(".s.PGSQL.{}", place.port));
    place.start();
    let mut old = Endpoint::start(herd(), place.port, &text);

    let stop = AtomicBool::new(false);
    let logins = AtomicUsize::new(0);
    thread::scope(|scope| {
        // Some stay connected, some come and go, by either way.
        for n in 0..4 {
            let (stop, logins, socket) = (&stop, &logins, &socket);
            let port = place.port;
            scope.spawn(move || {
                let enter = || {
                    let mut wire = if n % 2 == 0 { Wire::tcp(port) } else { Wire::unix(socket) };
                    wire.start("app", "one", &[]);
                    wire
                };
                let mut wire = enter();
                while !stop.load(Ordering::Relaxed) {
                    wire.run("SELECT 1");
                    if n < 2 {
                        wire = enter();
                        logins.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        let mut new = Endpoint::start_with(herd(), place.port, &text, "-new", &["--beside"], &[]);
        thread::sleep(Duration::from_millis(100));
        old.signal("TERM");
        thread::sleep(Duration::from_millis(700));
        // Those who stay are the old one's still.
        assert_eq!(old.ends_within(Duration::ZERO), None);
        let before = logins.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(300));
        assert!(logins.load(Ordering::Relaxed) > before, "clients come in");
        stop.store(true, Ordering::Relaxed);
        assert!(
            old.ends_within(Duration::from_secs(5)).is_some_and(|ended| ended.success()),
            "{}",
            old.log()
        );
        assert!(socket.exists(), "the socket is the new one's");
        Wire::unix(&socket).start("app", "one", &[]);
        new.assert_well();
        new.signal("TERM");
        assert!(new.ends_within(Duration::from_secs(5)).is_some());
        assert!(!socket.exists());
    });
}

#[test]
fn without_being_asked_a_second_pgherd_does_not_share_an_address() {
    let place = Place::new();
    let first = place.start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), place.text()).expect("a file");
    let second = std::process::Command::new(program())
        .arg("serve")
        .arg(file.path())
        .env("APP_PASSWORD", "x")
        .output()
        .expect("pgherd runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("cannot listen on"), "{said}");
    first.login("one").run("SELECT 1");
}

#[test]
fn systemd_is_told_when_it_serves_and_when_it_stops() {
    let place = Place::new();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let heard = || {
        let mut buffer = [0; 200];
        let n = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    place.start();
    let environment = [("NOTIFY_SOCKET", path.to_str().expect("a path"))];
    let mut endpoint = Endpoint::start_with(herd(), place.port, &place.text(), "", &[], &environment);
    assert!(heard().starts_with("READY=1"));
    endpoint.signal("HUP");
    assert_eq!(heard(), "RELOADING=1");
    assert!(heard().starts_with("READY=1"));
    endpoint.signal("TERM");
    assert_eq!(heard(), "STOPPING=1");
    assert!(endpoint.ends_within(Duration::from_secs(3)).is_some());
}
