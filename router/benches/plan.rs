//! Question: what does routing add to a statement whose template is cached?
//! Budget: 1 us from text to plan for a statement of pgbench's, and no allocation (`tests/warm.rs` holds it to that).
//!
//! `cargo bench -p pgherd-router`

#[path = "../tests/house/mod.rs"]
mod house;
#[path = "../tests/house/warm.rs"]
mod warm;

use divan::{Bencher, black_box};
use pgherd_router::Cache;

use warm::Case;

fn main() {
    divan::main();
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A simple query: the text is read, its template found, its literals are the values.
#[divan::bench(args = &warm::CASES)]
fn text_to_plan(bencher: Bencher<'_, '_>, case: &Case) {
    let herd = house::herd();
    let (mut cache, mut statements) = (Cache::default(), Vec::new());
    bencher.bench_local(|| black_box(black_box(case).plan(&herd, &mut cache, &mut statements)));
}

/// A Bind of a statement that is known: only the values are new.
#[divan::bench(args = &warm::CASES)]
fn values_to_plan(bencher: Bencher<'_, '_>, case: &Case) {
    let herd = house::herd();
    let statements = Cache::default().analyze(&herd, case.sql);
    bencher.bench_local(|| black_box(black_box(case).bind(&herd, &statements[0])));
}
