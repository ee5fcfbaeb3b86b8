//! That nothing was lost: what is in the servers, against what pgbench was told.
//!
//! Invariant: every check looks at the servers themselves, past pgherd; what pgherd answers is compared with
//! that, never trusted for itself. Where a row belongs is computed by PostgreSQL and not by our router.
//!
//! Start reading at [`after_load`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use super::servers::{Herd, HerdError};
use super::tables::{self, ACCOUNTS, BRANCHES, HISTORY, PGBENCH, PLAYGROUND, Sharded, TELLERS};

/// Slots of the hash ring, section 5 of the design.
const SLOTS: u32 = 16_384;

/// The resolver of a proxy finishes what a lost connection left.
const PREPARED_GONE_WITHIN: Duration = Duration::from_secs(10);

/// One thing that must be true, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub claim: &'static str,
    /// The evidence, or what contradicts the claim.
    pub verdict: Result<String, String>,
}

impl Check {
    fn new(claim: &'static str, verdict: Result<String, String>) -> Self {
        Self { claim, verdict }
    }

    pub fn holds(&self) -> bool {
        self.verdict.is_ok()
    }
}

/// What the four tables of pgbench add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub accounts: i64,
    pub tellers: i64,
    pub branches: i64,
    pub history: i64,
    pub history_rows: u64,
}

const TOTALS: [&str; 5] = [
    "SELECT sum(abalance) FROM pgbench_accounts;",
    "SELECT sum(tbalance) FROM pgbench_tellers;",
    "SELECT sum(bbalance) FROM pgbench_branches;",
    "SELECT sum(delta) FROM pgbench_history;",
    "SELECT count(*) FROM pgbench_history;",
];

impl Totals {
    /// As an application sees them, at any endpoint.
    ///
    /// # Errors
    /// With what psql said.
    pub fn at(herd: &Herd, url: &str) -> Result<Self, HerdError> {
        Self::read(&herd.psql_at(url, &TOTALS.join("\n"))?)
    }

    /// Summed up over the servers by us.
    ///
    /// # Errors
    /// With what psql said.
    pub fn over_servers(herd: &Herd) -> Result<Self, HerdError> {
        let mut sum = Self::default();
        for server in 0..herd.len() {
            let one = Self::read(&herd.psql(server, &TOTALS.join("\n"))?)?;
            sum.accounts += one.accounts;
            sum.tellers += one.tellers;
            sum.branches += one.branches;
            sum.history += one.history;
            sum.history_rows += one.history_rows;
        }
        Ok(sum)
    }

    fn read(answers: &str) -> Result<Self, HerdError> {
        // The sum of no rows is NULL: an empty line, and the last one may have been trimmed.
        let mut lines = answers.split('\n');
        let mut next = || match lines.next().unwrap_or_default() {
            "" => Ok(0),
            number => number.parse::<i64>().map_err(|_| unreadable("the sums", answers)),
        };
        Ok(Self {
            accounts: next()?,
            tellers: next()?,
            branches: next()?,
            history: next()?,
            history_rows: u64::try_from(next()?).map_err(|_| unreadable("the sums", answers))?,
        })
    }
}

/// After an initialisation: all rows are there, and each is where it belongs.
///
/// # Errors
/// When a server cannot be asked.
pub fn after_initialisation(herd: &Herd, scale: u32) -> Result<Vec<Check>, HerdError> {
    Ok(vec![rows_of_scale(&census(herd, &PGBENCH)?, scale, 0), rows_where_they_belong(herd, &PGBENCH)?])
}

/// After the load: everything that the issue promises. `acknowledged` is what pgbench counted.
///
/// # Errors
/// When a server, or the endpoint, cannot be asked.
pub fn after_load(herd: &Herd, url: &str, scale: u32, acknowledged: u64) -> Result<Vec<Check>, HerdError> {
    let direct = Totals::over_servers(herd)?;
    let through = Totals::at(herd, url)?;
    let everything: Vec<Sharded> = PGBENCH.into_iter().chain(PLAYGROUND).collect();
    Ok(vec![
        sums_agree(&direct),
        endpoint_agrees(&direct, &through),
        nothing_lost(&direct, acknowledged),
        rows_of_scale(&census(herd, &PGBENCH)?, scale, acknowledged),
        rows_where_they_belong(herd, &everything)?,
        copies_agree(herd)?,
        nothing_prepared(herd, PREPARED_GONE_WITHIN)?,
    ])
}

