//! REBALANCE in the console: the running configuration is the wish. What takes long goes on by itself; STATUS and SHOW MOVES say how.

use std::sync::Arc;
use std::time::Duration;

use pgherd_wire::message::Report;

use super::command::Rebalance;
use super::refusal;
use super::table::{Columns, Kind, Value};
use crate::control::{Problem, describe};
use crate::database::Database;
use crate::moves::{self, Options, Servers};
use crate::serve::Shared;

/// What goes wrong at once is the answer to APPLY; later it is in STATUS and in the log.
const AT_ONCE: Duration = Duration::from_secs(2);

pub fn columns(what: Rebalance) -> Option<Columns> {
    match what {
        Rebalance::Plan => Some(&[
            ("distribution", Kind::Text),
            ("source", Kind::Text),
            ("target", Kind::Text),
            ("units", Kind::Big),
            ("rows", Kind::Big),
        ]),
        Rebalance::Status => Some(&[
            ("state", Kind::Text),
            ("started", Kind::Text),
            ("ended", Kind::Text),
            ("rate", Kind::Big),
            ("moves", Kind::Text),
            ("units", Kind::Big),
            ("rows", Kind::Big),
            ("bytes", Kind::Big),
            ("note", Kind::Text),
        ]),
        Rebalance::Verify => Some(&[("problem", Kind::Text)]),
        Rebalance::Apply | Rebalance::Pause | Rebalance::Resume | Rebalance::Cancel => None,
    }
}

fn sharded(shared: &Shared, name: Option<String>) -> Result<Arc<Database>, Report> {
    let live = shared.live();
    let mut fitting = live.databases.values().filter(|db| {
        !db.config.distributions.is_empty() && name.as_ref().is_none_or(|name| *name == db.name)
    });
    match (fitting.next(), fitting.next(), name) {
        (Some(db), None, _) => Ok(db.clone()),
        (Some(_), Some(_), _) => Err(refusal("name the database: there are several with distributions")),
        (None, _, Some(name)) => Err(refusal(format!("no such database with distributions: {name}"))),
        (None, _, None) => Err(refusal("no database has distributions")),
    }
}

fn report(error: &Problem) -> Report {
    Report::error("55000", describe(&**error))
}

pub async fn carry_out(
    shared: &Shared,
    what: Rebalance,
    name: Option<String>,
    rate: Option<u64>,
) -> Result<Vec<Vec<Value>>, Report> {
    let db = sharded(shared, name)?;
    // Not on the worker: its clients would wait.
    let task = shared.control.spawn(async move {
        match what {
            Rebalance::Apply => apply(db, rate).await.map(|()| Vec::new()),
            other => told(db, other).await,
        }
    });
    match task.await {
        Ok(outcome) => outcome.map_err(|error| report(&error)),
        Err(_) => Err(refusal("the command was given up")),
    }
}

async fn apply(db: Arc<Database>, rate: Option<u64>) -> Result<(), Problem> {
    let name = db.name.clone();
    let options = Options { rate: rate.unwrap_or(moves::RATE), ..Options::default() };
    let mut running = tokio::spawn(async move {
        let outcome = moves::apply(db, &options, &()).await;
        if let Err(error) = &outcome {
            tracing::error!(database = %name, why = %describe(&**error), "a rebalance has stopped");
        }
        outcome
    });
    match tokio::time::timeout(AT_ONCE, &mut running).await {
        Ok(Ok(outcome)) => outcome.map(drop),
        Ok(Err(_)) => Err("the rebalance was given up".into()),
        Err(_) => Ok(()),
    }
}

async fn told(db: Arc<Database>, what: Rebalance) -> Result<Vec<Vec<Value>>, Problem> {
    let ordered = |told: bool| match told {
        true => Ok(Vec::new()),
        false => Err(Problem::from("no rebalance is running")),
    };
    match what {
        Rebalance::Plan => {
            let planned = moves::plan(&Servers::new(db)?, &[]).await?;
            let pairs = planned.pairs().into_iter().map(|((distribution, source, target), (units, rows))| {
                vec![distribution.into(), source.into(), target.into(), units.into(), rows.into()]
            });
            Ok(pairs.collect())
        }
        Rebalance::Status => {
            let stands = moves::status(&Servers::new(db)?).await?;
            let row = |moves: &str, total: &moves::Total| {
                vec![
                    stands.state.as_str().into(),
                    stands.started.as_str().into(),
                    stands.ended.as_str().into(),
                    stands.rate.into(),
                    moves.into(),
                    total.units.into(),
                    total.rows.into(),
                    total.bytes.into(),
                    stands.note.as_str().into(),
                ]
            };
            let mut rows: Vec<Vec<Value>> =
                stands.moves.iter().map(|(state, total)| row(state, total)).collect();
            if rows.is_empty() && !stands.state.is_empty() {
                rows.push(row("", &moves::Total::default()));
            }
            Ok(rows)
        }
        Rebalance::Verify => {
            let verified = moves::verify(db).await?;
            Ok(verified.problems.into_iter().map(|problem| vec![problem.into()]).collect())
        }
        Rebalance::Pause => ordered(moves::order(&Servers::new(db)?, "paused").await?),
        Rebalance::Resume => ordered(moves::order(&Servers::new(db)?, "running").await?),
        Rebalance::Cancel => {
            if moves::clear(db.clone(), Duration::from_secs(10)).await? {
                return Ok(Vec::new());
            }
            ordered(moves::order(&Servers::new(db)?, "cancelling").await?)
        }
        Rebalance::Apply => Ok(Vec::new()),
    }
}

/// SHOW MOVES: the latest ones of every database that can be asked.
pub async fn moves(shared: &Shared) -> Vec<Vec<Value>> {
    let databases: Vec<Arc<Database>> =
        shared.live().databases.values().filter(|db| !db.config.distributions.is_empty()).cloned().collect();
    let task = shared.control.spawn(async move {
        let mut rows = Vec::new();
        for db in databases {
            let Ok(servers) = Servers::new(db) else { continue };
            let Ok(found) = moves::moves(&servers).await else { continue };
            rows.extend(found);
        }
        rows
    });
    // The console's numbers: attempts, rows, bytes.
    let value = |(at, text): (usize, Option<String>)| match (at, text) {
        (_, None) => Value::Null,
        (6..=8, Some(text)) => Value::Number(text.parse().unwrap_or(0)),
        (_, Some(text)) => text.into(),
    };
    let rows = task.await.unwrap_or_default();
    rows.into_iter().map(|row| row.into_iter().enumerate().map(value).collect()).collect()
}
