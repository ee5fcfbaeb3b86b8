//! Moving keys between shards: plan, move, verify, resume.
//!
//! Not here yet: anything that moves. Today this room holds only the assignment of slots that a first start
//! records ([`assign`]).

pub mod assign;
