//! The move of one unit: a transaction over the shard that gives, the shard that takes, and the catalog.
//!
//! Invariant: rows leave the source, arrive at the target, and the placement names the new owner, in one transaction; whoever dies at
//! whatever step leaves all of it or nothing. The order is: hold, acknowledgements, copy, prepare, decide, finish, release.
//!
//! The catalog decides: its plain COMMIT is the decision, the others are prepared before and committed after it. The hold's row is
//! locked from the first act to the decision; whoever cleans up after a coordinator that died waits for that lock, and then for what
//! is prepared under the gid that stands in the hold.
//!
//! Start reading at [`Mover::carry_out`].

use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use pgherd_rebalance::plan::{Move, Unit};
use pgherd_rebalance::sql::literal;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::fence::CLASS;
use super::servers::{Connection, Servers};
use super::tables::Table;
use crate::control::resolver::Resolver;
use crate::control::{Problem, describe};
use crate::fault;
use crate::gid::Gid;

/// How long a hold lasts that nobody works on any more.
const HOLD: &str = "5 seconds";

/// How long proxies have to acknowledge a hold; doubled with each attempt.
const DRAIN: Duration = Duration::from_millis(250);
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Between two looks for acknowledgements when nobody says anything.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long an outcome that is not known is asked for before the unit is left to the proxies and to a later `apply`.
const SETTLE_WITHIN: Duration = Duration::from_secs(20);

const CHANNEL: &str = "pgherd_placement";

/// One unit of the plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its number in `pgherd.moves`, and of its lock.
    pub id: i64,
    pub distribution: Arc<Distribution>,
    pub step: Move,
    /// As planned.
    pub rows: u64,
    pub attempts: u32,
}

/// A distribution whose rows move.
#[derive(Debug)]
pub struct Distribution {
    pub name: String,
    /// Its tables, with the condition that finds a unit's rows made by [`Distribution::condition`].
    pub tables: Vec<Table>,
    pub record: pgherd_rebalance::placement::Record,
    pub types: Vec<pgherd_config::KeyType>,
}

impl Distribution {
    fn condition(&self, table: &Table, unit: &Unit) -> Result<String, String> {
        let keyed =
            pgherd_rebalance::sql::Keyed { record: &self.record, types: &self.types, columns: &table.key };
        keyed.condition(unit)
    }
}

#[derive(Debug)]
pub enum Outcome {
    Moved {
        rows: u64,
        bytes: u64,
        /// From the hold to its release.
        pause: Duration,
    },
    /// Nothing has changed; it may be tried again.
    Deferred { why: String, drained: bool },
    /// Nobody knows yet; the unit stays on hold until somebody does.
    Unknown(String),
}

/// What is copied, independent of its order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    rows: u64,
    bytes: u64,
    sum: u64,
}

/// copyto.c: the signature of the binary format, flags and the length of an extension; and its end.
const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0";
const BINARY_HEADER_BYTES: usize = 19;
const BINARY_END: &[u8] = &[0xff, 0xff];

impl Tally {
    /// A server sends each row as a message of its own; the header of the binary format stands before the first one.
    fn see(&mut self, message: &[u8], binary: bool) {
        let mut row = message;
        if binary && self.bytes == 0 && row.starts_with(BINARY_HEADER) {
            row = row.get(BINARY_HEADER_BYTES..).unwrap_or_default();
        }
        self.bytes += message.len() as u64;
        if row.is_empty() || binary && row == BINARY_END {
            return;
        }
        self.rows += 1;
        let hash = foldhash::quality::FixedState::with_seed(0x7067_6865_7264).hash_one(row);
        self.sum = self.sum.wrapping_add(hash);
    }
}

pub struct Mover {
    pub servers: Arc<Servers>,
    pub cluster: String,
    /// Somebody has acknowledged something.
    pub acked: Arc<Notify>,
}

/// The connections of one move, by shard.
struct Hands {
    connections: Vec<Connection>,
}

impl Hands {
    fn of(&self, shard: usize) -> Result<&Connection, Problem> {
        let found = self.connections.iter().find(|connection| connection.shard == shard);
        found.ok_or_else(|| "no connection".into())
    }
}

