//! What pgbench does, for one row of a table.
//!
//! Invariant: every script is one that any subject of its row may run unchanged; only the URL differs.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::failure::Failure;

/// Statements of one pipeline: sent in one write, answered in one.
const PIPELINED: usize = 20;

/// Rows of [`Script::ManyRows`]: a DataRow of 84 characters has 95 bytes.
const MANY_ROWS: u32 = 22_000;

/// The table of [`Script::Count`]: `pgbench_accounts` would measure the servers' scans.
pub const ITEMS_TABLE: &str = "bench_items";
pub const ITEMS: u32 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    Select,
    Tpcb,
    Pipeline,
    LargeRow,
    ManyRows,
    /// Select-only, on a connection of its own each time.
    Connect,
    Count,
    Ordered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    Simple,
    Extended,
    Prepared,
}

/// How clients get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Scram,
    Trust,
    /// With scram-sha-256 behind it.
    Tls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub script: Script,
    pub protocol: Protocol,
    pub clients: u32,
    /// Threads of pgbench.
    pub jobs: u32,
    pub seconds: u32,
    pub door: Door,
}

/// How long pgbench goes on.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    Seconds(u32),
    /// Of each client.
    Transactions(u32),
}

impl Script {
    const ALL: [Self; 8] = [
        Self::Select,
        Self::Tpcb,
        Self::Pipeline,
        Self::LargeRow,
        Self::ManyRows,
        Self::Connect,
        Self::Count,
        Self::Ordered,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Select => "select-only",
            Self::Tpcb => "TPC-B",
            Self::Pipeline => "pipeline of 20 selects",
            Self::LargeRow => "one row of 2 MB",
            Self::ManyRows => "22,000 rows, 2 MB",
            Self::Connect => "connect and select",
            Self::Count => "count(*)",
            Self::Ordered => "ORDER BY ... LIMIT 10",
        }
    }

    /// Built into pgbench, under this name.
    fn builtin(self) -> Option<&'static str> {
        match self {
            Self::Select | Self::Connect => Some("select-only"),
            Self::Tpcb => Some("tpcb-like"),
            Self::Pipeline | Self::LargeRow | Self::ManyRows | Self::Count | Self::Ordered => None,
        }
    }

    /// What pgbench has not: the name of a file and what is in it.
    pub fn file(self) -> Option<(&'static str, String)> {
        let one = |name, statement: String| Some((name, format!("{statement};\n")));
        match self {
            Self::Select | Self::Connect | Self::Tpcb => None,
            Self::Pipeline => {
                let select =
                    "\\set aid random(1, 100000)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n";
                Some((
                    "pipeline.sql",
                    format!("\\startpipeline\n{}\\endpipeline\n", select.repeat(PIPELINED)),
                ))
            }
            Self::LargeRow => one("large-row.sql", self.statement()?),
            Self::ManyRows => one("many-rows.sql", self.statement()?),
            Self::Count => one("count.sql", self.statement()?),
            Self::Ordered => one("ordered.sql", self.statement()?),
        }
    }

    /// Of a script that is one statement with one right answer.
    pub fn statement(self) -> Option<String> {
        match self {
            Self::LargeRow => Some("SELECT repeat('x', 2 * 1024 * 1024)".into()),
            Self::ManyRows => {
                Some(format!("SELECT filler FROM pgbench_accounts WHERE aid BETWEEN 1 AND {MANY_ROWS}"))
            }
            Self::Count => Some(format!("SELECT count(*) FROM {ITEMS_TABLE}")),
            Self::Ordered => Some("SELECT aid, bid FROM pgbench_accounts ORDER BY aid LIMIT 10".into()),
            Self::Select | Self::Tpcb | Self::Pipeline | Self::Connect => None,
        }
    }

    /// Statements of one transaction, about: what is counted instead of timed takes as many fewer transactions.
    pub fn weight(self) -> u32 {
        match self {
            Self::Select => 1,
            Self::Count | Self::Ordered => 4,
            Self::Tpcb => 7,
            Self::Pipeline => PIPELINED as u32,
            Self::LargeRow | Self::ManyRows | Self::Connect => 50,
        }
    }
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Simple, Self::Extended, Self::Prepared];

    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

impl Door {
    pub fn name(self) -> &'static str {
        match self {
            Self::Scram => "scram-sha-256",
            Self::Trust => "trust",
            Self::Tls => "TLS",
        }
    }
}

impl Load {
    pub fn arguments(&self, until: Until, folder: &Path) -> Vec<String> {
        let until = match until {
            Until::Seconds(seconds) => format!("--time={seconds}"),
            Until::Transactions(count) => format!("--transactions={count}"),
        };
        let script = match (self.script.builtin(), self.script.file()) {
            (Some(name), _) => format!("--builtin={name}"),
            (None, Some((name, _))) => format!("--file={}", folder.join(name).display()),
            (None, None) => unreachable!("a script is built in or a file"),
        };
        let mut arguments = vec![
            "--no-vacuum".into(),
            script,
            format!("--protocol={}", self.protocol.name()),
            format!("--client={}", self.clients),
            format!("--jobs={}", self.jobs),
            until,
        ];
        if self.script == Script::Connect {
            arguments.push("--connect".into());
        }
        arguments
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let door = match (self.script, self.door) {
            (Script::Connect, door) => format!(" ({})", door.name()),
            (_, Door::Scram) => String::new(),
            (_, door) => format!(" over {}", door.name()),
        };
        write!(f, "{}{door}, {}, {}", self.script.name(), self.protocol.name(), self.clients)
    }
}

/// What [`Load::arguments`] name.
///
/// # Errors
/// [`Failure::Io`].
pub fn write_scripts(folder: &Path) -> Result<(), Failure> {
    for (name, text) in Script::ALL.into_iter().filter_map(Script::file) {
        fs::write(folder.join(name), text).map_err(Failure::io("write a script"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        script: Script::Pipeline,
        protocol: Protocol::Prepared,
        clients: 32,
        jobs: 2,
        seconds: 3,
        door: Door::Scram,
    };

    #[test]
    fn pgbench_is_told_what_the_row_says() {
        let cases = [
            (LOAD, "--no-vacuum --file=/x/pipeline.sql --protocol=prepared --client=32 --jobs=2 --time=3"),
            (
                Load { script: Script::Connect, protocol: Protocol::Simple, ..LOAD },
                "--no-vacuum --builtin=select-only --protocol=simple --client=32 --jobs=2 --time=3 --connect",
            ),
        ];
        for (load, expected) in cases {
            assert_eq!(load.arguments(Until::Seconds(3), Path::new("/x")).join(" "), expected);
        }
    }

    #[test]
    fn a_row_has_a_name_that_says_how_clients_got_in() {
        let cases = [
            (LOAD, "pipeline of 20 selects, prepared, 32"),
            (Load { script: Script::Select, door: Door::Tls, ..LOAD }, "select-only over TLS, prepared, 32"),
            (
                Load { script: Script::Connect, door: Door::Trust, ..LOAD },
                "connect and select (trust), prepared, 32",
            ),
        ];
        for (load, expected) in cases {
            assert_eq!(load.to_string(), expected);
        }
    }

    #[test]
    fn a_pipeline_has_its_statements_between_start_and_end() {
        let (_, text) = Script::Pipeline.file().unwrap();
        assert_eq!(text.matches("SELECT").count(), PIPELINED);
        assert!(text.starts_with("\\startpipeline\n") && text.ends_with("\\endpipeline\n"), "{text}");
    }
}