fn sums_agree(direct: &Totals) -> Check {
    let Totals { accounts, tellers, branches, history, .. } = *direct;
    let agree = accounts == tellers && tellers == branches && branches == history;
    let verdict = match agree {
        true => Ok(format!("each is {accounts}")),
        false => {
            Err(format!("accounts {accounts}, tellers {tellers}, branches {branches}, history {history}"))
        }
    };
    Check::new("accounts, tellers, branches and history add up to the same", verdict)
}

fn endpoint_agrees(direct: &Totals, through: &Totals) -> Check {
    let verdict = match direct == through {
        true => Ok("five totals".into()),
        false => Err(format!("on the servers {direct:?}, through pgherd {through:?}")),
    };
    Check::new("pgherd answers what its servers hold", verdict)
}

fn nothing_lost(direct: &Totals, acknowledged: u64) -> Check {
    let rows = direct.history_rows;
    let verdict = match rows == acknowledged {
        true => Ok(format!("{rows} rows")),
        false => Err(format!("{rows} rows for {acknowledged} acknowledged transactions")),
    };
    Check::new("history has one row for each acknowledged transaction", verdict)
}

/// Rows by table and server.
pub type Census = BTreeMap<&'static str, Vec<u64>>;

/// Counts the rows of each table on each server.
///
/// # Errors
/// When a server cannot be asked.
pub fn census(herd: &Herd, tables: &[Sharded]) -> Result<Census, HerdError> {
    let mut census = Census::new();
    for server in 0..herd.len() {
        for table in tables {
            let answer = herd.psql(server, &format!("SELECT count(*) FROM {}", table.name))?;
            let rows = answer.parse().map_err(|_| unreadable("a count", &answer))?;
            census.entry(table.name).or_default().push(rows);
        }
    }
    Ok(census)
}

fn rows_of_scale(census: &Census, scale: u32, history: u64) -> Check {
    let scale = u64::from(scale);
    let expected =
        [(ACCOUNTS, 100_000 * scale), (TELLERS, 10 * scale), (BRANCHES, scale), (HISTORY, history)];
    let wrong: Vec<String> = expected
        .into_iter()
        .map(|(table, rows)| {
            (table.name, rows, census.get(table.name).map_or(0, |counts| counts.iter().sum()))
        })
        .filter(|(_, expected, found)| expected != found)
        .map(|(table, expected, found)| format!("{table}: {found} rows instead of {expected}"))
        .collect();
    let verdict = match wrong.is_empty() {
        true => Ok(format!("{} accounts, {} tellers, {scale} branches", 100_000 * scale, 10 * scale)),
        false => Err(wrong.join("; ")),
    };
    Check::new("every row of pgbench is there once", verdict)
}

/// Which slots of one distribution each shard has, as `pgherd.placement` on the catalog shard says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Placement {
    ranges: Vec<(RangeInclusive<u32>, String)>,
}

impl Placement {
    fn of(herd: &Herd, distribution: &str) -> Result<Result<Self, String>, HerdError> {
        let database = &herd.options().database;
        let rows = herd.psql(
            0,
            &format!(
                "SELECT slot_from, slot_to, shard FROM pgherd.placement \
                 WHERE database = '{database}' AND distribution = '{distribution}' ORDER BY slot_from"
            ),
        )?;
        Ok(Self::read(&rows).map_err(|why| format!("placement of {distribution}: {why}")))
    }

    /// Every slot has one owner, or it is no placement.
    fn read(rows: &str) -> Result<Self, String> {
        let mut placement = Self::default();
        let mut next = 0;
        for row in rows.lines() {
            let mut fields = row.splitn(3, '|');
            let mut number = || fields.next()?.parse::<u32>().ok();
            let (from, to) = number().zip(number()).ok_or_else(|| format!("cannot read {row:?}"))?;
            let shard = fields.next().ok_or_else(|| format!("cannot read {row:?}"))?;
            if from != next || to < from {
                return Err(format!("slots {from} to {to} do not follow {next}"));
            }
            placement.ranges.push((from..=to, shard.to_owned()));
            next = to + 1;
        }
        match next == SLOTS {
            true => Ok(placement),
            false => Err(format!("only {next} of {SLOTS} slots have an owner")),
        }
    }

