//! What systemd is told (sd_notify(3)): that clients are served, that the file is read again, that this is the end.
//!
//! Without `$NOTIFY_SOCKET` nobody is told anything. Nothing here can fail in a way that matters.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

pub fn ready() {
    tell(&format!("READY=1\nMAINPID={}", std::process::id()));
}

pub fn reloading() {
    tell("RELOADING=1");
}

pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = address.as_encoded_bytes();
    // A name that begins with '@' is in Linux' abstract namespace.
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&address),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(e) = sent {
        tracing::warn!(error = %e, "systemd could not be told");
    }
}
