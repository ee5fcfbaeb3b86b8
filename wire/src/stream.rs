//! A socket of any kind, read by readiness.
//!
//! Why not `AsyncRead` alone: a session waits for readiness *before* it borrows a block, so that an
//! idle client holds no buffer, and clears readiness on a short read, so that no read is spent on
//! `EAGAIN`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::Tls;

#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    // Boxed: an idle client without TLS does not pay for it.
    Tls(Box<Tls>),
}

/// A socket on its way from one worker's runtime to another's.
#[derive(Debug)]
pub enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Tls(std::net::TcpStream, Box<Tls>),
}

impl Stream {
    /// Ready when a read would not block (data, end of stream, or an error). May be ready without need.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(s) => s.poll_read_ready(cx),
            Self::Unix(s) => s.poll_read_ready(cx),
            Self::Tls(s) => s.poll_read_ready(cx),
        }
    }

    /// Whether a read would not block, as far as the runtime knows: asks nobody and wakes nobody. Under TLS it says yes when
    /// only a read can tell.
    pub fn may_read_now(&self) -> bool {
        match self {
            Self::Tcp(s) => s.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Unix(s) => s.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Tls(_) => true,
        }
    }

    /// Reads once; 0 is the end of the stream. A short read clears the readiness (edge-triggered epoll: what
    /// comes later makes a new event), so the next poll waits without a system call.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(buf);
        let polled = match self {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, &mut read),
            Self::Unix(s) => Pin::new(s).poll_read(cx, &mut read),
            Self::Tls(s) => return s.poll_read(cx, read.initialized_mut()),
        };
        polled.map_ok(|()| read.filled().len())
    }

    /// Writes what fits now. After `Pending` it is called with the same bytes in front (under TLS they may be encrypted already).
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, data),
            Self::Unix(s) => Pin::new(s).poll_write(cx, data),
            Self::Tls(s) => s.poll_write(cx, data),
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
            Self::Tls(mut s) => s.detach().map(|socket| Detached::Tls(socket, s)),
        }
    }

    /// Puts a detached socket into the runtime of this thread.
    pub fn attach(detached: Detached) -> io::Result<Self> {
        match detached {
            Detached::Tcp(s) => TcpStream::from_std(s).map(Self::Tcp),
            Detached::Unix(s) => UnixStream::from_std(s).map(Self::Unix),
            Detached::Tls(socket, mut s) => s.attach(socket).map(|()| Self::Tls(s)),
        }
    }

    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.set_nodelay(true),
            Self::Unix(_) => Ok(()),
            Self::Tls(s) => s.socket().map_or(Ok(()), |s| s.set_nodelay(true)),
        }
    }

    /// Encrypts a TCP connection from here on. `received`: what the peer has sent of its handshake already.
    ///
    /// # Errors
    /// The handshake failed, or this is no TCP connection. The socket is closed then: there is nothing to be said in the clear.
    ///
    /// # Cancel safety
    /// Not safe: the connection is lost.
    pub async fn secure(self, session: Connection, received: &[u8]) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => Tls::handshake(socket, session, received).await.map(Self::Tls),
            Self::Unix(_) | Self::Tls(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Our own address; `None` for a unix socket.
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Tcp(s) => s.local_addr().ok(),
            Self::Tls(s) => s.socket()?.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// The peer's address; `None` for a unix socket.
    pub fn peer_addr(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Tcp(s) => s.peer_addr().ok(),
            Self::Tls(s) => s.socket()?.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

/// For libraries that bring a protocol of their own.
impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Stream::poll_read(self.get_mut(), cx, buf.initialize_unfilled());
        read.map_ok(|n| buf.advance(n))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Stream::poll_write(self.get_mut(), cx, data)
    }

    /// What was reported as written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The end of the stream is said when it is dropped.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
