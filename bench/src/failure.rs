//! Why there are no figures.

use std::fmt;
use std::io;

use pgherd::demo::servers::HerdError;

#[derive(Debug)]
pub enum Failure {
    Herd(HerdError),
    Io {
        doing: String,
        source: io::Error,
    },
    /// A program of ours did not do its part; `said` is the end of its output.
    Program {
        what: String,
        said: String,
    },
    /// pgherd is not where it was looked for.
    NoPgherd(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Herd(error) => write!(f, "{error}"),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Program { what, said } if said.trim().is_empty() => write!(f, "{what}"),
            Self::Program { what, said } => write!(f, "{what}:\n{}", said.trim_end()),
            Self::NoPgherd(place) => write!(
                f,
                "pgherd was not found at {place}\nhint: build it (cargo build --release --package pgherd), or name it with --pgherd"
            ),
        }
    }
}

impl From<HerdError> for Failure {
    fn from(error: HerdError) -> Self {
        Self::Herd(error)
    }
}

impl Failure {
    pub fn io(doing: &str) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.to_owned();
        move |source| Self::Io { doing, source }
    }
}
