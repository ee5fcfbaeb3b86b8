//! Server connections: open, authenticate, lend, watch, hand back. Knows no SQL.
//!
//! Invariant: a connection is in exactly one place (idle, lent, on its way to a waiter, or held back
//! because a cancel may still hit it). Each place owns the [`Server`], so two cannot hold it at once;
//! and each `Server` owns its place among the `size` of its pool, so the limit cannot be miscounted.
//!
//! Not here: which shard a statement needs (`router`), what a session's settings are (`proxy`, which
//! hangs its own state on every `Server`), timers that call [`Pool::sweep`].
//!
//! Limits: `size` connections and `waiting_max` waiters per pool, whatever the number of workers;
//! `connect_timeout` per login and 64 KiB per login message; one attempt at a time while a server
//! cannot be reached.
//!
//! Start reading at [`Pool::checkout`]; the login is in [`connect`].

mod cancel;
mod cap;
pub mod connect;
mod error;
mod gate;
mod moment;
mod parameters;
mod pool;
mod secrets;
mod server;
pub mod tls;

pub use cancel::{Cancel, CancelHandle};
pub use cap::{Cap, GIVE_UP_AFTER};
pub use connect::Target;
pub use error::{CheckoutError, ConnectError};
pub use gate::{Gate, Pass};
pub use moment::{Leave, SnapshotGate};
pub use parameters::Parameters;
pub use pool::{Limits, Pool, Status};
pub use secrets::{Secret, Secrets};
pub use server::{Listed, Server};
pub use tls::Connector;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: what our locks guard is consistent between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
