//! Planning with a warm cache allocates nothing: at a hundred thousand statements a second, every allocation shows.
//!
//! (How long it takes is measured by `cargo bench -p pgherd-router`.)

mod house;
#[path = "house/warm.rs"]
mod warm;

use pgherd_router::Cache;
use pgherd_router::plan::Plan;

/// More than any list of spare vectors is long.
const ROUNDS: u64 = 100;

#[test]
fn a_known_statement_is_planned_without_an_allocation() {
    let herd = house::herd();
    let mut wrong = Vec::new();
    for case in &warm::CASES {
        let (mut cache, mut statements) = (Cache::default(), Vec::new());
        let first = case.plan(&herd, &mut cache, &mut statements);
        assert!(matches!(first, Plan::One(_) | Plan::Any), "{}: {first:?}", case.name);
        // Twice: vectors of the first round are there to be used again in the second one only.
        case.plan(&herd, &mut cache, &mut statements);

        let planned = allocation_counter::measure(|| {
            for _ in 0..ROUNDS {
                assert_eq!(case.plan(&herd, &mut cache, &mut statements), first);
            }
        });
        let bound = allocation_counter::measure(|| {
            for _ in 0..ROUNDS {
                assert_eq!(case.bind(&herd, &statements[0]), first);
            }
        });
        if (planned.count_total, bound.count_total) != (0, 0) {
            wrong.push(format!(
                "{}: {} allocations from text to plan, {} from values to plan, in {ROUNDS} rounds",
                case.name, planned.count_total, bound.count_total
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(7))));
    assert_eq!(counted.count_total, 1);
}