impl Mover {
    fn notify(&self) -> String {
        format!("NOTIFY {CHANNEL}, {};", literal(&self.servers.db.name))
    }

    /// Moves a unit, or leaves everything as it was.
    pub async fn carry_out(&self, step: &Step) -> Outcome {
        let started = Instant::now();
        let gid = Gid::new(&self.cluster, self.servers.name(self.servers.catalog())).to_string();
        let drain = DRAIN.saturating_mul(1 << step.attempts.min(8)).min(DRAIN_MAX);
        let Move { unit, source, target } = &step.step;
        let held = self.hold(step.id, &step.distribution.name, &unit.json(), source, target, &gid).await;
        if let Err(error) = held {
            return self.give_up(step, &gid, &describe(&*error), false).await;
        }
        fault::point("move.hold.done");
        match self.acknowledged(step.id, drain).await {
            Ok(None) => {}
            Ok(Some(waiting)) => return self.give_up(step, &gid, &waiting, true).await,
            Err(error) => return self.give_up(step, &gid, &describe(&*error), false).await,
        }
        fault::point("move.acks.done");
        // From the first PREPARE on it may be decided by others.
        let mut prepared = false;
        let (rows, bytes) = match self.transfer(step, &gid, drain, &mut prepared).await {
            Ok(moved) => moved,
            Err(error) if prepared => {
                tracing::warn!(unit = step.id, why = %describe(&*error), "the outcome of a move is asked for");
                return match self.settle(step.id, &gid, source, target).await {
                    Ok(true) => Outcome::Moved { rows: step.rows, bytes: 0, pause: started.elapsed() },
                    Ok(false) => Outcome::Deferred { why: describe(&*error), drained: true },
                    Err(unknown) => Outcome::Unknown(describe(&*unknown)),
                };
            }
            Err(error) => return self.give_up(step, &gid, &describe(&*error), true).await,
        };
        fault::point("move.finish.done");
        let forget = format!("DELETE FROM pgherd.decisions WHERE gid = {};", literal(&gid));
        match self.release(step.id, &forget).await {
            Ok(()) => {
                fault::point("move.release.done");
                Outcome::Moved { rows, bytes, pause: started.elapsed() }
            }
            // The proxies clean it up.
            Err(error) => Outcome::Unknown(describe(&*error)),
        }
    }

    /// Puts a unit on hold: from the moment that it is acknowledged, nobody who asks a proxy touches it.
    pub async fn hold(
        &self,
        id: i64,
        distribution: &str,
        unit: &str,
        source: &str,
        target: &str,
        gid: &str,
    ) -> Result<(), Problem> {
        let sql = format!(
            "BEGIN; SET LOCAL synchronous_commit = off;
             DELETE FROM pgherd.acks WHERE move = {id};
             INSERT INTO pgherd.holds (move, database, distribution, unit, source, target, since, until, gid)
             VALUES ({id}, {}, {}, {}, {}, {}, pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp() + interval '{HOLD}', {});
             UPDATE pgherd.moves SET state = 'held', attempts = attempts + 1, started = pg_catalog.clock_timestamp() WHERE id = {id};
             {} COMMIT;",
            literal(&self.servers.db.name),
            literal(distribution),
            literal(unit),
            literal(source),
            literal(target),
            literal(gid),
            self.notify()
        );
        self.servers.rows(self.servers.catalog(), &sql).await.map(drop)
    }

