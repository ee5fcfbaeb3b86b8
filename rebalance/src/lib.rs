//! Moving keys between shards: plan, move, verify, resume.
//!
//! Not here yet: anything that moves. Today this room holds which slots a shard gets, first and later ([`assign`]), and
//! what the catalog says of a distribution ([`placement`]).

pub mod assign;
pub mod placement;
