//! `pgherd rebalance`: the command line. It ends with an error whenever something is not right.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::{KeyMove, Options, RATE, Servers, Watch, apply, clear, order, plan, status, verify};
use crate::control::{Problem, describe};
use crate::database::Database;

/// What all of them need.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The configuration, TOML: what is wished
    file: PathBuf,
    /// The database, where the file has several with tables of their own
    #[arg(long)]
    database: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Rebalance {
    /// Print what would move: units, rows, bytes, expected time. Nothing moves
    Plan {
        #[command(flatten)]
        which: Which,
        /// Move a key of a directory: DISTRIBUTION:KEY=SHARD. May be given again
        #[arg(long = "key", value_parser = key_move)]
        keys: Vec<KeyMove>,
        /// Rows a second, for the expected time; 0: no limit
        #[arg(long, default_value_t = RATE)]
        rate: u64,
    },
    /// Move rows until they are where the file wishes them. After a crash: the same again
    Apply {
        #[command(flatten)]
        which: Which,
        /// Move a key of a directory: DISTRIBUTION:KEY=SHARD. May be given again
        #[arg(long = "key", value_parser = key_move)]
        keys: Vec<KeyMove>,
        /// Rows a second; 0: as fast as it goes
        #[arg(long, default_value_t = RATE)]
        rate: u64,
        /// Seconds that open transactions are waited for which stand in the way
        #[arg(long, default_value_t = 60)]
        patience: u64,
    },
    /// Print how it stands
    Status(Which),
    /// Move nothing more until `resume`; what is moving is finished
    Pause(Which),
    /// Go on after `pause`
    Resume(Which),
    /// End it: what was moved stays moved, the rest stays where it is
    Cancel(Which),
    /// Count every row on every shard and say which are not where the placement says
    Verify(Which),
}

fn key_move(text: &str) -> Result<KeyMove, String> {
    let parts = text.split_once(':').and_then(|(distribution, rest)| {
        let (key, target) = rest.rsplit_once('=')?;
        Some(KeyMove { distribution: distribution.into(), key: key.into(), target: target.into() })
    });
    parts.ok_or_else(|| "write DISTRIBUTION:KEY=SHARD".into())
}

pub fn run(command: &Rebalance) -> ExitCode {
    crate::cli::log_to_stderr("warn");
    let which = match command {
        Rebalance::Plan { which, .. } | Rebalance::Apply { which, .. } => which,
        Rebalance::Status(which)
        | Rebalance::Pause(which)
        | Rebalance::Resume(which)
        | Rebalance::Cancel(which)
        | Rebalance::Verify(which) => which,
    };
    let db = match open(&which.file, which.database.as_deref()) {
        Ok(db) => db,
        Err(why) => {
            eprintln!("pgherd: {why}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pgherd: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(carry_out(command, db)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pgherd: {}", describe(&*error));
            ExitCode::FAILURE
        }
    }
}

fn open(file: &Path, name: Option<&str>) -> Result<Arc<Database>, String> {
    let config = pgherd_config::load(file).map_err(|problems| problems.to_string())?;
    let caps = crate::caps::Caps::new(&config);
    let sharded = |db: &&pgherd_config::Database| !db.distributions.is_empty();
    let mut fitting =
        config.databases.iter().filter(sharded).filter(|db| name.is_none_or(|name| db.name == name));
    let database = match (fitting.next(), fitting.next()) {
        (Some(one), None) => one,
        (Some(_), Some(_)) => return Err("the file has several databases: name one with --database".into()),
        (None, _) => return Err("the file has no such database with a distribution".into()),
    };
    let (requests, _inbox) = mpsc::unbounded_channel();
    Database::new(database, &[], 1, requests, None, &caps).map(Arc::new)
}

/// For people.
pub fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

struct Bar(ProgressBar);

impl Watch for Bar {
    fn say(&self, text: &str) {
        self.0.println(text);
        if self.0.is_hidden() {
            println!("{text}");
        }
    }

    fn begin(&self, units: u64, rows: u64) {
        self.say(&format!("units to move: {units}, rows: {rows}"));
        self.0.set_length(rows);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} rows, {per_sec}, {eta} left")
        {
            self.0.set_style(style);
        }
        self.0.enable_steady_tick(Duration::from_millis(250));
    }

    fn moved(&self, _units: u64, rows: u64) {
        self.0.inc(rows);
    }
}