    /// Waits until every live proxy has acknowledged a hold. `Some`: who has not.
    pub async fn acknowledged(&self, id: i64, within: Duration) -> Result<Option<String>, Problem> {
        let started = Instant::now();
        let sql = format!(
            "SELECT CASE WHEN p.address = '' THEN p.id ELSE p.address END FROM pgherd.proxies p
             WHERE p.database = {} AND p.lease_until > pg_catalog.clock_timestamp()
               AND NOT EXISTS (SELECT FROM pgherd.acks a WHERE a.move = {id} AND a.proxy = p.id)",
            literal(&self.servers.db.name)
        );
        let catalog = self.servers.lend(self.servers.catalog()).await?;
        loop {
            let acked = self.acked.notified();
            let waiting: Vec<String> = catalog.rows(&sql).await?.into_iter().flatten().flatten().collect();
            if waiting.is_empty() {
                self.servers.take_back(catalog);
                return Ok(None);
            }
            if started.elapsed() >= within {
                self.servers.take_back(catalog);
                return Ok(Some(format!("transactions that are open at {} hold it", waiting.join(", "))));
            }
            let _ = tokio::time::timeout(LOOK_EVERY, acked).await;
        }
    }

    /// Takes a hold away, with its acknowledgements; `also` in the same transaction.
    pub async fn release(&self, id: i64, also: &str) -> Result<(), Problem> {
        let sql = format!(
            "BEGIN; SET LOCAL synchronous_commit = off; DELETE FROM pgherd.holds WHERE move = {id};
             DELETE FROM pgherd.acks WHERE move = {id}; {also} {} COMMIT;",
            self.notify()
        );
        self.servers.rows(self.servers.catalog(), &sql).await.map(drop)
    }

    /// Nothing was prepared: nothing has happened.
    async fn give_up(&self, step: &Step, gid: &str, why: &str, drained: bool) -> Outcome {
        let id = step.id;
        let note =
            format!("UPDATE pgherd.moves SET state = 'deferred', note = {} WHERE id = {id};", literal(why));
        match self.release(id, &note).await {
            Ok(()) => Outcome::Deferred { why: why.to_owned(), drained },
            Err(_) => match self.settle(id, gid, &step.step.source, &step.step.target).await {
                Ok(_) => Outcome::Deferred { why: why.to_owned(), drained },
                Err(unknown) => Outcome::Unknown(describe(&*unknown)),
            },
        }
    }

    async fn transfer(
        &self,
        step: &Step,
        gid: &str,
        drain: Duration,
        prepared: &mut bool,
    ) -> Result<(u64, u64), Problem> {
        let catalog = self.servers.catalog();
        let (source, target) =
            (self.servers.shard(&step.step.source)?, self.servers.shard(&step.step.target)?);
        if source == target {
            return Err("source and target are one".into());
        }
        let mut hands = Hands { connections: Vec::with_capacity(3) };
        let mut shards = vec![catalog, source, target];
        shards.sort_unstable();
        shards.dedup();
        for shard in &shards {
            hands.connections.push(self.servers.lend(*shard).await?);
        }
        let moved = self.within(&hands, step, gid, drain, prepared, (catalog, source, target)).await;
        match moved {
            Ok(moved) => {
                hands.connections.into_iter().for_each(|connection| self.servers.take_back(connection));
                Ok(moved)
            }
            Err(error) => {
                // The catalog first: what is not decided by then never is.
                for shard in
                    std::iter::once(catalog).chain(shards.into_iter().filter(|shard| *shard != catalog))
                {
                    let Ok(connection) = hands.of(shard) else { continue };
                    if *prepared && shard != catalog {
                        continue;
                    }
                    let _ = tokio::time::timeout(Duration::from_secs(2), connection.run("ROLLBACK")).await;
                }
                Err(error)
            }
        }
    }

