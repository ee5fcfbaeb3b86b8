//! `pgherd check --servers`: the configuration beside the real schema.

use std::process::ExitCode;
use std::sync::Arc;

use pgherd_config::Config;
use tokio::sync::mpsc;

use crate::caps::Caps;
use crate::control::findings::Weight;
use crate::control::inspect::inspect;
use crate::database::Database;

/// Prints what does not fit. It fails when something is a problem; a note alone does not.
pub fn servers(config: &Config) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pgherd: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut good = true;
    let caps = Caps::new(config);
    for database in config.databases.iter().filter(|database| database.control.is_some()) {
        let (requests, _inbox) = mpsc::unbounded_channel();
        let db = match Database::new(database, &[], 1, requests, None, &caps) {
            Ok(db) => Arc::new(db),
            Err(why) => {
                eprintln!("pgherd: {why}");
                return ExitCode::FAILURE;
            }
        };
        let found = runtime.block_on(inspect(db));
        let problems = found.iter().filter(|finding| finding.weight == Weight::Problem).count();
        for finding in &found {
            println!("{}: {finding}", database.name);
        }
        println!("{}: problems: {problems}, notes: {}", database.name, found.len() - problems);
        good &= problems == 0;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