async fn carry_out(command: &Rebalance, db: Arc<Database>) -> Result<bool, Problem> {
    match command {
        Rebalance::Plan { keys, rate, .. } => {
            let planned = plan(&Servers::new(db)?, keys).await?;
            for ((distribution, source, target), (units, rows)) in planned.pairs() {
                println!("{distribution}: {source} -> {target}: units: {units}, rows: {rows}");
            }
            println!(
                "units: {}, rows: {}, bytes: {}, expected time: {} s{}",
                planned.moves.len(),
                planned.rows(),
                bytes(planned.bytes),
                planned.seconds(*rate),
                if planned.moves.is_empty() { " (everything is where it is wished)" } else { "" }
            );
            Ok(true)
        }
        Rebalance::Apply { keys, rate, patience, .. } => {
            let options =
                Options { rate: *rate, patience: Duration::from_secs(*patience), keys: keys.clone() };
            let bar = Bar(ProgressBar::new(0));
            let mut running = std::pin::pin!(apply(db.clone(), &options, &bar));
            let report = tokio::select! {
                report = &mut running => report,
                pressed = tokio::signal::ctrl_c() => {
                    bar.say("it ends when what is moving has moved; once more kills it, and apply or cancel puts it in order");
                    if pressed.is_ok() && order(&Servers::new(db.clone())?, "cancelling").await? {
                        tokio::select! {
                            report = &mut running => report,
                            _ = tokio::signal::ctrl_c() => Err("killed".into()),
                        }
                    } else {
                        running.await
                    }
                }
            };
            bar.0.finish_and_clear();
            let report = report?;
            let seconds = report.took.as_secs_f64();
            println!(
                "units moved: {}, rows: {}, bytes: {}, in {seconds:.1} s ({:.0} rows/s); pause of a unit: p50 {:.1} ms, p99 {:.1} ms",
                report.units,
                report.rows,
                bytes(report.bytes),
                report.rows as f64 / seconds.max(0.001),
                report.pause(0.5).as_secs_f64() * 1000.0,
                report.pause(0.99).as_secs_f64() * 1000.0
            );
            for left in &report.left {
                eprintln!("not moved: {left}");
            }
            if report.cancelled {
                eprintln!("it was cancelled");
            }
            Ok(report.is_good())
        }
        Rebalance::Status(_) => {
            let stands = status(&Servers::new(db)?).await?;
            if stands.state.is_empty() {
                println!("there was no rebalance");
                return Ok(true);
            }
            let ended =
                if stands.ended.is_empty() { String::new() } else { format!(", ended {}", stands.ended) };
            println!("{}: started {}{ended}, rate: {} rows/s", stands.state, stands.started, stands.rate);
            for (state, total) in &stands.moves {
                println!(
                    "  {state}: units: {}, rows: {}, bytes: {}",
                    total.units,
                    total.rows,
                    bytes(total.bytes)
                );
            }
            for [unit, source, target, state, attempts, note] in &stands.troubled {
                println!("  {unit} {source} -> {target}: {state} after {attempts} attempts: {note}");
            }
            if !stands.note.is_empty() {
                println!("  {}", stands.note);
            }
            Ok(stands.state != "failed" && !stands.moves.contains_key("failed"))
        }
        Rebalance::Pause(_) => ordered(&db, "paused").await,
        Rebalance::Resume(_) => ordered(&db, "running").await,
        Rebalance::Cancel(_) => {
            // Nobody is at work: what a coordinator that died has left is put in order here.
            if clear(db.clone(), Duration::from_secs(60)).await? {
                println!("nothing is moving");
                return Ok(true);
            }
            ordered(&db, "cancelling").await
        }
        Rebalance::Verify(_) => {
            let verified = verify(db).await?;
            for (table, rows) in &verified.tables {
                let all: u64 = rows.iter().map(|(_, rows)| rows).sum();
                let each: Vec<String> = rows.iter().map(|(shard, rows)| format!("{shard} {rows}")).collect();
                println!("{table}: {all} rows: {}", each.join(", "));
            }
            for problem in &verified.problems {
                println!("problem: {problem}");
            }
            if verified.problems.is_empty() {
                println!("every row is where the placement says");
            }
            Ok(verified.problems.is_empty())
        }
    }
}

async fn ordered(db: &Arc<Database>, state: &str) -> Result<bool, Problem> {
    let told = order(&Servers::new(db.clone())?, state).await?;
    match told {
        true => println!("{state}"),
        false => eprintln!("no rebalance is running"),
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_to_move_is_named_with_its_distribution_and_its_shard() {
        let found = key_move("tenant:a=b:c=s2").unwrap();
        assert_eq!((&*found.distribution, &*found.key, &*found.target), ("tenant", "a=b:c", "s2"));
        assert!(key_move("tenant=s2").is_err());
        assert!(key_move("tenant:acme").is_err());
    }
}
