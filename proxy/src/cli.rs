//! The command line.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One endpoint for a herd of PostgreSQL servers: pools connections, routes statements to shards, commits across them.
#[derive(Parser)]
#[command(name = "pgherd", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve clients as the configuration file says, until SIGINT or SIGTERM
    Serve {
        /// The configuration, TOML
        file: PathBuf,
        /// Start beside another pgherd on the same addresses, which is told to stop afterwards: no client is refused
        #[arg(long)]
        beside: bool,
    },
    /// Print PgBouncer's configuration as pgherd's: every key honoured, said to have no effect, or refused by name
    Import {
        /// pgbouncer.ini
        file: PathBuf,
    },
    /// Check the configuration file: every problem with its line; touches no server unless told to
    Check {
        /// The configuration, TOML
        file: PathBuf,
        /// Compare it with the servers, too: missing tables, types of keys, constraints and foreign keys that do not fit,
        /// differences between the shards. Changes nothing
        #[arg(long)]
        servers: bool,
    },
    /// Print where a statement would run and how its answer would be put together, without running it
    Explain {
        /// The configuration, TOML
        file: PathBuf,
        /// One SQL statement
        sql: String,
    },
    /// Move rows to where the configuration wishes them, while applications go on writing
    #[command(subcommand)]
    Rebalance(crate::moves::command::Rebalance),
    /// Start PostgreSQL servers and pgherd in a temporary folder, load them with pgbench, prove that nothing was lost
    Demo(crate::demo::DemoOptions),
}

pub fn main() -> ExitCode {
    if crate::as_pgbouncer::is_meant() {
        return crate::as_pgbouncer::main();
    }
    match Cli::parse().command {
        Command::Serve { file, beside } => serve(&file, beside),
        Command::Import { file } => match pgherd_config::pgbouncer::import(&file) {
            Ok(toml) => {
                print!("{toml}");
                ExitCode::SUCCESS
            }
            Err(problems) => {
                eprintln!("{problems}");
                ExitCode::FAILURE
            }
        },
        Command::Check { file, servers } => match pgherd_config::load(&file) {
            Ok(config) => {
                if let Err(problems) = config.check_files() {
                    eprintln!("{problems}");
                    return ExitCode::FAILURE;
                }
                let shards: usize = config.databases.iter().map(|d| d.shards.len()).sum();
                println!(
                    "{}: good (databases: {}, shards: {shards})",
                    file.display(),
                    config.databases.len()
                );
                if servers { crate::check::servers(&config) } else { ExitCode::SUCCESS }
            }
            Err(problems) => {
                eprintln!("{problems}");
                ExitCode::FAILURE
            }
        },
        Command::Explain { file, sql } => crate::explain::run(&file, &sql),
        Command::Rebalance(command) => crate::moves::command::run(&command),
        Command::Demo(options) => crate::demo::run(options),
    }
}

fn serve(file: &std::path::Path, beside: bool) -> ExitCode {
    log_to_stderr("info,tokio_postgres=warn");
    let config = match pgherd_config::load(file) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::FAILURE;
        }
    };
    match crate::serve::serve(config, file, beside) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("pgherd: {why}");
            ExitCode::FAILURE
        }
    }
}

/// `level`: unless `PGHERD_LOG` says another.
pub fn log_to_stderr(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PGHERD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
