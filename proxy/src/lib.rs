//! The program `pgherd`: joins the rest of the house.
//!
//! Start reading at [`serve`] (threads and listeners), then [`session`] (one client).

pub mod as_pgbouncer;
pub mod auth;
pub mod cancel;
mod caps;
pub mod check;
pub mod cli;
pub mod console;
pub mod control;
pub mod database;
pub mod deadlock;
pub mod demo;
pub mod explain;
mod fallback;
pub mod fault;
pub mod gid;
pub mod handshake;
pub mod listen;
pub mod listening;
pub mod metrics;
pub mod moves;
pub mod notify;
pub mod pinned;
pub mod reload;
pub mod replication;
pub mod roster;
pub mod serve;
pub mod session;
pub mod stats;
pub mod worker;
