//! Following the catalog: this pgherd's lease, the placement as others change it, units on hold and what they wait for.
//!
//! Invariants:
//! - What is in force is what one snapshot of the catalog said, placement and holds together. A unit is served again only by the
//!   placement of the look that found its hold gone.
//! - A hold is acknowledged only after it was in force on every worker and nobody there had to do with its unit any more.
//! - The lease is extended only when what was looked at is in force.
//!
//! A task of its own with connections of its own: a server that does not answer holds up the resolver, and must not hold up the lease.
//!
//! Start reading at [`Follower::run`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgherd_router::rule::Rule;
use pgherd_router::topology::{Facts, Topology};
use pgherd_router::touch::{Held, Hold, Moved};
use pgherd_router::value::KeyValue;

use super::{Problem, Shards, catalog, describe, members, next_version};
use crate::database::{Database, Proxy};
use crate::lease::LEASE;
use crate::serve::Crew;
use crate::session::settings::literal;

/// What the catalog connection listens to.
const LISTEN: &str = "LISTEN pgherd_placement";

/// Between two looks, and two renewals of the lease.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Between two looks while anything is on hold: nobody may have told.
const LOOK_AT_HOLDS_EVERY: Duration = Duration::from_millis(200);

/// Between two looks whether the last session of a database that was replaced has gone.
const CLOSED_LOOK_EVERY: Duration = Duration::from_millis(100);

/// Between two attempts to reach the catalog.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// Between two questions whether anybody has to do with a unit on hold: first and later.
const ASK_FIRST: Duration = Duration::from_millis(1);
const ASK_LATER: Duration = Duration::from_millis(16);

/// One statement in the catalog. Renewals that take longer would come too late.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3);

/// Units that have moved lately and are remembered one by one.
const MOVED_MAX: usize = 1_024;

/// Units on hold at once, beyond which everything is: nobody moves so many at a time.
const HOLDS_MAX: usize = 256;

/// A hold that is over for so long is cleaned up by anybody.
const HOLD_OVER: &str = "1 second";

/// A proxy's row that nobody deleted.
const PROXY_FORGOTTEN: &str = "1 hour";

/// A hold as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Looked {
    id: i64,
    distribution: String,
    unit: Unit,
    since: String,
    over: bool,
}

/// What a hold's unit says, as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unit {
    All,
    Slots {
        from: u16,
        to: u16,
    },
    Key(String),
    /// Ranges, lists, and what only a later version knows.
    Other,
}

/// What one look found.
#[derive(Debug, Default)]
struct Look {
    print: String,
    holds: Vec<Looked>,
    proxies: Option<Vec<Proxy>>,
}

/// A hold that is in force here.
#[derive(Debug, Clone)]
struct Known {
    hold: Hold,
    since: String,
    distribution: String,
    key: Option<String>,
    acknowledged: bool,
}

pub struct Follower {
    db: Arc<Database>,
    shards: Shards,
    crew: Crew,
    id: String,
    /// Of the placement in force.
    print: String,
    known: Vec<Known>,
    /// Of the last hold.
    holds: u64,
    renewed: Option<Instant>,
    /// The lease has not ended since it was had last.
    leased: bool,
    cleaning: Arc<AtomicBool>,
    password: Option<String>,
}

impl Follower {
    pub fn new(db: Arc<Database>, password: Option<String>, crew: Crew) -> Self {
        let mut shards = Shards::new(db.clone(), password.clone());
        shards.listen = Some(LISTEN);
        shards.timeout = STATEMENT_TIMEOUT;
        Self {
            shards,
            crew,
            id: format!("{:016x}", rand::random::<u64>()),
            print: String::new(),
            known: Vec::new(),
            holds: 0,
            renewed: None,
            leased: false,
            cleaning: Arc::default(),
            password,
            db,
        }
    }

