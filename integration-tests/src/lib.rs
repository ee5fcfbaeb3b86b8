//! The program against real PostgreSQL servers and real drivers.
//!
//! [`Stage`]: a herd of servers with `pgherd serve` in front of it, each of which a test may kill and restart.
//! [`relay`]: stands between two of them and writes down what they say.
//! [`load`], [`checker`]: clients that keep books about what they were told. [`mover`]: moves rows by SQL, as the contract says. [`psql`]: a psql that a test talks to.
//!
//! Invariant: what a stage started ends with it, and with the test that holds it.

pub mod checker;
pub mod load;
pub mod mover;
pub mod psql;
pub mod relay;
mod stage;
pub mod torment;

pub use stage::{SHARDS, Stage, StageOptions, Totals, until};
