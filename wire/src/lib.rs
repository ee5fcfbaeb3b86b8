//! Frames on a byte stream: reading, writing, scanning. No policy.
//!
//! Invariant: a frame's length is checked before a byte of its body is believed, and nothing here
//! allocates by a length that a peer sent.
//!
//! Start reading at [`frame`]; the socket is [`stream`], its encryption [`tls`]; messages that pgherd itself says are in
//! [`message`].

pub mod frame;
pub mod identity;
pub mod message;
pub mod scram;
pub mod stream;
pub mod tls;

pub use frame::{FrameError, Header};
pub use stream::Stream;
pub use tls::Tls;