    /// Takes the lease, and puts the placement in force for the first time.
    pub async fn begin(&mut self, facts: Facts) -> Result<(), Problem> {
        self.turn(Some(facts)).await
    }

    /// Runs until the process ends, or the last session of a database that was replaced has gone.
    pub async fn run(mut self) {
        let told = self.shards.told.clone();
        let db = self.db.clone();
        let (mut last, mut ask) = (String::new(), ASK_FIRST);
        let mut next = tokio::time::Instant::now();
        loop {
            let asking = self.known.iter().any(|known| !known.acknowledged);
            tokio::select! {
                biased;
                () = db.told_to_leave() => break,
                () = told.notified() => next = tokio::time::Instant::now(),
                () = tokio::time::sleep_until(next) => {}
                () = tokio::time::sleep(ask), if asking => {}
            }
            if db.is_closed() && Arc::strong_count(&db.tenancy) == 1 {
                break;
            }
            if tokio::time::Instant::now() >= next {
                let turned = self.turn(None).await;
                let wait = match turned {
                    Ok(()) if self.known.is_empty() => LOOK_EVERY,
                    Ok(()) => LOOK_AT_HOLDS_EVERY,
                    Err(e) => {
                        let why = describe(&*e);
                        if why != last {
                            tracing::warn!(database = %db.name, why, "the catalog cannot be followed");
                            last = why;
                        }
                        RETRY_EVERY
                    }
                };
                if wait != RETRY_EVERY && !std::mem::take(&mut last).is_empty() {
                    tracing::info!(database = %db.name, "the catalog is followed again");
                }
                // Of a database that was replaced only the last sessions are waited for.
                let wait = if db.is_closed() { wait.min(CLOSED_LOOK_EVERY) } else { wait };
                next = tokio::time::Instant::now() + wait;
                ask = ASK_FIRST;
            }
            if self.known.iter().any(|known| !known.acknowledged) {
                match self.acknowledge().await {
                    Ok(()) => {}
                    Err(e) => {
                        tracing::debug!(database = %db.name, why = %describe(&*e), "a hold cannot be acknowledged yet");
                    }
                }
                ask = (ask * 2).min(ASK_LATER);
            }
        }
        self.leave().await;
    }

    /// Renews the lease, looks, and puts in force what was found.
    async fn turn(&mut self, facts: Option<Facts>) -> Result<(), Problem> {
        let first = facts.is_some();
        if self.leased && !self.db.lease.serves(Instant::now()) {
            self.leased = false;
            tracing::warn!(database = %self.db.name, "the lease has ended: statements that touch sharded tables wait");
        }
        let sent = Instant::now();
        let renews = !self.leased || self.renewed.is_none_or(|renewed| sent - renewed >= LOOK_EVERY / 2);
        let look = self.look(renews).await?;
        // Without a lease rows may have moved, and keys of a directory, unseen.
        let whole = first || !self.leased;
        if whole || look.print != self.print {
            self.read(facts, whole).await?;
        } else if !self.is_known(&look.holds) {
            self.hold(look.holds.clone());
        }
        if let Some(proxies) = look.proxies {
            self.db.set_proxies(proxies);
        }
        if !renews {
            return Ok(());
        }
        self.renewed = Some(sent);
        let kept = self.leased && self.db.lease.serves(Instant::now());
        if kept {
            self.db.lease.extend(sent);
        } else if self.leased {
            // It ended while this was looked at, which may have been before the last move: once more.
            self.leased = false;
            return Err("the lease has ended while it was renewed".into());
        } else {
            self.db.lease.begin(sent);
            self.leased = true;
            self.db.tell_change();
        }
        for over in look.holds.iter().filter(|hold| hold.over) {
            self.clean_up(over.id);
        }
        Ok(())
    }