    /// "(0, 17), (40, 99)": the slots of one shard, for SQL.
    fn values(&self, shard: &str) -> Option<String> {
        let ranges = self.ranges.iter().filter(|(_, owner)| owner == shard);
        let values: Vec<_> =
            ranges.map(|(range, _)| format!("({}, {})", range.start(), range.end())).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

/// Asks each server to compute the slot of each of its rows, and PostgreSQL's own partitioning whether the
/// slot is right.
fn rows_where_they_belong(herd: &Herd, tables: &[Sharded]) -> Result<Check, HerdError> {
    const CLAIM: &str = "every row is on the shard where its key belongs";
    let mut placements: BTreeMap<&str, Placement> = BTreeMap::new();
    let mut wrong = Vec::new();
    for table in tables {
        if !placements.contains_key(table.distribution) {
            match Placement::of(herd, table.distribution)? {
                Ok(placement) => drop(placements.insert(table.distribution, placement)),
                Err(why) => wrong.push(why),
            }
        }
    }
    if !wrong.is_empty() {
        return Ok(Check::new(CLAIM, Err(wrong.join("; "))));
    }

    let mut checked = 0;
    for server in 0..herd.len() {
        for table in tables {
            let inspection = inspect(herd, server, table, &placements[table.distribution])?;
            checked += inspection.rows;
            let on = format!("{} on shard {}", table.name, tables::shard_name(server));
            if inspection.strangers > 0 {
                wrong.push(format!("{on}: {} rows belong to another shard", inspection.strangers));
            }
            if inspection.disputed > 0 {
                wrong.push(format!("{on}: PostgreSQL puts {} rows into another slot", inspection.disputed));
            }
        }
    }
    let verdict = match wrong.is_empty() {
        true => Ok(format!("{checked} rows, checked by satisfies_hash_partition")),
        false => Err(wrong.join("; ")),
    };
    Ok(Check::new(CLAIM, verdict))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Inspection {
    rows: u64,
    /// Their slot is not this shard's.
    strangers: u64,
    /// Their slot is not the one that `satisfies_hash_partition` accepts.
    disputed: u64,
}

/// The slot of a key, in plain SQL (section 5 of the design). An integer hashes as the bigint of its value.
fn slot_sql(key: &str) -> String {
    format!(
        "(((hashint8extended({key}, 8816678312871386365) & 16383) + (5305509591434766563 & 16383)) & 16383)::integer"
    )
}

fn inspect(
    herd: &Herd,
    server: usize,
    table: &Sharded,
    placement: &Placement,
) -> Result<Inspection, HerdError> {
    let Sharded { name, key, key_type, .. } = table;
    let own = match placement.values(&tables::shard_name(server)) {
        Some(values) => {
            format!("INSERT INTO own SELECT generate_series(a, b) FROM (VALUES {values}) AS range (a, b);")
        }
        None => String::new(),
    };
    let answer = herd.psql(
        server,
        &format!(
            "CREATE TEMP TABLE judge (key {key_type}) PARTITION BY HASH (key);
             CREATE TEMP TABLE own (slot integer PRIMARY KEY);
             {own}
             ANALYZE own;
             SELECT count(*),
                    count(*) FILTER (WHERE own.slot IS NULL),
                    count(*) FILTER (WHERE NOT satisfies_hash_partition('judge'::regclass, {SLOTS}, placed.slot, placed.key))
             FROM (SELECT {key} AS key, {slot} AS slot FROM {name}) AS placed LEFT JOIN own USING (slot)",
            slot = slot_sql(key),
        ),
    )?;
    let mut numbers = answer.split('|').map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(rows)), Some(Ok(strangers)), Some(Ok(disputed))) => {
            Ok(Inspection { rows, strangers, disputed })
        }
        _ => Err(unreadable("an inspection", &answer)),
    }
}

fn copies_agree(herd: &Herd) -> Result<Check, HerdError> {
    let table = tables::REFERENCE;
    let mut copies = Vec::new();
    for server in 0..herd.len() {
        copies.push(herd.psql(server, &format!("SELECT * FROM {table} ORDER BY 1"))?);
    }
    let verdict = match copies.iter().position(|copy| *copy != copies[0]) {
        None if copies[0].is_empty() => Err(format!("{table} is empty")),
        None => Ok(format!("{table}: {} rows, {} copies", copies[0].lines().count(), copies.len())),
        Some(server) => Err(format!("{table} on {} differs from s0", tables::shard_name(server))),
    };
    Ok(Check::new("a reference table is the same on every shard", verdict))
}

