//! Medians, ratios, and the Markdown that can be pasted into the README.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::POOL;
use crate::capacity::{self, CORES_ENOUGH, Capacity};
use crate::idle::Idle;
use crate::load::{Load, Until};
use crate::plan::Plan;
use crate::refusals::Refusals;
use crate::round::Round;
use crate::subjects::Pooler;
use crate::targets::{self, Target};

/// Everything measured.
#[derive(Debug, Default)]
pub struct Results {
    rounds: Vec<Taken>,
    pub idle: Vec<(Pooler, Idle)>,
    /// Each with the number of its round.
    pub capacity: Vec<(u32, Pooler, Capacity)>,
    pub refusals: Refusals,
}

#[derive(Debug)]
struct Taken {
    load: Load,
    pooler: Pooler,
    number: u32,
    round: Round,
}

/// On what it was measured.
#[derive(Debug)]
pub struct Setting {
    pub postgresql: String,
    /// `Err`: why there is none.
    pub pgbouncer: Result<String, String>,
    pub pgherd: Option<String>,
    pub scale: u32,
}

impl Results {
    pub fn of(refusals: Refusals) -> Self {
        Self { refusals, ..Self::default() }
    }

    pub fn add(&mut self, load: Load, pooler: Pooler, number: u32, round: Round) {
        self.rounds.push(Taken { load, pooler, number, round });
    }

    /// One figure of each round.
    fn each(&self, load: &Load, pooler: Pooler, of: impl Fn(&Round) -> Option<f64>) -> Vec<(u32, f64)> {
        let taken = self.rounds.iter().filter(|taken| taken.load == *load && taken.pooler == pooler);
        taken.filter_map(|taken| Some((taken.number, of(&taken.round)?))).collect()
    }

    fn median(&self, load: &Load, pooler: Pooler, of: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        median(self.each(load, pooler, of).into_iter().map(|(_, figure)| figure).collect())
    }

    /// One figure over another, round by round: both were taken within seconds.
    fn ratio(
        &self,
        load: &Load,
        above: (Pooler, impl Fn(&Round) -> Option<f64>),
        below: (Pooler, impl Fn(&Round) -> Option<f64>),
    ) -> Option<Spread> {
        Spread::of(ratios(&self.each(load, above.0, above.1), &self.each(load, below.0, below.1)))
    }
}

/// Of those that have the same number.
fn ratios(above: &[(u32, f64)], below: &[(u32, f64)]) -> Vec<f64> {
    let ratio = |(number, above): &(u32, f64)| {
        let (_, below) = below.iter().find(|(other, _)| other == number)?;
        (*below > 0.0).then(|| above / below)
    };
    above.iter().filter_map(ratio).collect()
}

/// A median with the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    least: f64,
    median: f64,
    greatest: f64,
}

impl Spread {
    fn of(figures: Vec<f64>) -> Option<Self> {
        let least = figures.iter().copied().reduce(f64::min)?;
        let greatest = figures.iter().copied().reduce(f64::max)?;
        Some(Self { least, median: median(figures)?, greatest })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "**{:.2}** ({:.2} to {:.2})", self.median, self.least, self.greatest)
    }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let upper = figures.len() / 2;
    match figures.len() {
        0 => None,
        count if count % 2 == 1 => Some(figures[upper]),
        _ => Some(f64::midpoint(figures[upper - 1], figures[upper])),
    }
}

fn both(round: &Round) -> Option<f64> {
    Some(round.proxy_us? + round.server_us)
}

pub fn markdown(setting: &Setting, plan: &Plan, results: &Results) -> String {
    let mut text = how(setting, plan, results);
    let mut add = |before: &str, rows: Vec<Vec<String>>| {
        if rows.len() > 1 {
            text.push_str(&format!("\n{before}\n\n{}", table(&rows)));
        }
    };
    add(
        "Medians of the rounds; microseconds are CPU time per transaction. The ratio is pgherd's proxy over PgBouncer's, taken round by \
         round, with the least and the greatest of them; below 1.00 pgherd spends less.",
        beside_pgbouncer(plan, results),
    );
    add("Other targets, as medians of the ratios or figures of each round:", other_targets(plan, results));
    add(
        "Clients that do nothing, let in by trust: memory is what the process has more of (Pss), for each of them; CPU is of all of them.",
        idle(results),
    );
    add(
        &format!(
            "In front of a stub that answers at once, {} clients (medians). Busy is the part of the time in which a worker ran or \
             was ready to run, the least of its workers; the last column is what that many busy workers do with a core each.",
            capacity::CLIENTS
        ),
        capacities(results),
    );
    add("All medians:", figures(plan, results));
    text
}

