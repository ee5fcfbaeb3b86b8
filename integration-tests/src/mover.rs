//! Moves rows from server to server by SQL alone, as the contract between who moves and who serves says: hold, wait for every live
//! proxy, move in one transaction over source, target and catalog, release. It knows nothing of pgherd's own mover, so that each
//! can be wrong without the other.
//!
//! Not here: fences at the shards, resuming after a crash.
//!
//! Start reading at [`Mover::slots`].

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::checker::{connect, slot_of};

/// How far a move came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    Done,
    /// A proxy did not acknowledge the hold in time.
    Deferred,
}

pub struct Mover {
    pub database: String,
    pub distribution: String,
    /// Of the distribution, each with its key.
    pub tables: Vec<(String, String)>,
    /// Names and URLs of the servers, past pgherd; the first has the catalog.
    pub servers: Vec<(String, String)>,
    /// How long proxies may take to acknowledge.
    pub drain: Duration,
}

/// A hold that a test has made by hand.
#[derive(Debug, Clone, Copy)]
pub struct Held(pub i64);

impl Mover {
    async fn at(&self, server: usize) -> Client {
        connect(&self.servers[server].1).await.expect("a server answers")
    }

    fn server(&self, name: &str) -> usize {
        self.servers.iter().position(|(known, _)| known == name).expect("the server is known")
    }