    async fn look(&mut self, renews: bool) -> Result<Look, Problem> {
        let database = literal(&self.db.name);
        let mut sql = String::new();
        if renews {
            let (id, seconds) = (literal(&self.id), LEASE.as_secs());
            let shards: Vec<String> =
                self.db.config.shards.iter().map(|shard| literal(&shard.name)).collect();
            sql.push_str(&format!(
                "INSERT INTO pgherd.proxies (id, database, address, version, lease_until, epoch, shards)
                 VALUES ({id}, {database}, {}, {}, pg_catalog.clock_timestamp() + interval '{seconds} s', {}, ARRAY[{}]::text[])
                 ON CONFLICT (id) DO UPDATE SET lease_until = EXCLUDED.lease_until, epoch = EXCLUDED.epoch; ",
                literal(self.crew.address()),
                literal(env!("CARGO_PKG_VERSION")),
                self.db.topology().epoch,
                shards.join(", ")
            ));
        }
        sql.push_str(&look_sql(&database, renews));
        let rows = self.shards.rows(self.db.config.catalog, &sql).await?;
        read_look(rows, &self.id)
    }

    fn is_known(&self, holds: &[Looked]) -> bool {
        holds.len() == self.known.len()
            && holds.iter().all(|hold| {
                self.known.iter().any(|known| known.hold.id == hold.id && known.since == hold.since)
            })
    }

