//! Crashes under load, as often as the issue says. `make soak`; the short form is `crash.rs`.

use pgherd_integration_tests::torment;

#[test]
#[ignore = "long: run by make soak"]
fn pgherd_is_killed_twenty_times_at_random_moments() {
    torment::pgherd_killed_at_random(20);
}

#[test]
#[ignore = "long: run by make soak"]
fn pgherd_dies_three_times_at_each_step_of_a_commit() {
    torment::pgherd_killed_at_each_step(3);
}

#[test]
#[ignore = "long: run by make soak"]
fn postgresql_servers_are_killed_and_restarted_five_times() {
    torment::a_server_killed(5);
}
