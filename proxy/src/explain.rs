//! `pgherd explain`: the plan of a statement, without running it.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use pgherd_rebalance::placement;
use pgherd_router::Topology;
use pgherd_router::plan::{Params, Plan, Statement};
use pgherd_router::planner::Cache;
use pgherd_router::topology::{Distribution, Facts};
use tokio::sync::mpsc;

use crate::control;
use crate::database::Database;

/// How long the servers may take to say where rows are; then the plan is made from the file alone.
const PATIENCE: Duration = Duration::from_secs(3);

pub fn run(file: &Path, sql: &str) -> ExitCode {
    let config = match pgherd_config::load(file) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::FAILURE;
        }
    };
    let caps = crate::caps::Caps::new(&config);
    let mut good = true;
    for database in &config.databases {
        let (requests, inbox) = mpsc::unbounded_channel();
        let db = match Database::new(database, &[], 1, requests, None, &caps) {
            Ok(db) => Arc::new(db),
            Err(why) => {
                eprintln!("pgherd: {why}");
                return ExitCode::FAILURE;
            }
        };
        let topology = read_topology(&db, inbox);
        if config.databases.len() > 1 {
            println!("database {}:", database.name);
        }
        for statement in Cache::default().analyze(&topology, sql) {
            good &= print_plan(&topology, sql, &statement);
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_plan(topology: &Topology, sql: &str, statement: &Statement) -> bool {
    use pgherd_router::plan::Kind;
    if matches!(
        statement.template.kind,
        Kind::Empty
            | Kind::Begin(_)
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::Savepoint(_)
            | Kind::RollbackTo(_)
            | Kind::Release(_)
    ) {
        println!("pgherd itself, with every shard of the transaction");
        return true;
    }
    let text = sql.get(statement.at.start as usize..statement.at.end as usize).unwrap_or(sql);
    match statement.template.plan(topology, text, &statement.literals, Params::default()) {
        Ok(plan) => {
            println!("{}", pgherd_router::describe(&plan, topology));
            if let Plan::Draw(draw) = &plan
                && draw.sources.is_empty()
            {
                // Its views stand for their queries.
                let sql = draw.sql(std::iter::empty::<&str>());
                return Cache::default()
                    .analyze(topology, &sql)
                    .iter()
                    .all(|inner| print_plan(topology, &sql, inner));
            }
            true
        }
        Err(refusal) => {
            println!("refused {}: {}", refusal.sqlstate, refusal.message);
            if let Some(detail) = refusal.detail {
                println!("  {detail}");
            }
            if let Some(hint) = refusal.hint {
                println!("  {hint}");
            }
            false
        }
    }
}

/// The placement that is recorded, if the servers can be asked; otherwise the one that a first start would record.
fn read_topology(
    db: &Arc<Database>,
    inbox: mpsc::UnboundedReceiver<crate::database::Request>,
) -> Arc<Topology> {
    if !db.sharded {
        return db.topology();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut why = "no answer in time".to_owned();
    if let Ok(runtime) = runtime {
        let looked =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, control::look(db.clone())).await });
        drop(inbox);
        match looked {
            Ok(Ok(())) if db.topology().epoch > 0 => return db.topology(),
            Ok(Err(reason)) => why = reason,
            Ok(Ok(())) => why = "no placement is recorded yet".to_owned(),
            Err(_) => {}
        }
    }
    eprintln!(
        "(the servers cannot be asked: {why}; this is the placement of a first start, without column facts)"
    );
    let names: Vec<&str> = db.config.shards.iter().map(|shard| shard.name.as_str()).collect();
    let distributions = db.config.distributions.iter().filter_map(|configured| {
        let record = placement::wished(configured, &db.config.shards, 0);
        let (rule, shown) = record.rule(&configured.name, configured, &names).ok()?;
        Some(Distribution {
            name: configured.name.clone(),
            types: configured.types.clone(),
            rule: Arc::new(rule),
            shown: shown.into(),
        })
    });
    Arc::new(Topology {
        distributions: distributions.collect(),
        tables: db.tables(),
        facts: Facts::default(),
        version: 1,
        ..(*db.topology()).clone()
    })
}
