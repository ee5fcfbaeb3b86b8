//! A socket of either kind, read by readiness.
//!
//! Why not `AsyncRead` alone: a session waits for readiness *before* it borrows a block, so that an
//! idle client holds no buffer, and clears readiness on a short read, so that no read is spent on
//! `EAGAIN`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket on its way from one worker's runtime to another's.
#[derive(Debug)]
pub enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    /// Ready when a read would not block (data, end of stream, or an error). May be ready without need.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(s) => s.poll_read_ready(cx),
            Self::Unix(s) => s.poll_read_ready(cx),
        }
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(s) => s.poll_write_ready(cx),
            Self::Unix(s) => s.poll_write_ready(cx),
        }
    }

    /// Reads once; 0 is the end of the stream. A short read clears the readiness (edge-triggered epoll: what
    /// comes later makes a new event), so the next poll waits without a system call.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(buf);
        let polled = match self {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, &mut read),
            Self::Unix(s) => Pin::new(s).poll_read(cx, &mut read),
        };
        polled.map_ok(|()| read.filled().len())
    }

    /// Writes what fits now.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, data),
            Self::Unix(s) => Pin::new(s).poll_write(cx, data),
        }
    }

    /// Reads at least one byte (0: end of stream).
    ///
    /// # Cancel safety
    /// Safe: nothing is read before it is ready.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    /// Writes all of `data`.
    ///
    /// # Cancel safety
    /// Not safe: some of `data` may have been written. Drop the stream then.
    pub async fn write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let n = std::future::poll_fn(|cx| self.poll_write(cx, data)).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            data = &data[n..];
        }
        Ok(())
    }

    /// Takes the socket out of this runtime, to be attached on another thread's.
    pub fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(s) => s.into_std().map(Detached::Tcp),
            Self::Unix(s) => s.into_std().map(Detached::Unix),
        }
    }

    /// Puts a detached socket into the runtime of this thread.
    pub fn attach(detached: Detached) -> io::Result<Self> {
        match detached {
            Detached::Tcp(s) => TcpStream::from_std(s).map(Self::Tcp),
            Detached::Unix(s) => UnixStream::from_std(s).map(Self::Unix),
        }
    }

    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }
}
