//! What keeps a server with its client between transactions, and when the client has let go of it.
//!
//! Invariant: a session that lets go was told by every server that it kept that nothing of the kind which pinned it is left
//! there. So such a server is fit for the next client; whatever cannot be asked for pins until DISCARD ALL or the end, and
//! what DISCARD ALL does not reach is closed.
//!
//! Start reading at [`Session::pin`].

use std::time::SystemTime;

use pgherd_config::PoolMode;
use pgherd_router::ShardId;
use pgherd_router::plan::{Kind, SessionEffect, Template};
use pgherd_wire::message::Report;

use super::Session;
use super::link::Unit;
use crate::pinned::{Place, Reason, Reasons, Shown};

/// Why a session keeps its servers.
pub(super) enum Kept {
    /// The pool's mode is "session".
    Mode,
    Pinned(Box<Pin>),
}

pub(super) struct Pin {
    /// Counted as long as it lives.
    _place: Place,
    reasons: Reasons,
    since: SystemTime,
    /// Something ran that may have let go, or may not have taken hold at all.
    ask: bool,
    shown: Vec<ShardId>,
}

impl Kept {
    pub(super) fn by(mode: PoolMode) -> Option<Self> {
        (mode == PoolMode::Session).then_some(Self::Mode)
    }
}

/// What asks a server for the things that pin: a row when there are any. `None`: nobody can ask.
fn question(reasons: Reasons) -> Option<String> {
    let questions = [
        // Whatever is in a schema depends on it.
        (
            Reason::TemporaryTable,
            "SELECT FROM pg_catalog.pg_depend WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass \
             AND refobjid = pg_catalog.pg_my_temp_schema()",
        ),
        (Reason::Listen, "SELECT FROM pg_catalog.pg_listening_channels()"),
        (Reason::HoldableCursor, "SELECT FROM pg_catalog.pg_cursors WHERE is_holdable"),
        (
            Reason::AdvisoryLock,
            "SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()",
        ),
    ];
    if [Reason::SqlPrepare, Reason::Other].into_iter().any(|reason| reasons.has(reason)) {
        return None;
    }
    let asked = questions.into_iter().filter(|(reason, _)| reasons.has(*reason));
    let any: Vec<String> = asked.map(|(_, question)| format!("EXISTS ({question})")).collect();
    Some(format!("SELECT WHERE {}", any.join(" OR ")))
}

impl Session {
    /// From now on the session keeps its servers: something comes to live in them that is nobody else's.
    ///
    /// # Errors
    /// 53400: too many of this user's clients do.
    pub(super) fn pin(&mut self, effect: SessionEffect) -> Result<(), Report> {
        let Some(reason) = Reason::of(effect) else {
            self.may_let_go();
            return Ok(());
        };
        match &mut self.pinned {
            Some(Kept::Mode) => return Ok(()),
            Some(Kept::Pinned(pin)) => pin.reasons.add(reason),
            None => {
                let max = self.pools.settings.pinned_max;
                let Some(place) = Place::take(&self.pools.stats, reason, max) else {
                    return Err(too_many(reason, &self.pools.user, max));
                };
                tracing::debug!(why = reason.name(), database = %self.db.name, "a session keeps its server");
                let mut reasons = Reasons::default();
                reasons.add(reason);
                let since = SystemTime::now();
                let pin = Pin { _place: place, reasons, since, ask: false, shown: Vec::new() };
                self.pinned = Some(Kept::Pinned(Box::new(pin)));
            }
        }
        // A statement that fails, a lock that was not free: then nothing is there.
        self.may_let_go();
        self.show_pin(true);
        Ok(())
    }

    /// A statement has run that the servers may have let go by.
    pub(super) fn may_let_go(&mut self) {
        if let Some(Kept::Pinned(pin)) = &mut self.pinned {
            pin.ask = true;
        }
    }

    /// What a statement that is about to run means for what is kept.
    ///
    /// # Errors
    /// As [`Self::pin`].
    pub(super) fn note_effect(&mut self, template: &Template) -> Result<(), Report> {
        if self.pinned.is_some() && (template.ddl || matches!(template.kind, Kind::CloseCursor { .. })) {
            self.may_let_go();
        }
        match template.effect {
            Some(SessionEffect::Notify) => {
                self.will_hear_itself();
                Ok(())
            }
            Some(effect) => self.pin(effect),
            None => Ok(()),
        }
    }

