//! What pgherd does not do over shards yet: a row that says so, not an end of the run.
//!
//! Invariant: only a statement that was refused by name (0A000) counts as refused. Any other error ends the run, and so does an
//! answer that is not the one of the server that has all the rows: what is wrong is not worth measuring.

use pgherd::demo::servers::Herd;

use crate::failure::Failure;
use crate::load::{Load, Script};
use crate::plan::Plan;
use crate::subjects::{Pooler, Subject};

/// feature_not_supported
const REFUSED: &str = "0A000";

#[derive(Debug, Default)]
pub struct Refusals(Vec<(Script, Pooler, String)>);

impl Refusals {
    /// Sends every statement that has one answer through each of its subjects once.
    ///
    /// # Errors
    /// [`Failure::Program`]: another answer than the first server's; [`Failure::Herd`]: another error.
    pub fn find(herd: &Herd, subjects: &[Subject], plan: &Plan) -> Result<Self, Failure> {
        let mut found = Self::default();
        for row in &plan.rows {
            let Some(statement) = row.load.script.statement() else { continue };
            let right = herd.psql(0, &statement)?;
            for subject in subjects.iter().filter(|subject| subject.takes(&row.load, &row.poolers)) {
                let verbose = format!("\\set VERBOSITY verbose\n{statement}");
                match herd.psql_at(&subject.url, &verbose) {
                    Ok(answer) if answer == right => {}
                    Ok(answer) => {
                        return Err(Failure::Program {
                            what: format!("a wrong answer through {} to {statement}", subject.pooler),
                            said: format!("{}\ninstead of\n{}", beginning(&answer), beginning(&right)),
                        });
                    }
                    Err(error) if error.to_string().contains(REFUSED) => {
                        eprintln!("{}, {}: refused: {error}", row.load, subject.pooler);
                        found.0.push((row.load.script, subject.pooler, error.to_string()));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(found)
    }

    pub fn why(&self, script: Script, pooler: Pooler) -> Option<&str> {
        let found = self.0.iter().find(|(of, by, _)| *of == script && *by == pooler)?;
        Some(&found.2)
    }

    /// Whether this subject has nothing to do for this load.
    pub fn has(&self, load: &Load, pooler: Pooler) -> bool {
        self.why(load.script, pooler).is_some()
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(200).collect()
}
