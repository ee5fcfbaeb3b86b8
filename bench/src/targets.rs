//! What the figures shall be. A target that is missed is printed as missed; it ends nothing.
//!
//! Invariant: whether one is reached is judged by the median, as it is shown: not by a digit that nobody sees.

use std::fmt;

use crate::load::{Door, Load, Protocol, Script};
use crate::subjects::Pooler;

/// KiB for each idle client.
pub const IDLE_KIB: Target = Target::AtMost(1.5);

/// Milliseconds of CPU per second, of all idle clients.
pub const IDLE_CPU_MS: Target = Target::Below(1.0);

/// CPU per transaction, two workers over one.
pub const TWO_WORKERS_CPU: Target = Target::AtMost(1.05);

/// Throughput, two workers over one.
pub const TWO_WORKERS_THROUGHPUT: Target = Target::AtLeast(1.7);

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
}

impl Target {
    /// "yes" or "no".
    pub fn reached(self, figure: f64) -> &'static str {
        let shown = (figure * 100.0).round() / 100.0;
        let reached = match self {
            Self::AtMost(most) => shown <= most,
            Self::Below(bound) => shown < bound,
            Self::AtLeast(least) => shown >= least,
        };
        if reached { "yes" } else { "no" }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {most:.2}"),
            Self::Below(bound) => write!(f, "below {bound:.2}"),
            Self::AtLeast(least) => write!(f, "at least {least:.2}"),
        }
    }
}

/// CPU of the proxy per transaction, over PgBouncer's.
pub fn cpu(load: &Load, pooler: Pooler) -> Option<Target> {
    use Protocol::{Extended, Prepared, Simple};
    let most = match (pooler, load.script, load.protocol, load.clients, load.door) {
        (Pooler::Pgherd, Script::Select, _, _, Door::Tls) => 0.8,
        (Pooler::Pgherd, Script::Select, Simple, 32, _) => 0.92,
        (Pooler::Pgherd, Script::Select, Extended, 32, _) => 0.88,
        (Pooler::Pgherd, Script::Select, Prepared, 32, _) => 0.78,
        (Pooler::Pgherd, Script::Select, ..) => 1.0,
        (Pooler::Pgherd, Script::Pipeline, ..) => 0.25,
        (Pooler::Pgherd, Script::Tpcb, Prepared, ..) => 0.9,
        (Pooler::Pgherd, Script::LargeRow | Script::ManyRows, ..) => 0.42,
        (Pooler::Pgherd, Script::Connect, ..) => 1.0,
        (Pooler::PgherdSharded, Script::Select, Simple | Prepared, ..) => 1.15,
        (Pooler::PgherdSharded, Script::Count, ..) => 2.0,
        (Pooler::PgherdSharded, Script::Ordered, ..) => 2.5,
        _ => return None,
    };
    Some(Target::AtMost(most))
}

/// p99 latency, over PgBouncer's.
pub fn p99(load: &Load) -> Option<Target> {
    let meant = load.script == Script::Select && load.door == Door::Scram && load.clients >= 32;
    meant.then_some(Target::AtMost(1.0))
}

/// CPU of proxy and server, over a direct connection's.
pub fn beside_direct(load: &Load) -> Option<Target> {
    let meant = load.script == Script::Select
        && load.door == Door::Scram
        && (load.protocol, load.clients) == (Protocol::Extended, 32);
    meant.then_some(Target::Below(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_as_it_is_shown() {
        let cases = [
            (Target::AtMost(0.92), 0.924, "yes"),
            (Target::AtMost(0.92), 0.926, "no"),
            (Target::Below(1.0), 0.994, "yes"),
            (Target::Below(1.0), 0.996, "no"),
            (Target::AtLeast(1.7), 1.696, "yes"),
            (Target::AtLeast(1.7), 1.6, "no"),
        ];
        for (target, figure, expected) in cases {
            assert_eq!(target.reached(figure), expected, "{target}: {figure}");
        }
    }

    #[test]
    fn rows_have_the_targets_of_their_clients_and_doors() {
        let load =
            |script, protocol, clients, door| Load { script, protocol, clients, jobs: 2, seconds: 3, door };
        use Protocol::{Extended, Prepared, Simple};
        let cases = [
            (load(Script::Select, Simple, 32, Door::Scram), Pooler::Pgherd, Some(0.92)),
            (load(Script::Select, Simple, 200, Door::Scram), Pooler::Pgherd, Some(1.0)),
            (load(Script::Select, Prepared, 32, Door::Tls), Pooler::Pgherd, Some(0.8)),
            (load(Script::Select, Prepared, 32, Door::Scram), Pooler::PgherdSharded, Some(1.15)),
            (load(Script::Select, Extended, 32, Door::Scram), Pooler::PgherdSharded, None),
            (load(Script::Connect, Simple, 8, Door::Trust), Pooler::Pgherd, Some(1.0)),
            (load(Script::Tpcb, Simple, 32, Door::Scram), Pooler::Pgherd, None),
            (load(Script::Tpcb, Prepared, 32, Door::Scram), Pooler::PgherdSharded, None),
        ];
        for (load, pooler, most) in cases {
            assert_eq!(cpu(&load, pooler), most.map(Target::AtMost), "{load}");
        }
    }
}
