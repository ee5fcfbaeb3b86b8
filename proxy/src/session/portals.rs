//! Portals over several shards between their Bind and their end. No server knows of them: what a server would do with them is
//! done here.
//!
//! Invariants:
//! - the reply to a Describe stands before the reply to whatever came behind it;
//! - a SELECT reads as of its Bind: before anything else can change what it would see, it is opened on its shards, or it is
//!   `stale`, and its Execute is refused;
//! - a portal ends with its transaction, or with the savepoint that it was made behind.

use std::cell::Cell;
use std::rc::Rc;

use pgherd_router::ShardId;
use pgherd_router::plan::{Combine, Each, Kind, Merge, Plan, Statement, Template};
use pgherd_wire::message::{self, Report};

use super::extended::{Place, Portal};
use super::link::Expect;
use super::merge::Paused;
use super::query::first_word_is;
use super::{End, LinkError, Session};

/// Described on one server under this name, so that no portal of the client's has to go for it.
const DESCRIBED: &[u8] = b"pgherd_describe";

/// What of a portal over shards has to be seen to.
#[derive(Clone, Default)]
pub struct Care {
    /// The client waits for its description.
    pub describe: bool,
    /// It ran to its end.
    pub done: bool,
    /// It is open on its shards, and may have been read from.
    pub open: Option<Rc<Paused>>,
    /// What it would read now is not what stood there at its Bind.
    pub stale: bool,
    /// How many savepoints its transaction had made before it.
    pub made: u64,
}

impl Care {
    fn untouched(&self) -> bool {
        !self.done && !self.stale && self.open.is_none()
    }
}

/// How PostgreSQL reads its rows: as of Bind (PORTAL_ONE_SELECT), not of Execute.
pub(super) fn reads_at_bind(text: &str, template: &Template, plan: &Plan) -> bool {
    matches!(plan, Plan::Each(_) | Plan::Merge(_) | Plan::Gather(_))
        && matches!(template.kind, Kind::Other)
        && (template.read_only || first_word_is(text, "select"))
}

/// A plan whose rows can be read piece by piece, from portals on the shards.
pub(super) fn by_pieces(template: &Template, plan: &Plan) -> Option<Merge> {
    match plan {
        Plan::Merge(merge) => Some(merge.clone()),
        Plan::Each(Each { shards, combine: Combine::Union, first_alone: false }) if template.read_only => {
            Some(Merge {
                shards: shards.clone(),
                sql: None,
                hidden: 0,
                keys: Vec::new(),
                offset: 0,
                limit: None,
                ties: false,
            })
        }
        _ => None,
    }
}

pub(super) fn stale() -> Report {
    Report::error("0A000", "cannot execute this portal over several shards behind other messages")
        .detail("It has to read what stood there at its Bind, and other statements have had their turn since then.")
        .hint("Send its Execute right behind its Bind.")
}

impl Session {
    /// A message of the client's is about to be taken in, and there are portals over shards.
    #[cold]
    pub(super) async fn see_to_portals(&mut self, kind: u8, body: &[u8]) -> Result<(), End> {
        let executed = match kind {
            b'E' => body.split(|byte| *byte == 0).next(),
            b'c' | b'f' | b'X' => return Ok(()),
            _ => None,
        };
        // Execute says the description of its own portal itself.
        self.describe_portals(executed).await?;
        // A Query outside a transaction is the end of all portals; a Sync too.
        let explicit = self.block.as_ref().is_some_and(|block| block.explicit);
        let snapshot = self.block.as_ref().is_some_and(|block| block.snapshot);
        let (open, others) = match kind {
            b'E' => (true, false),
            b'Q' | b'F' => (explicit, !explicit),
            b'S' => (explicit && !snapshot, false),
            b'H' => (!snapshot, false),
            _ => (false, false),
        };
        if (open || others) && !self.skipping() && !self.client.failed {
            self.open_waiting(executed, others).await?;
        }
        Ok(())
    }

    /// Portals that the client wants described are described by one shard, but for the one that is executed next.
    pub(super) async fn describe_portals(&mut self, but: Option<&[u8]>) -> Result<(), End> {
        let wants = |(name, portal): (&[u8], &Portal)| {
            let Place::Fan { care, .. } = &portal.place else { return None };
            (care.describe && Some(name) != but).then(|| (name.to_vec(), portal.clone()))
        };
        let waiting: Vec<_> = self.portals.iter().filter_map(wants).collect();
        for (name, portal) in waiting {
            // What came before stands before it.
            self.flush_pending(None).await?;
            if self.skipping() {
                return Ok(());
            }
            let Place::Fan { plan, tail, .. } = &portal.place else { continue };
            let shard = match &**plan {
                Plan::Each(each) => each.shards[0],
                Plan::Merge(merge) => merge.shards[0],
                Plan::Explain(explain) => explain.shards[0],
                Plan::Gather(gather) => gather.scratch.unwrap_or_else(|| self.any_shard()),
                Plan::Draw(_) => ShardId(0),
                _ => self.any_shard(),
            };
            let index = match self.link_for(shard).await {
                Ok(index) => index,
                Err(LinkError::Refused(report)) => return self.batch_error(report).await,
                Err(LinkError::End(end)) => return Err(end),
            };
            let server_name = self.put(index, &portal.prepared, None);
            let link = &mut self.links[index];
            // Bound on the server only to be described: its BindComplete is not the client's.
            message::close(&mut link.out, b'P', DESCRIBED);
            message::bind_with(&mut link.out, DESCRIBED, server_name.as_bytes(), tail);
            message::describe(&mut link.out, b'P', DESCRIBED);
            message::close(&mut link.out, b'P', DESCRIBED);
            link.expects.extend([
                Expect::CloseQuiet,
                Expect::BindQuiet,
                Expect::Describe,
                Expect::CloseQuiet,
            ]);
            link.unsynced = true;
            if let Some(care) = self.care_of(&name) {
                care.describe = false;
            }
        }
        Ok(())
    }