    /// For the console: the servers that are kept. `anew`: the reasons are others.
    pub(super) fn show_pin(&mut self, anew: bool) {
        let Some(Kept::Pinned(pin)) = &mut self.pinned else { return };
        // Its servers were lost, and what lived in them: nothing is kept.
        pin.ask |= self.links.is_empty();
        if !anew && pin.shown.len() == self.links.len() {
            return;
        }
        pin.shown = self.links.iter().map(|link| link.shard).collect();
        let shown = Shown { reasons: pin.reasons, since: pin.since, shards: pin.shown.clone() };
        self.card.pinned.replace(Some(Box::new(shown)));
    }

    /// Nothing of the client's is left in a server.
    pub(super) fn unpin(&mut self) {
        if let Some(Kept::Pinned(_)) = &self.pinned {
            self.pinned = None;
            self.card.pinned.replace(None);
        }
    }

    /// DISCARD ALL leaves nothing of what pins it.
    pub(super) fn discardable(&self) -> bool {
        match &self.pinned {
            // As everywhere in this mode.
            Some(Kept::Mode) => true,
            // A library that was loaded, a connection of dblink's.
            Some(Kept::Pinned(pin)) => !pin.reasons.has(Reason::Other),
            None => false,
        }
    }

    #[inline]
    pub(super) fn lets_go(&self) -> bool {
        matches!(&self.pinned, Some(Kept::Pinned(pin)) if pin.ask)
    }

    /// Asks the servers whether the client has let go of them; then they go back.
    pub(super) async fn let_go(&mut self) {
        if self.block.is_some()
            || !self.pending.is_empty()
            || self.links.iter().any(|link| !link.reusable())
            || self.client.gone
        {
            return;
        }
        let Some(Kept::Pinned(pin)) = &mut self.pinned else { return };
        pin.ask = false;
        if !self.links.is_empty() {
            let Some(question) = question(pin.reasons) else { return };
            let all: Vec<usize> = (0..self.links.len()).collect();
            for &i in &all {
                self.links[i].send_unit(&question, Unit::Quiet);
            }
            self.run_units(&all).await;
            for i in all {
                match self.unit_result(i).as_ref().map(Option::as_deref) {
                    Ok(Some("SELECT 0")) => {}
                    Ok(_) => return,
                    Err(_) if self.links[i].broken.is_some() => {}
                    Err(_) => {
                        // It was cancelled, perhaps; asked again behind the next statement.
                        self.may_let_go();
                        return;
                    }
                }
            }
            self.purge_broken();
        }
        self.unpin();
        self.release_all();
        self.rest();
    }
}

fn too_many(reason: Reason, user: &str, max: u32) -> Report {
    let clients = if max == 1 { "client" } else { "clients" };
    Report::error("53400", "too many clients keep a server connection for themselves")
        .detail(format!(
            "{} lives in the session of one server, which the client keeps. That is allowed to {max} {clients} of user \"{user}\" at once.",
            reason.words()
        ))
        .hint("End sessions that need it no more, or raise pool.pinned_max in pgherd's configuration. SHOW PINNED in the console lists them.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_for_what_pins_and_for_nothing_else() {
        let of = |reasons: &[Reason]| {
            let mut all = Reasons::default();
            reasons.iter().for_each(|reason| all.add(*reason));
            question(all)
        };
        let locks = of(&[Reason::AdvisoryLock]).expect("it can be asked for");
        assert!(locks.contains("pg_locks") && !locks.contains("pg_cursors"), "{locks}");
        let both = of(&[Reason::HoldableCursor, Reason::TemporaryTable]).expect("it can be asked for");
        assert!(
            both.contains("pg_depend") && both.contains(" OR EXISTS (SELECT FROM pg_catalog.pg_cursors"),
            "{both}"
        );
        assert_eq!(of(&[Reason::AdvisoryLock, Reason::Other]), None);
        assert_eq!(of(&[Reason::SqlPrepare]), None);
    }
}