    /// All that happens in the transaction, and its commit.
    async fn within(
        &self,
        hands: &Hands,
        step: &Step,
        gid: &str,
        drain: Duration,
        prepared: &mut bool,
        (catalog, source, target): (usize, usize, usize),
    ) -> Result<(u64, u64), Problem> {
        let id = step.id;
        let unit = &step.step.unit;
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = '{}ms';",
            drain.as_millis()
        );
        let (of_catalog, of_source, of_target) = (hands.of(catalog)?, hands.of(source)?, hands.of(target)?);
        // This row decides between us and whoever thinks that we are dead.
        let hold = format!(
            "{begin} SELECT 1 FROM pgherd.holds WHERE move = {id} AND until > pg_catalog.clock_timestamp() FOR UPDATE;"
        );
        if of_catalog.one(&hold).await?.is_none() {
            return Err("the hold has expired".into());
        }
        for connection in [of_source, of_target] {
            if connection.shard != catalog {
                connection.run(&begin).await?;
            }
        }
        let database = literal(&self.servers.db.name);
        let distribution = literal(&step.distribution.name);
        let fence = |owned: bool| {
            format!(
                "SELECT pg_catalog.pg_advisory_xact_lock({CLASS}, {id});
                 UPDATE pgherd.fences SET owned = {} WHERE database = {database} AND distribution = {distribution} AND unit = {id} AND owned = {owned}
                 RETURNING 'fenced';",
                !owned
            )
        };
        for (connection, owned) in [(of_source, true), (of_target, false)] {
            let rows = connection.rows(&fence(owned)).await?;
            if rows.last().and_then(|row| row.first()).and_then(Option::as_deref) != Some("fenced") {
                return Err(format!("shard {} is not fenced", self.servers.name(connection.shard)).into());
            }
        }
        let (mut rows, mut bytes) = (0, 0);
        for table in &step.distribution.tables {
            let condition = step.distribution.condition(table, unit)?;
            let gone = copy(of_source, of_target, table, &condition).await?;
            fault::point("move.copy.one");
            let there = read_back(of_target, table, &condition).await?;
            if (gone.rows, gone.sum) != (there.rows, there.sum) {
                return Err(format!(
                    "of {} {} rows left {} and {} are on {}: the move is undone",
                    table.name,
                    gone.rows,
                    self.servers.name(source),
                    there.rows,
                    self.servers.name(target)
                )
                .into());
            }
            rows += gone.rows;
            bytes += gone.bytes;
        }
        fault::point("move.copy.done");
        self.flip(of_catalog, step).await?;
        of_catalog
            .run(&format!(
                "UPDATE pgherd.moves SET state = 'done', rows = {rows}, bytes = {bytes}, ended = pg_catalog.clock_timestamp(), note = '' WHERE id = {id};
                 INSERT INTO pgherd.decisions (gid) VALUES ({});",
                literal(gid)
            ))
            .await?;
        fault::point("move.decision.done");
        *prepared = true;
        let others: Vec<&Connection> =
            [of_source, of_target].into_iter().filter(|connection| connection.shard != catalog).collect();
        let gid = literal(gid);
        all(&others, &format!("PREPARE TRANSACTION {gid}"), "move.prepare.one").await?;
        fault::point("move.prepare.done");
        of_catalog.run("COMMIT").await?;
        fault::point("move.decide.done");
        all(&others, &format!("COMMIT PREPARED {gid}"), "move.finish.one").await?;
        Ok((rows, bytes))
    }

    /// The catalog names the new owner.
    async fn flip(&self, catalog: &Connection, step: &Step) -> Result<(), Problem> {
        let (source, target) = (literal(&step.step.source), literal(&step.step.target));
        let database = literal(&self.servers.db.name);
        let distribution = literal(&step.distribution.name);
        let epoch = format!(
            "(SELECT 1 + GREATEST((SELECT max(epoch) FROM pgherd.placement WHERE database = {database}),
                                  (SELECT max(epoch) FROM pgherd.parts WHERE database = {database}), 0))"
        );
        let of = format!("database = {database} AND distribution = {distribution}");
        let changed = match &step.step.unit {
            Unit::Part(part) => {
                let sql = format!(
                    "UPDATE pgherd.parts SET shard = {target}, epoch = {epoch} WHERE {of} AND part = {part} AND shard = {source} RETURNING 1"
                );
                catalog.one(&sql).await?.is_some()
            }
            Unit::Key(key) => {
                let sql = format!(
                    "UPDATE pgherd.directory SET shard = {target},
                            entered = pg_catalog.nextval(pg_catalog.pg_get_serial_sequence('pgherd.directory', 'entered'))
                     WHERE {of} AND key = {} AND shard = {source} RETURNING 1",
                    literal(key)
                );
                catalog.one(&sql).await?.is_some()
            }
            Unit::Slots { part, from, to } => {
                let of = format!("{of} AND part = {part}");
                // The run that has the unit, and its neighbours if they belong to the target already.
                let sql = format!(
                    "SELECT slot_from, slot_to, shard, epoch FROM pgherd.placement
                     WHERE {of} AND (slot_from <= {from} AND slot_to >= {to} AND shard = {source}
                                     OR shard = {target} AND (slot_to = {from} - 1 OR slot_from = {to} + 1)) ORDER BY slot_from FOR UPDATE"
                );
                let (mut low, mut high) = (*from, *to);
                let mut sql_out = String::new();
                let mut found = false;
                let insert = |sql: &mut String, from: usize, to: usize, shard: &str, epoch: &str| {
                    let _ = write!(
                        sql,
                        "INSERT INTO pgherd.placement (database, distribution, part, slot_from, slot_to, shard, epoch)
                         VALUES ({database}, {distribution}, {part}, {from}, {to}, {shard}, {epoch});"
                    );
                };
                for row in catalog.rows(&sql).await? {
                    let [Some(run_from), Some(run_to), Some(shard), Some(run_epoch)] = &row[..] else {
                        return Err("a row of pgherd.placement cannot be read".into());
                    };
                    let (run_from, run_to): (usize, usize) = (run_from.parse()?, run_to.parse()?);
                    let _ = write!(
                        sql_out,
                        "DELETE FROM pgherd.placement WHERE {of} AND slot_from = {run_from};"
                    );
                    if *shard == step.step.source {
                        found = true;
                        if run_from < *from {
                            insert(&mut sql_out, run_from, from - 1, &source, run_epoch);
                        }
                        if run_to > *to {
                            insert(&mut sql_out, to + 1, run_to, &source, run_epoch);
                        }
                    } else {
                        low = low.min(run_from);
                        high = high.max(run_to);
                    }
                }
                let highest = catalog.one(&format!("SELECT {epoch}")).await?.unwrap_or_else(|| "1".into());
                insert(&mut sql_out, low, high, &target, &highest);
                if found {
                    catalog.run(&sql_out).await?;
                }
                found
            }
        };
        if !changed {
            return Err(format!("the placement does not have it on {} any more", step.step.source).into());
        }
        Ok(())
    }

    /// Finds out what became of a move whose coordinator died, or lost a server, and releases its hold.
    ///
    /// # Errors
    /// It cannot be known yet; the hold stands.
    pub async fn settle(&self, id: i64, gid: &str, source: &str, target: &str) -> Result<bool, Problem> {
        let started = Instant::now();
        loop {
            match self.try_settle(id, gid, source, target).await {
                Ok(done) => return Ok(done),
                Err(error) if started.elapsed() > SETTLE_WITHIN => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
    }

    async fn try_settle(&self, id: i64, gid: &str, source: &str, target: &str) -> Result<bool, Problem> {
        let catalog = self.servers.lend(self.servers.catalog()).await?;
        // Waits for a transaction that is still open: its owner lives, or the server has not noticed its death yet.
        let lock = format!(
            "BEGIN; SET LOCAL lock_timeout = '5s'; SELECT 1 FROM pgherd.holds WHERE move = {id} FOR UPDATE;"
        );
        catalog.run(&lock).await?;
        let mut control = self.servers.control();
        let mut resolver = Resolver::default();
        let started = Instant::now();
        loop {
            let mut left = false;
            for shard in [self.servers.shard(source)?, self.servers.shard(target)?] {
                let sql = format!(
                    "SELECT 1 FROM pg_catalog.pg_prepared_xacts WHERE gid = {} AND database = pg_catalog.current_database()",
                    literal(gid)
                );
                left |= !self.servers.rows(shard, &sql).await?.is_empty();
            }
            if !left {
                break;
            }
            if started.elapsed() > SETTLE_WITHIN {
                return Err("a prepared transaction of the move cannot be finished".into());
            }
            resolver.round(&mut control).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let state = catalog.one(&format!("SELECT state FROM pgherd.moves WHERE id = {id}")).await?;
        let done = state.as_deref() == Some("done");
        let note = match done {
            true => String::new(),
            false => format!(
                "UPDATE pgherd.moves SET state = 'deferred' WHERE id = {id} AND state IN ('held', 'moving');"
            ),
        };
        catalog
            .run(&format!(
                "DELETE FROM pgherd.holds WHERE move = {id}; DELETE FROM pgherd.acks WHERE move = {id}; {note}
                 DELETE FROM pgherd.decisions WHERE gid = {}; {} COMMIT;",
                literal(gid),
                self.notify()
            ))
            .await?;
        self.servers.take_back(catalog);
        Ok(done)
    }
}

/// Runs the same on all of them at once; with the fault point armed, one after the other.
async fn all(connections: &[&Connection], sql: &str, after_the_first: &str) -> Result<(), Problem> {
    match connections {
        [one] => one.run(sql).await,
        [one, other] if !fault::armed(after_the_first) => {
            let (first, second) = futures_util::future::join(one.run(sql), other.run(sql)).await;
            first.and(second)
        }
        several => {
            for connection in several {
                connection.run(sql).await?;
                fault::point(after_the_first);
            }
            Ok(())
        }
    }
}

/// Takes the rows from the source and puts them where they belong, as they come.
async fn copy(
    source: &Connection,
    target: &Connection,
    table: &Table,
    condition: &str,
) -> Result<Tally, Problem> {
    let Table { name, columns, .. } = table;
    let format = table.format();
    let take =
        format!("COPY (DELETE FROM {name} WHERE {condition} RETURNING {columns}) TO STDOUT ({format})");
    stream(source, target, table, &take).await
}

/// What a COPY TO on the source says, into the same table on the target.
pub(super) async fn stream(
    source: &Connection,
    target: &Connection,
    table: &Table,
    take: &str,
) -> Result<Tally, Problem> {
    let Table { name, columns, .. } = table;
    let put = format!("COPY {name} ({columns}) FROM STDIN ({})", table.format());
    let mut rows = std::pin::pin!(source.client.copy_out(take).await?);
    let mut sink = std::pin::pin!(target.client.copy_in::<_, Bytes>(&put).await?);
    let mut tally = Tally::default();
    while let Some(message) = rows.next().await {
        let message = message?;
        tally.see(&message, table.binary);
        sink.feed(message).await?;
    }
    fault::point("move.delete.done");
    let stored = sink.finish().await?;
    if stored != tally.rows {
        return Err(format!("of {} rows of {name} {stored} were stored", tally.rows).into());
    }
    Ok(tally)
}

/// What is there now, byte for byte.
async fn read_back(target: &Connection, table: &Table, condition: &str) -> Result<Tally, Problem> {
    let Table { name, columns, .. } = table;
    let sql = format!("COPY (SELECT {columns} FROM {name} WHERE {condition}) TO STDOUT ({})", table.format());
    let mut rows = std::pin::pin!(target.client.copy_out(&sql).await?);
    let mut tally = Tally::default();
    while let Some(message) = rows.next().await {
        tally.see(&message?, table.binary);
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_rows_and_knows_them_in_any_order() {
        let tally = |messages: &[&[u8]], binary: bool| {
            let mut tally = Tally::default();
            messages.iter().for_each(|message| tally.see(message, binary));
            (tally.rows, tally.sum)
        };
        let first = [BINARY_HEADER, &[0; 8], b"one"].concat();
        let other = [BINARY_HEADER, &[0; 8], b"two"].concat();
        let empty = [BINARY_HEADER, &[0; 8], BINARY_END].concat();
        let there = tally(&[&first, b"two", BINARY_END], true);
        assert_eq!(there.0, 2);
        assert_eq!(tally(&[&other, b"one", BINARY_END], true), there);
        assert_eq!(tally(&[&first[..19], b"two", b"one", BINARY_END], true), there);
        assert_ne!(tally(&[&other, b"two", BINARY_END], true), there);
        assert_eq!(tally(&[&empty], true), (0, 0));
        assert_eq!(tally(&[b"1\ta\n", b"2\tb\n"], false).0, 2);
    }
}
