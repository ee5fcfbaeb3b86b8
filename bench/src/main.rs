//! Load and cost, against PgBouncer, in one run.
fn main() {}