    /// Puts a unit on hold and tells.
    pub async fn hold(
        &self,
        unit: &str,
        distribution: &str,
        source: &str,
        target: &str,
        seconds: u32,
    ) -> Held {
        let catalog = self.at(0).await;
        let database = &self.database;
        let sql = format!(
            "WITH m AS (INSERT INTO pgherd.moves (database, distribution, unit, source, target, state)
                        VALUES ('{database}', '{distribution}', '{unit}', '{source}', '{target}', 'held') RETURNING *)
             INSERT INTO pgherd.holds (move, database, distribution, unit, source, target, since, until, gid)
             SELECT id, database, distribution, unit, source, target, clock_timestamp(), clock_timestamp() + interval '{seconds} s', NULL
             FROM m RETURNING move"
        );
        let row = catalog.query_one(&sql, &[]).await.expect("a hold");
        catalog.batch_execute(&format!("NOTIFY pgherd_placement, '{database}'")).await.expect("NOTIFY");
        Held(row.get(0))
    }

    /// Whether all live proxies have acknowledged within this time.
    pub async fn acknowledged(&self, held: Held, within: Duration) -> bool {
        let catalog = self.at(0).await;
        let begun = Instant::now();
        let sql = format!(
            "SELECT count(*) FROM pgherd.proxies p WHERE p.database = '{}' AND p.lease_until > clock_timestamp()
             AND NOT EXISTS (SELECT FROM pgherd.acks a WHERE a.move = {} AND a.proxy = p.id)",
            self.database, held.0
        );
        loop {
            let left: i64 = catalog.query_one(&sql, &[]).await.expect("the catalog answers").get(0);
            if left == 0 {
                return true;
            }
            if begun.elapsed() > within {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn release(&self, held: Held) {
        let catalog = self.at(0).await;
        let Held(id) = held;
        let sql = format!(
            "BEGIN; DELETE FROM pgherd.acks WHERE move = {id}; DELETE FROM pgherd.holds WHERE move = {id}; COMMIT;
             NOTIFY pgherd_placement, '{}'",
            self.database
        );
        catalog.batch_execute(&sql).await.expect("a release");
    }

    /// A shard becomes a member, or is none any more, with everything on hold.
    pub async fn set_member(&self, shard: &str, member: bool) {
        let held = self.hold(r#"{"all": true}"#, "", shard, shard, 5).await;
        assert!(
            self.acknowledged(held, Duration::from_secs(5)).await,
            "nobody is in the way of a hold of everything"
        );
        let database = &self.database;
        let sql = match member {
            true => format!("INSERT INTO pgherd.shards VALUES ('{database}', '{shard}')"),
            false => format!("DELETE FROM pgherd.shards WHERE database = '{database}' AND shard = '{shard}'"),
        };
        self.at(0).await.batch_execute(&sql).await.expect("the members are changed");
        self.release(held).await;
    }

    /// Moves the slots that are `source`'s.
    pub async fn slots(&self, source: &str, target: &str, from: u16, to: u16) -> Moved {
        let unit = format!(r#"{{"part": 0, "from": {from}, "to": {to}}}"#);
        let held = self.hold(&unit, &self.distribution, source, target, 5).await;
        let acknowledged = self.acknowledged(held, self.drain).await;
        if acknowledged {
            self.move_rows(held, source, target, from, to).await;
        }
        self.release(held).await;
        if acknowledged { Moved::Done } else { Moved::Deferred }
    }

    /// The move itself: both sides and the catalog agree, or nothing has happened.
    pub async fn move_rows(&self, Held(id): Held, source: &str, target: &str, from: u16, to: u16) {
        let (source_at, target_at) = (self.server(source), self.server(target));
        let catalog = self.at(0).await;
        catalog.batch_execute("BEGIN").await.expect("BEGIN");
        let lock = format!(
            "SELECT move FROM pgherd.holds WHERE move = {id} AND until > clock_timestamp() FOR UPDATE"
        );
        assert_eq!(catalog.query(&lock, &[]).await.expect("the hold").len(), 1, "the hold is still ours");
        let mut clients = Vec::new();
        for at in [source_at, target_at] {
            if at == 0 {
                clients.push(None);
                continue;
            }
            let client = self.at(at).await;
            client.batch_execute("BEGIN").await.expect("BEGIN");
            clients.push(Some(client));
        }
        let of = |n: usize| clients[n].as_ref().unwrap_or(&catalog);
        for (table, key) in &self.tables {
            let out = format!(
                "COPY (DELETE FROM {table} WHERE {} BETWEEN {from} AND {to} RETURNING *) TO STDOUT (FORMAT binary)",
                slot_of(key)
            );
            let mut rows = Box::pin(of(0).copy_out(&out).await.expect("COPY out"));
            let into = format!("COPY {table} FROM STDIN (FORMAT binary)");
            let mut sink = Box::pin(of(1).copy_in(&into).await.expect("COPY in"));
            while let Some(some) = rows.next().await {
                sink.send(some.expect("rows")).await.expect("the target takes them");
            }
            sink.close().await.expect("the target has them");
        }
        let (database, distribution) = (&self.database, &self.distribution);
        // The runs that the slots are cut out of.
        let sql = format!(
            "WITH cut AS (DELETE FROM pgherd.placement WHERE database = '{database}' AND distribution = '{distribution}' AND part = 0
                          AND slot_from <= {to} AND slot_to >= {from} RETURNING *),
             next AS (SELECT (SELECT max(epoch) + 1 FROM pgherd.placement WHERE database = '{database}') AS epoch)
             SELECT slot_from, slot_to, shard, epoch FROM cut"
        );
        let runs = catalog.query(&sql, &[]).await.expect("the runs");
        let epoch = "(SELECT COALESCE(max(epoch), 1) + 1 FROM pgherd.placement)";
        let insert = |from: i32, to: i32, shard: &str, epoch: &str| {
            format!(
                "INSERT INTO pgherd.placement VALUES ('{database}', '{distribution}', 0, {from}, {to}, '{shard}', {epoch});"
            )
        };
        let mut sql = insert(from.into(), to.into(), target, epoch);
        for run in &runs {
            let (run_from, run_to): (i32, i32) = (run.get(0), run.get(1));
            let (shard, epoch): (String, i64) = (run.get(2), run.get(3));
            assert_eq!(shard, source, "the slots are the source's");
            if run_from < i32::from(from) {
                sql.push_str(&insert(run_from, i32::from(from) - 1, &shard, &epoch.to_string()));
            }
            if run_to > i32::from(to) {
                sql.push_str(&insert(i32::from(to) + 1, run_to, &shard, &epoch.to_string()));
            }
        }
        catalog.batch_execute(&sql).await.expect("the placement is changed");
        let gid = format!("by hand {id}");
        for client in clients.iter().flatten() {
            client.batch_execute(&format!("PREPARE TRANSACTION '{gid}'")).await.expect("PREPARE");
        }
        catalog.batch_execute("COMMIT").await.expect("COMMIT");
        for client in clients.iter().flatten() {
            client.batch_execute(&format!("COMMIT PREPARED '{gid}'")).await.expect("COMMIT PREPARED");
        }
    }

    /// The slots of each server, by the catalog.
    pub async fn owned(&self) -> Vec<Vec<(u16, u16)>> {
        let catalog = self.at(0).await;
        let sql = format!(
            "SELECT shard, slot_from, slot_to FROM pgherd.placement WHERE database = '{}' AND distribution = '{}' ORDER BY 2",
            self.database, self.distribution
        );
        let mut owned = vec![Vec::new(); self.servers.len()];
        for message in catalog.simple_query(&sql).await.expect("the placement") {
            if let SimpleQueryMessage::Row(row) = message {
                let number = |n: usize| row.get(n).expect("no NULL").parse().expect("a number");
                owned[self.server(row.get(0).expect("no NULL"))].push((number(1), number(2)));
            }
        }
        owned
    }
}
