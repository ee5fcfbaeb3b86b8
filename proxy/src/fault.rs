//! Fault points: named steps at which a test makes the process die as by `kill -9`.
//!
//! Armed by `PGHERD_FAULT=name` (the first time) or `name:n` (the n-th time), in builds with debug assertions only; a
//! release build has none. The names, in the order of a commit over several shards:
//!
//! | name | the process dies |
//! | --- | --- |
//! | `commit.single.sent` | with a COMMIT to a single writer still to be sent |
//! | `commit.decision.sent` | before the decision row goes out |
//! | `commit.decision.done` | when the uncommitted decision row stands |
//! | `commit.prepare.one` | when the first of the other writers is prepared |
//! | `commit.prepare.sent` | with PREPARE on its way to all of them |
//! | `commit.prepare.done` | when all are prepared, nothing decided |
//! | `commit.decide.sent` | with the deciding COMMIT on its way |
//! | `commit.decide.done` | when it is decided, nobody told |
//! | `commit.finish.one` | when the first COMMIT PREPARED is done |
//! | `commit.finish.sent` | with COMMIT PREPARED on its way to all |
//! | `commit.finish.done` | when all is done, the client not told |
//!
//! And in the order of a move of rows between shards (`moves/unit.rs`), where the process is the one that moves them:
//!
//! | name | the process dies |
//! | --- | --- |
//! | `move.hold.done` | when a unit is on hold |
//! | `move.acks.done` | when every proxy has acknowledged that |
//! | `move.delete.done` | when the rows of one table are gone from the source and on their way |
//! | `move.copy.one` | when those of one table have arrived |
//! | `move.copy.done` | when all have |
//! | `move.decision.done` | when the placement is changed and the decision row stands, uncommitted |
//! | `move.prepare.one` | when the first of the other shards is prepared |
//! | `move.prepare.done` | when all are prepared, nothing decided |
//! | `move.decide.done` | when it is decided, nobody told |
//! | `move.finish.one` | when the first COMMIT PREPARED is done |
//! | `move.finish.done` | when all is done, the unit still on hold |
//! | `move.release.done` | when the unit is served again |

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        left: AtomicU64,
    }

    fn get() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        ARMED
            .get_or_init(|| {
                let text = std::env::var("PGHERD_FAULT").ok()?;
                let (name, n) = text.split_once(':').unwrap_or((&text, "1"));
                Some(Armed { name: name.to_owned(), left: AtomicU64::new(n.parse().ok()?) })
            })
            .as_ref()
    }

    pub fn armed(name: &str) -> bool {
        get().is_some_and(|a| a.name == name)
    }

    pub fn point(name: &str) {
        if let Some(armed) = get()
            && armed.name == name
            && armed.left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            // Not exit: nothing may be flushed, closed or rolled back in good order.
            std::process::abort();
        }
    }
}

/// Dies here if this point is armed.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Whether this point is armed: for steps that are only taken apart under test.
#[inline]
pub fn armed(name: &str) -> bool {
    #[cfg(debug_assertions)]
    return armed::armed(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        false
    }
}
