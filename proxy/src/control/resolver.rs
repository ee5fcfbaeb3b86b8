//! Finishing what a dead or cut-off proxy left prepared, and cleaning up decisions (DESIGN.md section 7).
//!
//! For each prepared transaction of this cluster, its deciding shard is asked by trying to insert the decision row:
//! - it waits (lock timeout): the owner's transaction is still open there. Left alone.
//! - the row is there: decided. COMMIT PREPARED.
//! - the insert works: the owner is gone and nothing was decided, for ever: ROLLBACK PREPARED. (No owner can insert it any more:
//!   a decision row is inserted before the first PREPARE is sent, on a connection that has since ended.)
//!
//! Invariant: a decision row is deleted only when no shard has the transaction prepared any more.

use std::collections::{HashMap, HashSet};

use super::{Problem, Shards, catalog, describe, sqlstate};
use crate::gid::Gid;
use crate::session::settings::literal;

/// How long the attempt to insert a decision row waits for its owner.
const OWNER_LOCK_TIMEOUT: &str = "200ms";

/// A transaction prepared less than this ago is left to its owner: to finish it under the owner's hands would only cost both,
/// and the owner could not say when its rows are to be seen.
const OWNER_TIME: &str = "1 second";

/// A decision that nobody forgot by itself is looked at after this: its owner may still be finishing.
const DECISION_AGE: &str = "30 seconds";

/// Decisions deleted at once.
const FORGET_MAX: usize = 1_000;

/// Rounds between two looks for decisions that a dead proxy left.
const CLEAN_EVERY: u32 = 30;

#[derive(Default)]
pub struct Resolver {
    /// Decisions whose participants are all done, by shard.
    forget: HashMap<usize, Vec<String>>,
    /// Shards that were away when the catalog was made.
    prepared: HashSet<usize>,
    rounds: u32,
    /// Of shards that are not settled: since which event, and which prepared transactions of then are left.
    doubts: HashMap<usize, (u64, HashSet<String>)>,
}

impl Resolver {
    pub fn forget(&mut self, shard: usize, gid: String) {
        self.forget.entry(shard).or_default().push(gid);
    }