fn nothing_prepared(herd: &Herd, within: Duration) -> Result<Check, HerdError> {
    let deadline = Instant::now() + within;
    let left = loop {
        let mut left = Vec::new();
        for server in 0..herd.len() {
            let answer = herd.psql(server, "SELECT gid FROM pg_prepared_xacts")?;
            left.extend(answer.lines().map(|gid| format!("{gid} on {}", tables::shard_name(server))));
        }
        if left.is_empty() || Instant::now() >= deadline {
            break left;
        }
        thread::sleep(Duration::from_millis(100));
    };
    let verdict = match left.is_empty() {
        true => Ok("pg_prepared_xacts is empty on all servers".into()),
        false => Err(left.join(", ")),
    };
    Ok(Check::new("no prepared transaction is left", verdict))
}

fn unreadable(what: &str, answer: &str) -> HerdError {
    HerdError::Failed { doing: format!("read {what}"), said: format!("unexpected answer {answer:?}") }
}

#[cfg(test)]
mod tests {
    use super::super::servers::HerdOptions;
    use super::*;

    fn verdict(check: &Check) -> &str {
        match &check.verdict {
            Ok(evidence) => evidence,
            Err(why) => why,
        }
    }

    #[test]
    fn a_placement_gives_every_slot_one_owner() {
        let cases = [
            ("two shards", "0|8191|s0\n8192|16383|s1", Ok(2)),
            ("empty", "", Err("only 0 of 16384 slots have an owner")),
            ("the end is missing", "0|100|s0", Err("only 101 of 16384 slots have an owner")),
            ("a gap", "0|100|s0\n102|16383|s1", Err("slots 102 to 16383 do not follow 101")),
            ("an overlap", "0|100|s0\n100|16383|s1", Err("slots 100 to 16383 do not follow 101")),
            ("upside down", "0|0|s0\n1|0|s1", Err("slots 1 to 0 do not follow 1")),
            ("too many", "0|16384|s0", Err("only 16385 of 16384 slots have an owner")),
            ("no number", "0|x|s0", Err("cannot read \"0|x|s0\"")),
        ];
        for (why, rows, expected) in cases {
            let found = Placement::read(rows).map(|placement| placement.ranges.len());
            assert_eq!(found, expected.map_err(str::to_owned), "{why}");
        }
    }

    #[test]
    fn sums_and_rows_are_compared_with_what_was_acknowledged() {
        let good = Totals { accounts: -5, tellers: -5, branches: -5, history: -5, history_rows: 3 };
        assert!(sums_agree(&good).holds());
        for broken in [
            Totals { accounts: 1, ..good },
            Totals { tellers: 1, ..good },
            Totals { branches: 1, ..good },
            Totals { history: 1, ..good },
        ] {
            assert!(!sums_agree(&broken).holds(), "{broken:?}");
            assert!(!endpoint_agrees(&good, &broken).holds(), "{broken:?}");
        }
        assert!(endpoint_agrees(&good, &good).holds());
        assert!(nothing_lost(&good, 3).holds());
        assert!(!nothing_lost(&good, 4).holds(), "one was lost");
        assert!(!nothing_lost(&good, 2).holds(), "one is there twice");
    }

    #[test]
    fn the_sum_of_no_rows_is_zero() {
        let read = |answers: &str| Totals::read(answers).unwrap();
        assert_eq!(read("0\n0\n0\n\n0"), Totals::default());
        assert_eq!(read("1\n2\n3\n4\n5").history_rows, 5);
        assert!(Totals::read("1\nx").is_err());
    }

