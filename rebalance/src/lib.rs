//! Moving keys between shards: what is to be moved, and how SQL says it.
//!
//! Pure: which slots a shard gets, first and later ([`assign`]), what the catalog says of a distribution ([`placement`]), the
//! difference between that and the configuration ([`plan`]), and conditions for the rows of a unit ([`sql`]). Who moves them is
//! `moves` in the program.

pub mod assign;
pub mod placement;
pub mod plan;
pub mod sql;