    /// Reads the placement and the holds as of one moment, and puts both in force.
    async fn read(&mut self, facts: Option<Facts>, whole: bool) -> Result<(), Problem> {
        let catalog = self.db.config.catalog;
        self.shards.rows(catalog, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let read = async {
            let look = self.look(false).await?;
            Ok((look, catalog::read(&mut self.shards).await?))
        };
        let read: Result<_, Problem> = read.await;
        let ended = self.shards.rows(catalog, if read.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
        let (look, mut recorded) = read?;
        ended?;
        let before = self.db.topology();
        for distribution in &mut recorded.distributions {
            let known = before.distributions.iter().find(|known| known.name == distribution.name);
            if let (Rule::Directory(_), Some(known)) = (&*distribution.rule, known)
                && let Rule::Directory(directory) = &*known.rule
            {
                if whole {
                    directory.forget_all();
                }
                // What is known of its keys stays known.
                distribution.rule = known.rule.clone();
            }
        }
        let released = self.take_holds(look.holds);
        let generation = before.generation + 1;
        let mut moved = before.moved.to_vec();
        if whole {
            moved.clear();
            moved.push(Moved { generation, held: Held::Everything });
        } else {
            moved.extend(released.iter().map(|held| Moved { generation, held: *held }));
            if released.is_empty() {
                // Changed without a hold: by hand.
                moved.push(Moved { generation, held: Held::Everything });
            }
        }
        if moved.len() > MOVED_MAX {
            // Of what is forgotten, everything may have moved.
            let forgotten = moved.len() - MOVED_MAX / 2;
            let last = moved[forgotten - 1].generation;
            moved.drain(..forgotten);
            moved.insert(0, Moved { generation: last, held: Held::Everything });
        }
        let members = members::ids(&recorded.members, &self.db.config)?;
        self.db.set_cluster(recorded.cluster);
        let holds = self.in_force();
        let tables = self.db.tables();
        let same_schema = facts.is_none() && members == before.members;
        let change = |topology: &Topology| Topology {
            shards: self.db.config.shards.iter().map(|shard| shard.name.clone()).collect(),
            members,
            distributions: recorded.distributions,
            tables,
            facts: facts.unwrap_or_else(|| topology.facts.clone()),
            epoch: recorded.epoch,
            version: if same_schema { topology.version } else { next_version() },
            generation,
            holds,
            moved: moved.into(),
            ..topology.clone()
        };
        if same_schema {
            self.db.change_topology(change);
        } else {
            self.db.set_topology(change);
        }
        self.print = look.print;
        Ok(())
    }

    /// Puts the holds in force; the placement is as it was.
    fn hold(&mut self, looked: Vec<Looked>) {
        self.take_holds(looked);
        let holds = self.in_force();
        self.db.change_topology(|topology| Topology { holds, ..topology.clone() });
    }

    fn in_force(&self) -> Arc<[Hold]> {
        self.known.iter().map(|known| known.hold.clone()).collect()
    }

    /// Takes over what is on hold; what is not any more, is returned.
    fn take_holds(&mut self, looked: Vec<Looked>) -> Vec<Held> {
        let before = std::mem::take(&mut self.known);
        let topology = self.db.topology();
        if looked.len() > HOLDS_MAX {
            tracing::error!(database = %self.db.name, holds = looked.len(), "more is on hold than can be told apart");
        }
        let too_many = looked.len() > HOLDS_MAX;
        for looked in looked {
            let known = before.iter().find(|known| known.hold.id == looked.id && known.since == looked.since);
            if let Some(known) = known {
                self.known.push(known.clone());
                continue;
            }
            self.holds += 1;
            let held = if too_many { Held::Everything } else { held(&looked, &topology) };
            self.known.push(Known {
                hold: Hold { id: looked.id, generation: self.holds, held },
                since: looked.since,
                distribution: looked.distribution,
                key: match looked.unit {
                    Unit::Key(key) => Some(key),
                    Unit::All | Unit::Slots { .. } | Unit::Other => None,
                },
                acknowledged: false,
            });
        }
        let mut released = Vec::new();
        for known in before {
            if self.known.iter().any(|kept| kept.hold.id == known.hold.id) {
                continue;
            }
            released.push(known.hold.held);
            if let Some(key) = &known.key {
                forget_key(&topology, &known.distribution, key);
            }
        }
        released
    }

    /// Acknowledges the holds whose units nobody has to do with any more.
    async fn acknowledge(&mut self) -> Result<(), Problem> {
        let open: Arc<[Hold]> =
            self.known.iter().filter(|known| !known.acknowledged).map(|known| known.hold.clone()).collect();
        let waits = self.crew.in_the_way(self.db.number, &open).await;
        let free: Vec<&Known> = self
            .known
            .iter()
            .filter(|known| !known.acknowledged && !waits.contains(&known.hold.id))
            .collect();
        if free.is_empty() {
            return Ok(());
        }
        let pairs: Vec<String> = free
            .iter()
            .map(|known| format!("({}, {}::timestamptz)", known.hold.id, literal(&known.since)))
            .collect();
        let sql = format!(
            "INSERT INTO pgherd.acks (move, proxy)
             SELECT h.move, {} FROM pgherd.holds h JOIN (VALUES {}) AS v (move, since) ON v.move = h.move AND v.since = h.since
             ON CONFLICT DO NOTHING;
             NOTIFY pgherd_acks;",
            literal(&self.id),
            pairs.join(", ")
        );
        let done: Vec<i64> = free.iter().map(|known| known.hold.id).collect();
        self.shards.rows(self.db.config.catalog, &sql).await?;
        for known in &mut self.known {
            known.acknowledged |= done.contains(&known.hold.id);
        }
        Ok(())
    }

    /// The one who held a unit is gone: beside everything else, for it asks other shards.
    fn clean_up(&self, id: i64) {
        if self.cleaning.swap(true, Ordering::AcqRel) {
            return;
        }
        let (db, password, cleaning) = (self.db.clone(), self.password.clone(), self.cleaning.clone());
        tokio::spawn(async move {
            let mut shards = Shards::new(db.clone(), password);
            match release(&mut shards, id).await {
                Ok(true) => {
                    tracing::warn!(database = %db.name, id, "a unit was on hold for too long and is served again")
                }
                Ok(false) => {}
                Err(e) => {
                    tracing::debug!(database = %db.name, id, why = %describe(&*e), "a hold that is over stays for now");
                }
            }
            cleaning.store(false, Ordering::Release);
        });
    }

    /// Nobody is served by this database any more.
    async fn leave(mut self) {
        let topology = self.db.topology();
        let hold = Hold { id: 0, generation: self.holds + 1, held: Held::Everything };
        self.db.change_topology(|_| Topology { holds: Arc::new([hold]), ..(*topology).clone() });
        let sql = format!("DELETE FROM pgherd.proxies WHERE id = {}", literal(&self.id));
        if self.leased
            && let Err(e) = self.shards.rows(self.db.config.catalog, &sql).await
        {
            tracing::debug!(database = %self.db.name, why = %describe(&*e), "the lease ends by itself");
        }
        self.db.set_left();
    }
}

/// One statement, so that all of it is of one moment.
fn look_sql(database: &str, proxies: bool) -> String {
    let print = |table: &str| {
        format!(
            "(SELECT concat_ws(' ', count(*), sum(pg_catalog.hashtextextended(t::text, 0)::numeric)) FROM pgherd.{table} t WHERE t.database = {database})"
        )
    };
    let mut sql = format!(
        "SELECT 'print', concat_ws('/', {}, {}, {}), NULL, NULL, NULL, NULL, NULL, NULL, NULL
         UNION ALL
         SELECT 'hold', h.move::text, h.distribution, h.unit ->> 'part', h.unit ->> 'from', h.unit ->> 'to', h.unit -> 'key' ->> 0,
                h.since::text, concat_ws(' ', CASE WHEN h.unit ? 'all' THEN 'all' END,
                                         CASE WHEN h.until < pg_catalog.clock_timestamp() - interval '{HOLD_OVER}' THEN 'over' END)
         FROM pgherd.holds h WHERE h.database = {database}",
        print("placement"),
        print("parts"),
        print("shards"),
    );
    if proxies {
        sql.push_str(&format!(
            " UNION ALL
             SELECT 'proxy', p.id, p.address, p.version, p.started::text, p.epoch::text, (p.lease_until > pg_catalog.clock_timestamp())::text,
                    pg_catalog.array_to_string(p.shards, ','), NULL
             FROM pgherd.proxies p WHERE p.database = {database}"
        ));
    }
    sql
}

fn read_look(rows: Vec<Vec<Option<String>>>, own: &str) -> Result<Look, Problem> {
    let mut look = Look::default();
    for row in rows {
        let Ok([Some(kind), first, second, third, fourth, fifth, sixth, seventh, eighth]) =
            <[Option<String>; 9]>::try_from(row)
        else {
            return Err("a row of the catalog cannot be read".into());
        };
        match kind.as_str() {
            "print" => look.print = first.unwrap_or_default(),
            "hold" => {
                let flags = eighth.unwrap_or_default();
                let slot = |text: Option<String>| text.and_then(|text| text.parse().ok());
                let unit = match (third.as_deref(), slot(fourth), slot(fifth), sixth) {
                    _ if flags.contains("all") => Unit::All,
                    (Some("0"), Some(from), Some(to), None) => Unit::Slots { from, to },
                    (None, None, None, Some(key)) => Unit::Key(key),
                    _ => Unit::Other,
                };
                look.holds.push(Looked {
                    id: first.unwrap_or_default().parse()?,
                    distribution: second.unwrap_or_default(),
                    unit,
                    since: seventh.unwrap_or_default(),
                    over: flags.contains("over"),
                });
            }
            _ => {
                let id = first.unwrap_or_default();
                look.proxies.get_or_insert_default().push(Proxy {
                    own: id == own,
                    id,
                    address: second.unwrap_or_default(),
                    version: third.unwrap_or_default(),
                    started: fourth.unwrap_or_default(),
                    epoch: fifth.unwrap_or_default().parse()?,
                    live: sixth.as_deref() == Some("true"),
                    shards: seventh.unwrap_or_default(),
                });
            }
        }
    }
    if look.print.is_empty() {
        return Err("the catalog gave no answer".into());
    }
    Ok(look)
}

/// What is not understood in detail is more, never less.
fn held(looked: &Looked, topology: &Topology) -> Held {
    let position = topology.distributions.iter().position(|known| known.name == looked.distribution);
    let Some(Ok(distribution)) = position.map(u16::try_from) else { return Held::Everything };
    let known = &topology.distributions[usize::from(distribution)];
    match (&looked.unit, &*known.rule) {
        (Unit::All, _) => Held::Everything,
        (Unit::Slots { from, to }, Rule::Hash(_)) => Held::Slots { distribution, from: *from, to: *to },
        (Unit::Key(key), Rule::Directory(_)) => {
            let value = known.types.first().map(|ty| KeyValue::from_text(*ty, key.as_bytes()));
            match value {
                Some(Ok(value)) => {
                    let slot = pgherd_router::hash::slot(std::slice::from_ref(&value));
                    Held::Slots { distribution, from: slot, to: slot }
                }
                Some(Err(_)) | None => Held::Distribution(distribution),
            }
        }
        (Unit::Slots { .. } | Unit::Key(_) | Unit::Other, _) => Held::Distribution(distribution),
    }
}

fn forget_key(topology: &Topology, distribution: &str, key: &str) {
    let known = topology.distributions.iter().find(|known| known.name == distribution);
    let Some(known) = known else { return };
    let Rule::Directory(directory) = &*known.rule else { return };
    match known.types.first().map(|ty| KeyValue::from_text(*ty, key.as_bytes())) {
        Some(Ok(value)) => directory.forget(&value),
        Some(Err(_)) | None => directory.forget_all(),
    }
}

/// Deletes a hold that is over, if its move is not under way: whoever moves has the row locked until it is decided, and what
/// was decided is finished on every shard first. `false`: it stays for now.
async fn release(shards: &mut Shards, id: i64) -> Result<bool, Problem> {
    let catalog = shards.db.config.catalog;
    let lock = format!(
        "BEGIN; SET LOCAL lock_timeout = '100ms';
         SELECT gid, source, target FROM pgherd.holds WHERE move = {id} AND until < pg_catalog.clock_timestamp() FOR UPDATE"
    );
    let outcome = async {
        let rows = shards.rows(catalog, &lock).await?;
        let Some([gid, source, target]) =
            rows.into_iter().next().and_then(|row| <[Option<String>; 3]>::try_from(row).ok())
        else {
            return Ok(false);
        };
        if let Some(gid) = gid {
            for name in [source, target].into_iter().flatten() {
                let at = shards.db.config.shards.iter().position(|shard| shard.name == name);
                let at = at.ok_or_else(|| format!("shard \"{name}\" is not configured here"))?;
                let sql =
                    format!("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE gid = {}", literal(&gid));
                // On a connection that is not the catalog's: that one is in its transaction, which sees it as well.
                if !shards.rows(at, &sql).await?.is_empty() {
                    return Ok(false);
                }
            }
        }
        let sql = format!(
            "DELETE FROM pgherd.acks WHERE move = {id}; DELETE FROM pgherd.holds WHERE move = {id}; NOTIFY pgherd_placement"
        );
        shards.rows(catalog, &sql).await?;
        Ok(true)
    };
    let outcome: Result<bool, Problem> = outcome.await;
    let end = if matches!(outcome, Ok(true)) { "COMMIT" } else { "ROLLBACK" };
    shards.rows(catalog, end).await?;
    outcome
}

/// Rows of proxies that nobody deleted.
pub async fn forget_proxies(shards: &mut Shards) -> Result<(), Problem> {
    let sql = format!(
        "DELETE FROM pgherd.proxies WHERE lease_until < pg_catalog.clock_timestamp() - interval '{PROXY_FORGOTTEN}'"
    );
    shards.rows(shards.db.config.catalog, &sql).await.map(drop)
}

#[cfg(test)]
mod tests {
    use pgherd_config::KeyType;
    use pgherd_router::directory::Directory;
    use pgherd_router::rule::KeyRange;
    use pgherd_router::topology::{Distribution, SLOTS};
    use pgherd_router::{ShardId, Topology};

    use super::*;

    fn topology() -> Topology {
        let distribution = |name: &str, rule: Rule| Distribution {
            name: name.into(),
            types: vec![KeyType::BigInt],
            rule: Arc::new(rule),
            shown: Default::default(),
        };
        let all = KeyRange { from: None, to: None, shard: ShardId(0) };
        Topology {
            database: "shop".into(),
            shards: vec!["s0".into()],
            members: Vec::new(),
            distributions: vec![
                distribution("by_hash", Rule::hash(vec![ShardId(0); SLOTS].into()).unwrap()),
                distribution("by_range", Rule::range(vec![all]).unwrap()),
                distribution("by_key", Rule::Directory(Arc::new(Directory::default()))),
            ],
            tables: Vec::new(),
            facts: Facts::default(),
            epoch: 1,
            version: 1,
            generation: 1,
            holds: Arc::default(),
            moved: Arc::default(),
        }
    }

    #[test]
    fn what_is_not_understood_of_a_hold_holds_more() {
        let row = |distribution: &str, cells: [Option<&str>; 4], flags: &str| {
            let [part, from, to, key] = cells.map(|cell| cell.map(str::to_owned));
            let text = |text: &str| Some(text.to_owned());
            vec![
                text("hold"),
                text("7"),
                text(distribution),
                part,
                from,
                to,
                key,
                text("2030-01-01"),
                text(flags),
            ]
        };
        let key = KeyValue::from_text(KeyType::BigInt, b"42").unwrap();
        let slot = pgherd_router::hash::slot(&[key]);
        let cases = [
            (
                "slots",
                row("by_hash", [Some("0"), Some("5"), Some("9"), None], ""),
                Held::Slots { distribution: 0, from: 5, to: 9 },
            ),
            (
                "a part of a list",
                row("by_hash", [Some("2"), Some("5"), Some("9"), None], ""),
                Held::Distribution(0),
            ),
            ("no number", row("by_hash", [Some("0"), Some("x"), Some("9"), None], ""), Held::Distribution(0)),
            ("a range", row("by_range", [Some("3"), None, None, None], ""), Held::Distribution(1)),
            (
                "slots of a range",
                row("by_range", [Some("0"), Some("5"), Some("9"), None], ""),
                Held::Distribution(1),
            ),
            (
                "a key",
                row("by_key", [None, None, None, Some("42")], ""),
                Held::Slots { distribution: 2, from: slot, to: slot },
            ),
            (
                "no key of its type",
                row("by_key", [None, None, None, Some("acme")], ""),
                Held::Distribution(2),
            ),
            ("nothing known", row("by_key", [None, None, None, None], ""), Held::Distribution(2)),
            ("everything", row("", [None, None, None, None], "all"), Held::Everything),
            (
                "a distribution that is not configured",
                row("other", [Some("0"), Some("5"), Some("9"), None], ""),
                Held::Everything,
            ),
        ];
        let print = |text: &str| {
            let mut row = vec![Some("print".to_owned()), Some(text.to_owned())];
            row.resize(9, None);
            row
        };
        for (why, row, expected) in cases {
            let look = read_look(vec![print("1 2"), row], "me").unwrap();
            assert_eq!(look.print, "1 2");
            let [looked] = &look.holds[..] else { panic!("{why}") };
            assert!((looked.id, looked.over) == (7, false), "{why}");
            assert_eq!(held(looked, &topology()), expected, "{why}");
        }
        let over = row("by_hash", [Some("0"), Some("5"), Some("9"), None], "over");
        assert!(read_look(vec![print("1"), over], "me").unwrap().holds[0].over);
        assert!(read_look(Vec::new(), "me").is_err(), "no answer is no empty answer");
    }
}
