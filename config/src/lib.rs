//! What the operator wrote, checked. No sockets.
//!
//! Invariant: a [`Config`] exists only when the whole file is right. Everything wrong with a file is
//! reported at once, each problem with its line, so that the operator edits once.
//!
//! Not here: using a secret (`wire::scram`), comparing with the servers' real schema (`proxy`), deciding
//! when to load again.
//!
//! Start reading at [`parse`]. `raw` holds the settings as they are typed, with their units, defaults and
//! bounds: the manual's table comes from there. `check` holds what only several settings together can
//! break.

mod check;
mod document;
pub mod hba;
pub mod key;
pub mod model;
pub mod pgbouncer;
mod problems;
mod raw;
mod secret;
mod spread;
mod values;

use std::io::Read;
use std::path::Path;

pub use model::*;
pub use problems::{Place, Problem, Problems};
pub use secret::{ResolvedSecret, classify, resolve, resolve_plain};

use problems::Draft;

/// Longest configuration file we read. A hundred thousand tables fit.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads the file and checks it. Touches nothing else: no environment, no other file, no network. A file whose name ends in
/// ".ini" is PgBouncer's, read with the files that it names.
///
/// # Errors
/// Every problem of the file, see [`parse`]; or the one that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let file_name = path.display().to_string();
    if path.extension().is_some_and(|extension| extension == "ini") {
        return pgbouncer::load(path);
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(e) = read {
        return Err(Problems::of_file(&file_name, format!("cannot read the file: {e}")));
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Problems::of_file(&file_name, format!("the file is longer than {FILE_BYTES_MAX} bytes")));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, &file_name),
        Err(e) => {
            let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
            Err(Problems::of_file(&file_name, format!("line {line} is not UTF-8")))
        }
    }
}

impl Config {
    /// Checks the files of the operator's own writing that the configuration names: HBA and ident file. Not secrets and
    /// certificates: whoever checks need not be able to read those.
    ///
    /// # Errors
    /// Every problem of the first file that has any.
    pub fn check_files(&self) -> Result<(), Problems> {
        self.auth.hba_file.as_deref().map(hba::Hba::load).transpose()?;
        self.auth.ident_file.as_deref().map(hba::IdentMaps::load).transpose()?;
        Ok(())
    }
}

/// Checks a configuration. `file_name` is only for the problems.
///
/// # Errors
/// Every problem, sorted by place. A file that is not TOML has only the problems of its syntax: what the
/// rest means is not known.
pub fn parse(text: &str, file_name: &str) -> Result<Config, Problems> {
    let mut draft = Draft::new(text, file_name);
    let config = match document::parse(text, &mut draft) {
        Some(root) => check::config(&raw::RawConfig::read(root, &mut draft), &mut draft),
        None => None,
    };
    draft.finish(config)
}
