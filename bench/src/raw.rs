//! As little of the protocol as a load and a stub need: logging in with trust, one simple query, and frames.
//!
//! Invariant: an answer that is not the expected one is an error, never counted.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A frame of either side longer than this is a mistake.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Nothing that is waited for here takes that long.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The first whole frame of `bytes`, with its type, and its length in all.
///
/// # Errors
/// A length that cannot be.
pub fn frame(bytes: &[u8]) -> io::Result<Option<(u8, usize)>> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if !(4..=FRAME_BYTES_MAX).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    Ok((bytes.len() > length).then_some((*kind, 1 + length)))
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn startup(user: &str, database: &str) -> Vec<u8> {
    let parameters = ["user", user, "database", database, ""].map(|word| [word.as_bytes(), b"\0"].concat());
    let body = [&196_608_u32.to_be_bytes()[..], &parameters.concat()].concat();
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

/// Takes whole frames from the front of `bytes`; how many were ReadyForQuery.
///
/// # Errors
/// What an ErrorResponse says; a frame that cannot be.
pub fn take_answers(bytes: &mut Vec<u8>) -> io::Result<u32> {
    let (mut at, mut ready) = (0, 0);
    while let Some((kind, length)) = frame(&bytes[at..])? {
        match kind {
            b'Z' => ready += 1,
            b'E' => {
                let said = String::from_utf8_lossy(&bytes[at + 5..at + length]).replace('\0', " ");
                return Err(io::Error::other(said));
            }
            _ => {}
        }
        at += length;
    }
    bytes.drain(..at);
    Ok(ready)
}

/// A connection that blocks.
#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Through a door that asks for nothing.
    ///
    /// # Errors
    /// As the sockets', and what the other side says.
    pub fn connect(address: SocketAddr, user: &str, database: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut client = Self { stream, unread: Vec::new() };
        client.send(&startup(user, database))?;
        client.wait()?;
        Ok(client)
    }

    /// # Errors
    /// As the socket's.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Until the next ReadyForQuery.
    ///
    /// # Errors
    /// As the socket's, and what an ErrorResponse says.
    pub fn wait(&mut self) -> io::Result<()> {
        let mut block = [0; 4096];
        while take_answers(&mut self.unread)? == 0 {
            match self.stream.read(&mut block)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.unread.extend_from_slice(&block[..count]),
            }
        }
        // An idle client shall cost its own process nothing either.
        self.unread = Vec::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_where_they_end_and_an_error_is_told() {
        let answer = [message(b'C', b"SELECT 1\0"), message(b'Z', b"I"), b"Z\0\0".to_vec()].concat();
        let mut bytes = answer.clone();
        assert_eq!(take_answers(&mut bytes).unwrap(), 1);
        assert_eq!(bytes, b"Z\0\0");

        let mut bytes = message(b'E', b"SERROR\0Mno such thing\0\0");
        let error = take_answers(&mut bytes).unwrap_err().to_string();
        assert!(error.contains("no such thing"), "{error}");
        assert!(frame(b"Z\0\0\0\x03").is_err());
        assert!(frame(b"Z\xff\xff\xff\xff").is_err());
        assert_eq!(frame(b"Z\0\0\0\x05").unwrap(), None);
    }
}