    /// A herd as pgherd would have filled it, by hand: two shards, half of the slots each.
    fn filled_herd() -> Herd {
        let herd = Herd::start(2, HerdOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        herd.psql(
            0,
            "CREATE SCHEMA pgherd;
             CREATE TABLE pgherd.placement (database text, distribution text, slot_from int, slot_to int, shard text, epoch int);
             INSERT INTO pgherd.placement SELECT 'shop', distribution, slot_from, slot_to, shard, 1
             FROM unnest(ARRAY['account', 'teller', 'branch', 'customer']) AS distribution,
                  (VALUES (0, 8191, 's0'), (8192, 16383, 's1')) AS half (slot_from, slot_to, shard)",
        )
        .unwrap();
        for server in 0..2 {
            let mine = |key: &str| format!("{} / 8192 = {server}", slot_sql(key));
            herd.psql(
                server,
                &format!(
                    "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int);
                     CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int);
                     CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int);
                     CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int);
                     CREATE TABLE customers (id bigint PRIMARY KEY);
                     CREATE TABLE orders (customer_id bigint);
                     CREATE TABLE countries (code text);
                     INSERT INTO countries VALUES ('DE'), ('PE');
                     INSERT INTO customers SELECT id FROM generate_series(-500::bigint, 500) AS id WHERE {};
                     INSERT INTO pgbench_accounts SELECT aid, 1, 0 FROM generate_series(1, 100000) AS aid WHERE {};
                     INSERT INTO pgbench_tellers SELECT tid, 1, 0 FROM generate_series(1, 10) AS tid WHERE {};
                     INSERT INTO pgbench_branches SELECT bid, 0 FROM generate_series(1, 1) AS bid WHERE {};",
                    mine("id"),
                    mine("aid"),
                    mine("tid"),
                    mine("bid"),
                ),
            )
            .unwrap();
        }
        herd
    }

    /// Runs `sql` on both servers, and says what the proof then finds wrong.
    fn faults(herd: &Herd, sql: &str) -> Vec<String> {
        for server in 0..2 {
            herd.psql(server, sql).unwrap();
        }
        let everything: Vec<Sharded> = PGBENCH.into_iter().chain(PLAYGROUND).collect();
        let direct = Totals::over_servers(herd).unwrap();
        let checks = [
            sums_agree(&direct),
            nothing_lost(&direct, 0),
            rows_of_scale(&census(herd, &PGBENCH).unwrap(), 1, 0),
            rows_where_they_belong(herd, &everything).unwrap(),
            copies_agree(herd).unwrap(),
            nothing_prepared(herd, Duration::ZERO).unwrap(),
        ];
        checks.iter().filter(|check| !check.holds()).map(|check| verdict(check).to_owned()).collect()
    }

    #[test]
    fn the_proof_fails_for_each_way_in_which_a_herd_can_be_broken() {
        let herd = filled_herd();
        assert_eq!(faults(&herd, "SELECT 1"), [""; 0], "as it is");

        let history = faults(&herd, "INSERT INTO pgbench_history VALUES (1, 1, 1, 0)");
        assert_eq!(history.len(), 3, "{history:?}");
        assert_eq!(history[0], "2 rows for 0 acknowledged transactions");
        assert!(history[2].contains("pgbench_history on shard s"), "{history:?}");
        assert!(history[2].contains("1 rows belong to another shard"), "{history:?}");
        assert_eq!(faults(&herd, "TRUNCATE pgbench_history"), [""; 0]);

        let torn = faults(&herd, "UPDATE pgbench_branches SET bbalance = 7");
        assert_eq!(torn, ["accounts 0, tellers 0, branches 7, history 0"]);
        assert_eq!(faults(&herd, "UPDATE pgbench_branches SET bbalance = 0"), [""; 0]);

        let lost = faults(&herd, "DELETE FROM pgbench_accounts WHERE aid = 77");
        assert_eq!(lost, ["pgbench_accounts: 99999 rows instead of 100000"]);
        let doubled = faults(&herd, "INSERT INTO pgbench_accounts VALUES (77, 1, 0)");
        assert_eq!(doubled.len(), 2, "{doubled:?}");
        assert_eq!(doubled[0], "pgbench_accounts: 100001 rows instead of 100000");
        let stranger =
            format!("DELETE FROM pgbench_accounts WHERE aid = 77 AND {} / 8192 = ", slot_sql("aid"));
        herd.psql(0, &format!("{stranger} 1")).unwrap();
        herd.psql(1, &format!("{stranger} 0")).unwrap();
        assert_eq!(faults(&herd, "SELECT 1"), [""; 0]);

        let null_key = faults(&herd, "INSERT INTO orders VALUES (NULL)");
        assert!(
            null_key[0].starts_with("orders on shard s0: 1 rows belong to another shard"),
            "{null_key:?}"
        );
        assert_eq!(faults(&herd, "TRUNCATE orders"), [""; 0]);

        herd.psql(1, "INSERT INTO countries VALUES ('KE')").unwrap();
        assert_eq!(faults(&herd, "SELECT 1"), ["countries on s1 differs from s0"]);
        herd.psql(1, "DELETE FROM countries WHERE code = 'KE'").unwrap();

        herd.psql(1, "BEGIN; INSERT INTO countries VALUES ('KE'); PREPARE TRANSACTION 'pending'").unwrap();
        assert_eq!(faults(&herd, "SELECT 1"), ["pending on s1"]);
        herd.psql(1, "ROLLBACK PREPARED 'pending'").unwrap();

        let unplaced = faults(
            &herd,
            "DO $$ BEGIN IF to_regclass('pgherd.placement') IS NOT NULL THEN
             DELETE FROM pgherd.placement WHERE distribution = 'teller' AND slot_from = 0; END IF; END $$",
        );
        assert_eq!(unplaced, ["placement of teller: slots 8192 to 16383 do not follow 0"]);
    }
}