/// The rows of pgherd with a row of PgBouncer.
fn beside_pgbouncer(plan: &Plan, results: &Results) -> Vec<Vec<String>> {
    let head = [
        "script, protocol, clients",
        "proxy: PgBouncer",
        "pgherd",
        "ratio (least to greatest)",
        "target",
        "reached",
        "p99, ratio",
        "proxy and server: PgBouncer",
        "pgherd",
        "direct",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for row in &plan.rows {
        for pooler in [Pooler::Pgherd, Pooler::PgherdSharded] {
            if !row.poolers.contains(&pooler) || !row.poolers.contains(&Pooler::PgBouncer) {
                continue;
            }
            let load = &row.load;
            let median = |pooler, of: fn(&Round) -> Option<f64>| {
                results.median(load, pooler, of).map_or_else(|| "-".to_owned(), |us| format!("{us:.1} us"))
            };
            let beside =
                |of: fn(&Round) -> Option<f64>| results.ratio(load, (pooler, of), (Pooler::PgBouncer, of));
            let refused = results.refusals.has(load, pooler);
            let ratio = beside(|round| round.proxy_us);
            let target = targets::cpu(load, pooler);
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let over = if pooler == Pooler::PgherdSharded { ", over 4 shards" } else { "" };
            rows.push(vec![
                format!("{load}{over}"),
                median(Pooler::PgBouncer, |round| round.proxy_us),
                if refused { "refused".to_owned() } else { median(pooler, |round| round.proxy_us) },
                or_dash(ratio.map(|ratio| ratio.to_string())),
                or_dash(target.map(|target| target.to_string())),
                or_dash(target.map(|target| {
                    let missed = if refused { "no" } else { "-" };
                    ratio.map_or(missed, |ratio| target.reached(ratio.median)).to_owned()
                })),
                or_dash(beside(|round| Some(round.p99_ms)).map(|ratio| format!("{:.2}", ratio.median))),
                median(Pooler::PgBouncer, both),
                median(pooler, both),
                median(Pooler::None, |round| Some(round.server_us)),
            ]);
        }
    }
    rows
}

fn other_targets(plan: &Plan, results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![["what", "target", "measured", "reached"].map(str::to_owned).to_vec()];
    let mut add = |what: String, target: Target, found: Option<Spread>| {
        if let Some(found) = found {
            let reached = target.reached(found.median).to_owned();
            rows.push(vec![what, target.to_string(), found.to_string(), reached]);
        }
    };
    for load in plan.rows.iter().map(|row| &row.load) {
        if let Some(target) = targets::beside_direct(load) {
            let direct = |round: &Round| Some(round.server_us);
            let ratio = results.ratio(load, (Pooler::Pgherd, both), (Pooler::None, direct));
            add(format!("CPU of proxy and server, pgherd / direct: {load}"), target, ratio);
        }
    }
    for load in plan.rows.iter().map(|row| &row.load) {
        if let Some(target) = targets::p99(load) {
            let p99 = |round: &Round| Some(round.p99_ms);
            let ratio = results.ratio(load, (Pooler::Pgherd, p99), (Pooler::PgBouncer, p99));
            add(format!("p99 latency, pgherd / PgBouncer: {load}"), target, ratio);
        }
    }
    for load in plan.rows.iter().map(|row| &row.load) {
        let proxy = |round: &Round| round.proxy_us;
        let ratio = results.ratio(load, (Pooler::PgherdTwo, proxy), (Pooler::Pgherd, proxy));
        add(format!("CPU of the proxy, two workers / one: {load}"), targets::TWO_WORKERS_CPU, ratio);
    }
    let (what, ratio) = throughput_of_two(results);
    add(what, targets::TWO_WORKERS_THROUGHPUT, ratio);
    let of_idle = |of: fn(&Idle) -> f64| {
        let mine = results.idle.iter().filter(|(pooler, _)| *pooler == Pooler::Pgherd);
        Spread::of(mine.map(|(_, idle)| of(idle)).collect())
    };
    let clients = results.idle.first().map_or(0, |(_, idle)| idle.clients);
    let each = format!("KiB for each of {} idle clients", thousands(clients.into()));
    let all = format!("ms of CPU per second, {} idle clients", thousands(clients.into()));
    add(format!("{each}, before a query"), targets::IDLE_KIB, of_idle(|idle| idle.connected.kib));
    add(format!("{each}, after one"), targets::IDLE_KIB, of_idle(|idle| idle.queried.kib));
    add(format!("{all}, before a query"), targets::IDLE_CPU_MS, of_idle(|idle| idle.connected.cpu_ms));
    add(format!("{all}, after one"), targets::IDLE_CPU_MS, of_idle(|idle| idle.queried.cpu_ms));
    rows
}

/// Two workers over one in front of the stub, and how that was judged.
fn throughput_of_two(results: &Results) -> (String, Option<Spread>) {
    let of = |pooler, figure: fn(&Capacity) -> f64| -> Vec<(u32, f64)> {
        let taken = results.capacity.iter().filter(|(_, of, _)| *of == pooler);
        taken.map(|(number, _, capacity)| (*number, figure(capacity))).collect()
    };
    let ratio = |figure| Spread::of(ratios(&of(Pooler::PgherdTwo, figure), &of(Pooler::Pgherd, figure)));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (plain, own) = (ratio(|capacity| capacity.tps), ratio(Capacity::of_own_cores));
    if cores >= CORES_ENOUGH {
        return ("transactions per second, two workers / one, stub".into(), plain);
    }
    let most = |pooler| {
        let taken = results.capacity.iter().filter(|(_, of, _)| *of == pooler);
        median(taken.map(|(_, _, capacity)| capacity.most_on(cores)).collect())
    };
    let permitted = most(Pooler::PgherdTwo).zip(most(Pooler::Pgherd)).map_or(0.0, |(two, one)| two / one);
    let what = format!(
        "throughput, two workers / one, stub, as if each worker had a core (load and stub share the {cores} cores of this machine, \
         which permit {permitted:.2}; measured in transactions per second: {:.2})",
        plain.map_or(0.0, |plain| plain.median)
    );
    (what, own)
}

fn idle(results: &Results) -> Vec<Vec<String>> {
    let head =
        ["", "clients", "memory, connected", "after a query", "CPU per second, connected", "after a query"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for pooler in Pooler::ALL {
        let of = |figure: fn(&Idle) -> f64| {
            let mine = results.idle.iter().filter(|(of, _)| *of == pooler);
            median(mine.map(|(_, idle)| figure(idle)).collect())
        };
        let Some(clients) = of(|idle| idle.clients.into()) else { continue };
        let (kib, ms) = (|figure: f64| format!("{figure:.2} KiB"), |figure: f64| format!("{figure:.2} ms"));
        rows.push(vec![
            pooler.name().into(),
            thousands(clients),
            of(|idle| idle.connected.kib).map(kib).unwrap_or_default(),
            of(|idle| idle.queried.kib).map(kib).unwrap_or_default(),
            of(|idle| idle.connected.cpu_ms).map(ms).unwrap_or_default(),
            of(|idle| idle.queried.cpu_ms).map(ms).unwrap_or_default(),
        ]);
    }
    rows
}

fn capacities(results: &Results) -> Vec<Vec<String>> {
    let head = ["", "workers", "tx/s", "proxy", "load and stub", "busy", "tx/s with a core for each worker"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (pooler, workers) in capacity::SUBJECTS {
        let of = |figure: fn(&Capacity) -> f64| {
            let mine = results.capacity.iter().filter(|(_, of, _)| *of == pooler);
            median(mine.map(|(_, _, capacity)| figure(capacity)).collect())
        };
        let Some(tps) = of(|capacity| capacity.tps) else { continue };
        rows.push(vec![
            pooler.name().into(),
            workers.to_string(),
            thousands(tps),
            format!("{:.1} us", of(|capacity| capacity.proxy_us).unwrap_or(0.0)),
            format!("{:.1} us", of(|capacity| capacity.around_us).unwrap_or(0.0)),
            format!("{:.0} %", 100.0 * of(|capacity| capacity.busy).unwrap_or(0.0)),
            thousands(of(Capacity::of_own_cores).unwrap_or(0.0)),
        ]);
    }
    rows
}

fn figures(plan: &Plan, results: &Results) -> Vec<Vec<String>> {
    let head =
        ["script, protocol, clients", "", "tx/s", "mean ms", "p99 ms", "proxy us", "server us", "both us"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for load in plan.rows.iter().map(|row| &row.load) {
        for pooler in Pooler::ALL {
            let median = |of: fn(&Round) -> Option<f64>| results.median(load, pooler, of);
            let Some(tps) = median(|round| Some(round.tps)) else { continue };
            let shown = |figure: Option<f64>, digits: usize| {
                figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
            };
            let server = median(|round| Some(round.server_us));
            rows.push(vec![
                load.to_string(),
                pooler.name().into(),
                thousands(tps),
                shown(median(|round| Some(round.mean_ms)), 3),
                shown(median(|round| Some(round.p99_ms)), 3),
                shown(median(|round| round.proxy_us), 1),
                shown(server, 1),
                shown(median(both).or(server), 1),
            ]);
        }
    }
    rows
}

/// How it was taken: what a reader needs to take it again, and to doubt it.
fn how(setting: &Setting, plan: &Plan, results: &Results) -> String {
    let mut text = format!("{}: {setting}\n", first_line("date", &["-u", "+%F %H:%M UTC"]));
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    text.push_str(&format!(
        "\non {} cores ({}), Linux {}, shared by load, proxy and server; nothing is pinned\n",
        std::thread::available_parallelism().map_or(0, usize::from),
        cpu.map_or("unknown CPU", |(_, model)| model),
        first_line("uname", &["-r"]),
    ));
    text.push_str(&format!(
        "\ntaken by `pgherd-bench {}`, rounds: {}; in each, every subject has its turn in changing order at every \
         load, for {} s. All figures are of the time after logins and a short warm-up; p99 is of every transaction \
         in it; CPU is /proc/PID/schedstat of the proxy, of the postmaster and its children. The load:\n\n",
        std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        plan.rounds,
        plan.seconds,
    ));
    let mut said: Vec<String> = Vec::new();
    for Load { script, protocol, .. } in plan.rows.iter().map(|row| row.load) {
        let load = plan
            .rows
            .iter()
            .map(|row| row.load)
            .find(|load| (load.script, load.protocol) == (script, protocol));
        let Some(load) = load else { continue };
        let words = load.arguments(Until::Seconds(load.seconds), Path::new("")).join(" ");
        let line = format!("    pgbench {words} --log\n");
        if !said.contains(&line) {
            said.push(line);
        }
    }
    text.push_str(&said.concat());
    let mut scripts: Vec<_> = plan.rows.iter().filter_map(|row| row.load.script.file()).collect();
    scripts.dedup();
    for (name, script) in scripts {
        let lines: Vec<_> = script.lines().collect();
        let shown = match &lines[..] {
            [first, second, third, .., last] => format!("{first} | {second} | {third} | (20 times) | {last}"),
            _ => lines.join(" | "),
        };
        text.push_str(&format!("    {name}: {shown}\n"));
    }
    let others: Vec<f64> = results.rounds.iter().filter_map(|taken| taken.round.others).collect();
    if let Some(others) = Spread::of(others) {
        text.push_str(&format!(
            "\nother work on this machine meanwhile: {:.0} % of its CPU time (median; at most {:.0} %)\n",
            others.median * 100.0,
            others.greatest * 100.0
        ));
    }
    text
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pgherd {
            Some(version) => write!(f, "pgherd {version} (one worker, where no other number is said)")?,
            None => write!(f, "without pgherd")?,
        }
        match &self.pgbouncer {
            Ok(version) => write!(f, ", PgBouncer {version} (max_prepared_statements = 200)")?,
            Err(why) => write!(f, ", without PgBouncer ({why})")?,
        }
        write!(
            f,
            ", PostgreSQL {} (fsync off, all in memory, pgbench scale {}); pools of {POOL} by transaction, \
             scram-sha-256 \
             where nothing else is said, TCP over loopback",
            self.postgresql, self.scale
        )
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// Aligned Markdown; the first row is the head. Columns of figures are flush right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| rows.iter().map(move |row| row.get(column).map_or("", String::as_str));
    let widths: Vec<usize> = (0..columns)
        .map(|column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0).max(3))
        .collect();
    let is_figure = |cell: &str| cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit());
    let right: Vec<bool> = (0..columns).map(|column| cells(column).skip(1).all(is_figure)).collect();

    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for column in 0..columns {
            let (cell, width) = (row.get(column).map_or("", String::as_str), widths[column]);
            text.push_str(&if right[column] {
                format!("| {cell:>width$} ")
            } else {
                format!("| {cell:<width$} ")
            });
        }
        text.push_str("|\n");
        if number == 0 {
            for column in 0..columns {
                let dashes = "-".repeat(widths[column] - 1);
                text.push_str(&if right[column] { format!("| {dashes}: ") } else { format!("| {dashes}- ") });
            }
            text.push_str("|\n");
        }
    }
    text
}

/// 12345.6 as "12,346".
fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Door, Protocol, Script};
    use crate::plan::{Group, Wishes};

    const LOAD: Load = Load {
        script: Script::Select,
        protocol: Protocol::Simple,
        clients: 32,
        jobs: 2,
        seconds: 3,
        door: Door::Scram,
    };

    fn round(tps: f64, proxy_us: Option<f64>) -> Round {
        Round { tps, mean_ms: 1.0, p99_ms: 2.0, proxy_us, server_us: 30.0, others: None }
    }

    #[test]
    fn a_ratio_compares_rounds_that_were_taken_together() {
        let mut results = Results::default();
        // The machine was three times as slow in the second round, for both.
        for (number, pgbouncer, pgherd) in [(0, 10.0, 9.0), (1, 30.0, 27.0), (2, 10.0, 8.0)] {
            results.add(LOAD, Pooler::PgBouncer, number, round(1000.0, Some(pgbouncer)));
            results.add(LOAD, Pooler::Pgherd, number, round(1000.0, Some(pgherd)));
        }
        results.add(LOAD, Pooler::Pgherd, 3, round(1000.0, Some(500.0)));
        let proxy = |round: &Round| round.proxy_us;
        let found = results.ratio(&LOAD, (Pooler::Pgherd, proxy), (Pooler::PgBouncer, proxy)).unwrap();
        assert_eq!(found.to_string(), "**0.90** (0.80 to 0.90)");
        assert_eq!(results.median(&LOAD, Pooler::PgBouncer, proxy), Some(10.0));
        assert_eq!(results.median(&LOAD, Pooler::None, proxy), None);
    }

    #[test]
    fn a_row_has_its_ratio_its_target_and_whether_it_is_reached() {
        let wishes = Wishes {
            groups: vec![Group::Select, Group::Shards],
            rounds: 1,
            seconds: 3,
            clients: vec![32],
            protocols: vec![Protocol::Simple],
            jobs: 2,
            without: Vec::new(),
        };
        let plan = wishes.plan();
        let mut results = Results::default();
        for (pooler, us) in [(Pooler::PgBouncer, 10.0), (Pooler::Pgherd, 9.0), (Pooler::PgherdSharded, 12.0)]
        {
            results.add(LOAD, pooler, 0, round(1000.0, Some(us)));
        }
        let rows: Vec<_> = beside_pgbouncer(&plan, &results).iter().map(|row| row[..6].join("; ")).collect();
        assert_eq!(
            rows[1..3],
            [
                "select-only, simple, 32; 10.0 us; 9.0 us; **0.90** (0.90 to 0.90); at most 0.92; yes",
                "select-only, simple, 32, over 4 shards; 10.0 us; 12.0 us; **1.20** (1.20 to 1.20); at most 1.15; no",
            ]
        );
        let targets = other_targets(&plan, &results);
        let expected = "p99 latency, pgherd / PgBouncer: select-only, simple, 32; at most 1.00; **1.00** (1.00 to 1.00); yes";
        assert_eq!(targets[1].join("; "), expected);
    }

    #[test]
    fn two_workers_are_compared_round_by_round() {
        let of = |workers, tps, proxy_us| Capacity { workers, tps, proxy_us, around_us: 10.0, busy: 1.0 };
        let mut results = Results::default();
        for (number, slow) in [(0, 1.0), (1, 3.0)] {
            results.capacity.push((number, Pooler::Pgherd, of(1, 60_000.0 / slow, 10.0 * slow)));
            results.capacity.push((number, Pooler::PgherdTwo, of(2, 120_000.0 / slow, 10.0 * slow)));
        }
        let (_, ratio) = throughput_of_two(&results);
        assert_eq!(ratio.unwrap().to_string(), "**2.00** (2.00 to 2.00)");
        assert_eq!(capacities(&results).len(), 3);
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        let cases: [(&[f64], Option<f64>); 4] = [
            (&[], None),
            (&[3.0], Some(3.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[4.0, 1.0, 2.0, 9.0], Some(3.0)),
        ];
        for (figures, expected) in cases {
            assert_eq!(median(figures.to_vec()), expected, "{figures:?}");
        }
    }

    #[test]
    fn a_table_has_its_figures_flush_right() {
        let rows = [["name", "tx/s"], ["direct", "12,345"], ["PgBouncer", "-"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        let expected = "\
| name      |   tx/s |
| --------- | -----: |
| direct    | 12,345 |
| PgBouncer |      - |
";
        assert_eq!(table(&rows), expected);
        assert_eq!([0.4, 999.6, 1_234_567.0].map(thousands), ["0", "1,000", "1,234,567"]);
    }
}
