//! A server whose messages come one by one.
//!
//! PostgreSQL sends an ErrorResponse as soon as it has it, and ReadyForQuery later: mostly they are read together, under
//! load they are not. A COMMIT that failed was once answered with 'E' in place of 'I' when they were not, because the session
//! had looked at the error before the server said how the transaction had ended.
//!
//! Invariant: bytes are never changed, only cut apart, at the ends of messages and now and then inside one.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Between two pieces: long enough for a reader that waits to read the first by itself, most of the time.
const PAUSE: Duration = Duration::from_micros(300);

/// Longer messages go on whole: rows by the megabyte are not what this is about.
const APART_BYTES_MAX: usize = 8 * 1024;

/// A relay to the server on `port`: the port where it listens. It ends with the program.
pub fn relay(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            for socket in [&client, &server] {
                socket.set_nodelay(true).expect("a socket takes TCP_NODELAY");
            }
            let (up, down) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            thread::spawn(move || pass_on(up, down));
            thread::spawn(move || drip(server, client));
        }
    });
    own
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

fn drip(mut from: TcpStream, mut to: TcpStream) {
    let mut held = Vec::new();
    let mut block = [0; 16 * 1024];
    let mut pieces = 0usize;
    loop {
        match from.read(&mut block) {
            Ok(n) if n > 0 => held.extend_from_slice(&block[..n]),
            _ => break,
        }
        while !held.is_empty() {
            let whole = message_bytes(&held);
            if whole > held.len() && held.len() < APART_BYTES_MAX {
                break;
            }
            pieces += 1;
            // Every seventh message comes in two.
            let cut = whole.min(held.len());
            let first = if pieces.is_multiple_of(7) && cut > 5 { 3 + pieces % (cut - 4) } else { cut };
            for piece in [&held[..first], &held[first..cut]] {
                if !piece.is_empty() && to.write_all(piece).is_err() {
                    let _ = from.shutdown(Shutdown::Both);
                    return;
                }
                if cut < APART_BYTES_MAX {
                    thread::sleep(PAUSE);
                }
            }
            held.drain(..cut);
        }
    }
    let _ = to.write_all(&held);
    let _ = to.shutdown(Shutdown::Write);
}

/// Of the message at the front, as far as it is known. The answer to a request for TLS is one byte.
fn message_bytes(held: &[u8]) -> usize {
    match held {
        [b'N' | b'S'] => 1,
        [_, a, b, c, d, ..] => 1 + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => 5,
    }
}
