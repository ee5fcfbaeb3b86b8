//! Unit after unit: as many at once as there are disjoint pairs of shards, no faster than the rate, and those that cannot be drained
//! later.
//!
//! Start reading at [`run`].

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::unit::{Mover, Outcome, Step};
use super::{Options, Watch, state};
use crate::control::Problem;

/// Between two looks at what the operator has ordered.
const ORDERS_EVERY: Duration = Duration::from_millis(250);

/// How long a unit that was put off waits.
const AGAIN: Duration = Duration::from_millis(500);

/// Attempts of a unit that failed by an error, not by being in use.
const ERRORS_MAX: u32 = 5;

#[derive(Debug, Default)]
pub struct Ended {
    pub units: u64,
    pub rows: u64,
    pub bytes: u64,
    pub pauses: Vec<Duration>,
    pub cancelled: bool,
    /// Units that were not moved, and why.
    pub left: Vec<String>,
    /// How many of them are on hold still.
    pub unknown: usize,
}

struct Waiting {
    step: Step,
    not_before: Instant,
    errors: u32,
    why: String,
}

/// The next one whose shards nobody is at work on.
fn next(queue: &mut VecDeque<Waiting>, busy: &HashSet<String>, now: Instant) -> Option<Waiting> {
    let free = |waiting: &Waiting| {
        waiting.not_before <= now
            && !busy.contains(&waiting.step.step.source)
            && !busy.contains(&waiting.step.step.target)
    };
    let at = queue.iter().position(free)?;
    queue.remove(at)
}

/// Moves them all, until that is done, cannot be, or is called off.
///
/// # Errors
/// The catalog cannot be asked.
pub async fn run(
    mover: &Arc<Mover>,
    steps: Vec<Step>,
    options: &Options,
    watch: &dyn Watch,
) -> Result<Ended, Problem> {
    let mut ended = Ended::default();
    let now = Instant::now();
    let mut queue: VecDeque<Waiting> = steps
        .into_iter()
        .map(|step| Waiting { step, not_before: now, errors: 0, why: String::new() })
        .collect();
    let mut busy: HashSet<String> = HashSet::new();
    let mut running: JoinSet<(Waiting, Outcome)> = JoinSet::new();
    let mut throttle = now;
    // Since when nothing has moved that could.
    let mut progress = now;
    let mut orders_at = now;
    let mut paused = false;
    loop {
        let now = Instant::now();
        if now >= orders_at {
            orders_at = now + ORDERS_EVERY;
            match state::ordered(&mover.servers).await.as_deref() {
                Ok("cancelling") => ended.cancelled = true,
                Ok("paused") if !paused => {
                    paused = true;
                    watch.say("paused");
                }
                Ok("running") if paused => {
                    paused = false;
                    progress = now;
                    watch.say("resumed");
                }
                // The catalog may be away for a moment; units find out themselves.
                Ok(_) | Err(_) => {}
            }
        }
        if paused {
            progress = now;
        }
        while !paused && !ended.cancelled && throttle <= now {
            let Some(waiting) = next(&mut queue, &busy, now) else { break };
            if let Some(nanos) = (waiting.step.rows * 1_000_000_000).checked_div(options.rate) {
                throttle = throttle.max(now - Duration::from_millis(100)) + Duration::from_nanos(nanos);
            }
            busy.insert(waiting.step.step.source.clone());
            busy.insert(waiting.step.step.target.clone());
            let mover = mover.clone();
            running.spawn(async move {
                let outcome = mover.carry_out(&waiting.step).await;
                (waiting, outcome)
            });
        }
        if running.is_empty() && (queue.is_empty() || ended.cancelled) {
            break;
        }
        if running.is_empty() && progress.elapsed() > options.patience {
            break;
        }
        let wake = orders_at.min(now + Duration::from_millis(20)).max(if throttle > now {
            throttle.min(orders_at)
        } else {
            now
        });
        let done = tokio::select! {
            done = running.join_next(), if !running.is_empty() => done,
            () = tokio::time::sleep_until(wake) => None,
        };
        let Some(done) = done else { continue };
        let (mut waiting, outcome) = done?;
        busy.remove(&waiting.step.step.source);
        busy.remove(&waiting.step.step.target);
        match outcome {
            Outcome::Moved { rows, bytes, pause } => {
                ended.units += 1;
                super::UNITS.fetch_add(1, Ordering::Relaxed);
                super::ROWS.fetch_add(rows, Ordering::Relaxed);
                ended.rows += rows;
                ended.bytes += bytes;
                ended.pauses.push(pause);
                progress = Instant::now();
                watch.moved(1, waiting.step.rows);
            }
            Outcome::Deferred { why, drained } => {
                tracing::info!(unit = waiting.step.id, why, "a unit is put off");
                super::PUT_OFF.fetch_add(1, Ordering::Relaxed);
                waiting.step.attempts += 1;
                waiting.errors += u32::from(!drained);
                waiting.why = why;
                waiting.not_before = Instant::now() + AGAIN;
                if waiting.errors >= ERRORS_MAX {
                    fail(mover, &mut ended, &waiting).await;
                } else {
                    queue.push_back(waiting);
                }
            }
            Outcome::Unknown(why) => {
                ended.unknown += 1;
                waiting.why = format!("its outcome is not known yet: {why}");
                fail(mover, &mut ended, &waiting).await;
            }
        }
    }
    if ended.cancelled {
        state::call_off(&mover.servers, "cancelled").await?;
    } else {
        for waiting in &queue {
            fail(mover, &mut ended, waiting).await;
        }
    }
    Ok(ended)
}

async fn fail(mover: &Mover, ended: &mut Ended, waiting: &Waiting) {
    let step = &waiting.step;
    ended.left.push(format!(
        "{} {} from {} to {}: {}",
        step.distribution.name,
        step.step.unit.json(),
        step.step.source,
        step.step.target,
        waiting.why
    ));
    if let Err(error) = state::failed(&mover.servers, step.id, &waiting.why).await {
        tracing::warn!(unit = step.id, %error, "the catalog was not told of a unit that failed");
    }
}
