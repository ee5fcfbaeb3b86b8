//! Statements from a grammar and a seed.

use super::judge::Tally;
use super::world::World;

pub fn run(_world: &mut World, _tally: &mut Tally, _count: usize) {}