    /// Looks at every shard once. Shards that are away are passed over; a later round sees them.
    pub async fn round(&mut self, shards: &mut Shards) {
        self.forget_decisions(shards).await;
        let count = shards.db.config.shards.len();
        let cluster = shards.db.cluster();
        let prefix = format!("pgherd:{cluster}:");
        for shard in 0..count {
            if !self.prepared.contains(&shard) && catalog::prepare_shard(shards, shard).await.is_ok() {
                self.prepared.insert(shard);
            }
            let doubt = shards.db.moment.doubt(&shards.db.config.shards[shard].name);
            let sql = format!(
                "SELECT gid, prepared < pg_catalog.clock_timestamp() - interval '{OWNER_TIME}' FROM pg_catalog.pg_prepared_xacts
                 WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, {})",
                literal(&prefix)
            );
            let Ok(rows) = shards.rows(shard, &sql).await else { continue };
            let mut left = HashSet::new();
            for row in rows {
                let [Some(text), Some(old)] = &row[..] else { continue };
                if old == "t" {
                    match self.finish(shards, shard, text).await {
                        Ok(true) => continue,
                        Ok(false) => {}
                        Err(e) => {
                            tracing::warn!(shard = %shards.db.config.shards[shard].name, why = %describe(&*e), "a prepared transaction is still unresolved");
                        }
                    }
                }
                left.insert(text.clone());
            }
            self.settle(shards, shard, doubt, left);
        }
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds % CLEAN_EVERY == 1
            && let Err(e) = clean(shards, &prefix).await
        {
            tracing::debug!(why = %describe(&*e), "old decisions are kept");
        }
    }

    /// A shard is settled when none is left of the transactions that it had prepared when it came in doubt. Those that were
    /// prepared later are of a living owner, who lets nobody look while it commits.
    fn settle(&mut self, shards: &Shards, shard: usize, doubt: Option<u64>, left: HashSet<String>) {
        let Some(doubt) = doubt else {
            self.doubts.remove(&shard);
            return;
        };
        let (event, of_then) = self.doubts.entry(shard).or_insert_with(|| (doubt, left.clone()));
        if *event != doubt {
            (*event, *of_then) = (doubt, left);
        } else {
            of_then.retain(|gid| left.contains(gid));
        }
        if of_then.is_empty() {
            self.doubts.remove(&shard);
            shards.db.moment.settle(&shards.db.config.shards[shard].name, doubt);
        }
    }

    /// `true`: it is finished.
    async fn finish(&mut self, shards: &mut Shards, shard: usize, text: &str) -> Result<bool, Problem> {
        let Some(gid) = Gid::parse(text) else { return Ok(false) };
        let decider = shards.db.config.shards.iter().position(|s| s.name == gid.decider);
        let decider =
            decider.ok_or_else(|| format!("its deciding shard \"{}\" is not configured", gid.decider))?;
        let ask = format!(
            "BEGIN; SET LOCAL lock_timeout = '{OWNER_LOCK_TIMEOUT}';
             WITH tried AS (INSERT INTO pgherd.decisions (gid) VALUES ({}) ON CONFLICT DO NOTHING RETURNING gid)
             SELECT count(*) FROM tried;
             ROLLBACK;",
            literal(text)
        );
        let inserted = match shards.rows(decider, &ask).await {
            Ok(rows) => rows.into_iter().flatten().flatten().next(),
            Err(e) => {
                let code = sqlstate(&e);
                let _ = shards.rows(decider, "ROLLBACK").await;
                return match code.as_deref() {
                    // Its owner is alive: lock_not_available.
                    Some("55P03") => Ok(false),
                    _ => Err(e),
                };
            }
        };
        let verb = match inserted.as_deref() {
            Some("0") => "COMMIT",
            Some("1") => "ROLLBACK",
            _ => return Err("the deciding shard gave no answer".into()),
        };
        match shards.rows(shard, &format!("{verb} PREPARED {}", literal(text))).await {
            Ok(_) => {
                tracing::info!(
                    shard = %shards.db.config.shards[shard].name,
                    outcome = verb,
                    "finished a transaction that its proxy left prepared",
                );
                Ok(true)
            }
            // undefined_object: its owner, or another resolver, was faster. object_in_use: is being so.
            Err(e) if matches!(sqlstate(&e).as_deref(), Some("42704" | "55000" | "55006")) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn forget_decisions(&mut self, shards: &mut Shards) {
        for (shard, mut gids) in std::mem::take(&mut self.forget) {
            while !gids.is_empty() {
                let some: Vec<String> = gids.drain(..gids.len().min(FORGET_MAX)).collect();
                let list: Vec<String> = some.iter().map(|g| literal(g)).collect();
                let sql = format!("DELETE FROM pgherd.decisions WHERE gid IN ({})", list.join(", "));
                if shards.rows(shard, &sql).await.is_err() {
                    // The cleaner finds them when the shard is back.
                    break;
                }
            }
        }
    }
}

/// Deletes old decisions of proxies that died before they forgot them: only with every shard in sight, and decisions are read
/// before the prepared transactions, so that none can be missed.
async fn clean(shards: &mut Shards, prefix: &str) -> Result<(), Problem> {
    let count = shards.db.config.shards.len();
    let mut old: Vec<Vec<String>> = Vec::new();
    for shard in 0..count {
        let sql = format!(
            "SELECT gid FROM pgherd.decisions WHERE decided < pg_catalog.now() - interval '{DECISION_AGE}' LIMIT {FORGET_MAX}"
        );
        old.push(shards.rows(shard, &sql).await?.into_iter().flatten().flatten().collect());
    }
    if old.iter().all(Vec::is_empty) {
        return Ok(());
    }
    let mut prepared = HashSet::new();
    for shard in 0..count {
        let sql = format!(
            "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE pg_catalog.starts_with(gid, {})",
            literal(prefix)
        );
        prepared.extend(shards.rows(shard, &sql).await?.into_iter().flatten().flatten());
    }
    for (shard, gids) in old.into_iter().enumerate() {
        let gone: Vec<String> = gids.iter().filter(|g| !prepared.contains(*g)).map(|g| literal(g)).collect();
        if !gone.is_empty() {
            shards
                .rows(shard, &format!("DELETE FROM pgherd.decisions WHERE gid IN ({})", gone.join(", ")))
                .await?;
        }
    }
    Ok(())
}
