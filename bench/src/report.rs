//! Medians, ratios, and the Markdown that can be pasted into the README.

use std::fmt;
use std::fs;
use std::process::Command;

use crate::round::{Load, Round, Until};
use crate::subjects::Pooler;
use crate::{POOL, Plan};

/// Everything measured.
#[derive(Debug, Default)]
pub struct Results(Vec<Taken>);

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
    pub workers: u32,
    pub scale: u32,
}

impl Results {
    pub fn add(&mut self, load: Load, pooler: Pooler, number: u32, round: Round) {
        self.0.push(Taken { load, pooler, number, round });
    }

    /// One figure of each round.
    fn each(&self, load: &Load, pooler: Pooler, of: impl Fn(&Round) -> Option<f64>) -> Vec<(u32, f64)> {
        let taken = self.0.iter().filter(|taken| taken.load == *load && taken.pooler == pooler);
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
        let below = self.each(load, below.0, below.1);
        let ratios: Vec<f64> = self
            .each(load, above.0, above.1)
            .into_iter()
            .filter_map(|(number, above)| {
                let (_, below) = below.iter().find(|(other, _)| *other == number)?;
                (*below > 0.0).then(|| above / below)
            })
            .collect();
        Spread::of(ratios)
    }
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
    text.push_str("\nMedians of the rounds; microseconds are CPU time per transaction:\n\n");
    text.push_str(&table(&figures(plan, results)));
    let ratios = ratios(plan, results);
    if ratios.len() > 1 {
        text.push_str(
            "\nRatios, taken round by round: median (least to greatest); below 1.00 pgherd spends less:\n\n",
        );
        text.push_str(&table(&ratios));
    }
    text
}

fn figures(plan: &Plan, results: &Results) -> Vec<Vec<String>> {
    let head = [
        "script",
        "protocol",
        "clients",
        "",
        "tx/s",
        "mean ms",
        "p99 ms",
        "proxy us",
        "server us",
        "both us",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for load in &plan.loads {
        for pooler in [Pooler::None, Pooler::PgBouncer, Pooler::Pgherd, Pooler::PgherdSharded] {
            let median = |of: fn(&Round) -> Option<f64>| results.median(load, pooler, of);
            let Some(tps) = median(|round| Some(round.tps)) else { continue };
            let shown = |figure: Option<f64>, digits: usize| {
                figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
            };
            let server = median(|round| Some(round.server_us));
            rows.push(vec![
                load.script.name().into(),
                load.protocol.name().into(),
                load.clients.to_string(),
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

fn ratios(plan: &Plan, results: &Results) -> Vec<Vec<String>> {
    let head = [
        "script",
        "protocol",
        "clients",
        "proxy CPU, pgherd / PgBouncer",
        "tx/s, pgherd / PgBouncer",
        "p99, pgherd / PgBouncer",
        "proxy + server CPU, pgherd / direct",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for load in &plan.loads {
        let beside = |of: fn(&Round) -> Option<f64>| {
            results.ratio(load, (Pooler::Pgherd, of), (Pooler::PgBouncer, of))
        };
        let found = [
            beside(|round| round.proxy_us),
            beside(|round| Some(round.tps)),
            beside(|round| Some(round.p99_ms)),
            results.ratio(
                load,
                (Pooler::Pgherd, both),
                (Pooler::None, |round: &Round| Some(round.server_us)),
            ),
        ];
        if found.iter().all(Option::is_none) {
            continue;
        }
        let mut row = vec![load.script.name().into(), load.protocol.name().into(), load.clients.to_string()];
        row.extend(found.map(|spread| spread.map_or_else(|| "-".to_owned(), |spread| spread.to_string())));
        rows.push(row);
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
        plan.loads.first().map_or(0, |load| load.seconds),
    ));
    for load in &plan.loads {
        let words = load.arguments(Until::Seconds(load.seconds)).join(" ");
        text.push_str(&format!("    pgbench {words} --log\n"));
    }
    let others: Vec<f64> = results.0.iter().filter_map(|taken| taken.round.others).collect();
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
            Some(version) => write!(f, "pgherd {version} (workers = {})", self.workers)?,
            None => write!(f, "without pgherd")?,
        }
        match &self.pgbouncer {
            Ok(version) => write!(f, ", PgBouncer {version} (max_prepared_statements = 200)")?,
            Err(why) => write!(f, ", without PgBouncer ({why})")?,
        }
        write!(
            f,
            ", PostgreSQL {} (fsync off, all in memory, pgbench scale {}); pools of {POOL} by transaction, \
             scram-sha-256, TCP over loopback",
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
    use crate::round::{Protocol, Script};

    const LOAD: Load =
        Load { script: Script::Select, protocol: Protocol::Simple, clients: 32, jobs: 2, seconds: 3 };

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