    pub(super) fn care_of(&mut self, name: &[u8]) -> Option<&mut Care> {
        match &mut self.portals.get_mut(name)?.place {
            Place::Fan { care, .. } => Some(care),
            _ => None,
        }
    }

    /// Something else has its turn: portals that read as of their Bind, and were not executed, are opened on their shards.
    /// `let_be`: they are not, for their transaction most likely ends.
    async fn open_waiting(&mut self, but: Option<&[u8]>, let_be: bool) -> Result<(), End> {
        let waiting = |(name, portal): (&[u8], &Portal)| {
            let Place::Fan { care, .. } = &portal.place else { return None };
            (care.untouched() && Some(name) != but).then(|| (name.to_vec(), portal.clone()))
        };
        let waiting: Vec<_> = self.portals.iter().filter_map(waiting).collect();
        for (name, Portal { prepared, place, .. }) in waiting {
            let Place::Fan { plan, tail, .. } = place else { continue };
            let topology = self.topology();
            let analysis: Rc<Vec<Statement>> = self.analysis(&topology, &prepared);
            let Some(statement) = analysis.first() else { continue };
            let template = &*statement.template;
            if !reads_at_bind(&prepared.sql, template, &plan) {
                continue;
            }
            let pieces = by_pieces(template, &plan).filter(|_| !let_be);
            let Some(merge) = pieces else {
                if let Some(care) = self.care_of(&name) {
                    care.stale = true;
                }
                continue;
            };
            self.settle_names().await?;
            if self.skipping() {
                return Ok(());
            }
            let opened = match self.join_for_pieces(template, &merge).await? {
                Ok(()) => self.open_merge(&prepared, &tail, &merge).await?,
                Err(report) => Err(report),
            };
            match opened {
                Ok(merging) => {
                    if let Some(care) = self.care_of(&name) {
                        care.open = Some(Rc::new(Cell::new(Some(merging))));
                    }
                }
                Err(report) => {
                    self.client.say(|o| report.write(o));
                    self.fail_block();
                    self.skip = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Before another portal takes this name: the one without a name goes, any other one is in the way. `false`: the client has its
    /// error.
    pub(super) async fn makes_room(&mut self, name: &[u8]) -> Result<bool, End> {
        let Some(care) = self.care_of(name) else { return Ok(true) };
        let open = care.open.take();
        if !name.is_empty() {
            care.open = open;
            let why = format!("cursor \"{}\" already exists", String::from_utf8_lossy(name));
            return self.batch_error(Report::error("42P03", why)).await.map(|()| false);
        }
        self.portals.remove(name);
        self.fans = self.portals.values().any(|portal| matches!(portal.place, Place::Fan { .. }));
        if let Some(open) = open {
            self.flush_pending(None).await?;
            self.close_pieces(&open).await?;
        }
        Ok(!self.skipping())
    }

    /// A portal over shards, or one of the session's own: nothing is owed by any server.
    pub(super) fn note_portal(&mut self, name: &[u8], portal: Portal) {
        self.fans |= matches!(portal.place, Place::Fan { .. });
        self.portals.insert(name, portal);
    }

    /// The transaction is over, and with it every portal; those on servers are the servers' to forget.
    pub(super) fn end_portals(&mut self) {
        if self.block.is_none() {
            self.portals.retain(|portal| matches!(portal.place, Place::Link(_)));
            self.fans = false;
        }
    }

    /// Outside a transaction block, in the middle of a batch: no server is held any more, and the portals on servers are gone.
    pub(super) fn let_servers_go(&mut self) {
        let (mut portals, fans) = (std::mem::take(&mut self.portals), self.fans);
        self.release_all();
        portals.retain(|portal| !matches!(portal.place, Place::Link(_)));
        (self.portals, self.fans) = (portals, fans);
    }

    /// Back to a savepoint: what was made behind it is gone.
    pub(super) fn end_portals_behind(&mut self, mark: u64) {
        self.portals.retain(|portal| match &portal.place {
            Place::Fan { care, .. } => care.made < mark,
            _ => true,
        });
    }

    /// How many savepoints the transaction has made.
    pub(super) fn marks(&self) -> u64 {
        self.block.as_ref().map_or(0, |block| block.marks)
    }
}
