//! One PostgreSQL and a herd behind pgherd are given the same statements: the answers must be the same, or refused.
//!
//! Invariant: `wrong` is 0. A refusal is SQLSTATE 0A000 with a detail or a hint, and changes nothing; anything else that
//! differs (rows, columns, types, tag, SQLSTATE, state of the transaction, and what the tables hold afterwards) is wrong.
//!
//! - `cases/*.sql`: written by hand, by class; see `script` for their form.
//! - `generate`: statements from a grammar and a seed, which is printed. `PGHERD_DIFF_SEED` repeats one,
//!   `PGHERD_DIFF_STATEMENTS` sets how many (the `--ignored` test runs the long form).
//!
//! `PGHERD_DIFF_ONLY=text` runs the cases whose file or text contains it, `PGHERD_DIFF_SHARDS=n` one layout.
//!
//! The lists that people read are written to `target/differential/`: refused statements with their reasons, wrong answers
//! with both sides.

mod differential {
    pub mod client;
    pub mod generate;
    pub mod judge;
    pub mod script;
    pub mod world;
}

use differential::judge::Tally;
use differential::{generate, script, world};

const SHORT: usize = 1_500;
const LONG: usize = 20_000;

fn tally_of(name: &str, layouts: &[usize], run: impl FnOnce(&mut world::World, &mut Tally)) {
    let mut world = world::World::start(layouts);
    let mut tally = Tally::new(name);
    run(&mut world, &mut tally);
    tally.write();
    println!("{}", tally.summary());
    assert_eq!(tally.wrong(), 0, "{}", tally.wrongs());
}

#[test]
fn statements_written_by_hand_give_what_one_server_gives_or_are_refused() {
    tally_of("cases", &[4], script::run);
}

#[test]
#[ignore = "minutes: other numbers of shards"]
fn statements_written_by_hand_give_the_same_on_other_numbers_of_shards() {
    tally_of("cases-other", &[7, 2, 1], script::run);
}

/// The short form is the same each time, so that it says something of a change. The long one looks for what nobody knows yet.
const SEED: u64 = 11;

#[test]
fn generated_statements_give_what_one_server_gives_or_are_refused() {
    tally_of("generated", &[7, 2], |world, tally| generate::run(world, tally, SHORT, Some(SEED)));
}

#[test]
#[ignore = "minutes: the long form"]
fn many_generated_statements_give_what_one_server_gives_or_are_refused() {
    tally_of("generated-long", &[7, 4, 2, 1], |world, tally| generate::run(world, tally, LONG, None));
}
