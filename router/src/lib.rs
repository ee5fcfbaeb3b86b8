//! SQL text + placement -> plan. Pure: no I/O, no clock, no async runtime.
//!
//! Invariant: a plan is either proven to give what one PostgreSQL with all rows would give, or it is a
//! [`Refusal`]. There is no third outcome.
//!
//! ```text
//! text -> lexer -> Fingerprint -> Template (cached) -> Template::plan(literals, params) -> Plan
//! ```
//!
//! Start reading at [`plan::Template`]; the types that the rest of the house sees are in [`plan`],
//! [`topology`] and [`value`].

pub mod combine;
pub mod copy;
pub mod describe;
pub mod directory;
pub mod hash;
pub mod lexer;
pub mod order;
pub mod plan;
pub mod planner;
pub mod refusal;
pub mod rule;
pub mod topology;
pub mod touch;
pub mod value;

pub use describe::describe;
pub use plan::{Plan, Template};
pub use planner::Cache;
pub use refusal::Refusal;
pub use topology::{ShardId, Topology};
