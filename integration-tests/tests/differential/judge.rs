//! The verdict: same, refused or wrong; and the lists that people read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::client::{Answer, Column, Failure, Part};

/// Types that the servers number by themselves.
const FIRST_USER_OID: u32 = 16_384;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Same,
    Refused(String),
    Wrong(String),
}

/// pgherd's own "no": it names a reason or a way out.
pub fn refusal(failure: &Failure) -> Option<String> {
    let refused = failure.sqlstate == "0A000" && !(failure.detail.is_empty() && failure.hint.is_empty());
    refused.then(|| format!("{}: {}", failure.message, failure.detail))
}

/// `ordered`: the statement says in which order its rows come, in full.
pub fn verdict(herd: &Answer, plain: &Answer, ordered: bool) -> Verdict {
    if let Some(failure) = herd.failure()
        && plain.failure().is_none_or(|other| other.message != failure.message)
        && let Some(reason) = refusal(failure)
    {
        return Verdict::Refused(reason);
    }
    if herd.parts.len() != plain.parts.len() {
        let (herd, plain) = (herd.parts.len(), plain.parts.len());
        return Verdict::Wrong(format!("{herd} answers instead of {plain}"));
    }
    for (number, (herd, plain)) in herd.parts.iter().zip(&plain.parts).enumerate() {
        if let Some(what) = difference(herd, plain, ordered) {
            return Verdict::Wrong(format!("answer {}: {what}", number + 1));
        }
    }
    if herd.status != plain.status {
        return Verdict::Wrong(format!("status {} instead of {}", herd.status as char, plain.status as char));
    }
    Verdict::Same
}

fn difference(herd: &Part, plain: &Part, ordered: bool) -> Option<String> {
    match (&herd.failure, &plain.failure) {
        (None, None) => {}
        (Some(herd), Some(plain)) if herd.sqlstate == plain.sqlstate => return None,
        (Some(herd), Some(plain)) => {
            return Some(format!("error {} instead of {} ({})", herd.sqlstate, plain.sqlstate, herd.message));
        }
        (Some(herd), None) => return Some(format!("error {} {}", herd.sqlstate, herd.message)),
        (None, Some(plain)) => return Some(format!("no error instead of {}", plain.sqlstate)),
    }
    if herd.tag != plain.tag {
        return Some(format!("tag {:?} instead of {:?}", herd.tag, plain.tag));
    }
    let known = |parameters: &Option<Vec<u32>>| -> Option<Vec<u32>> {
        Some(parameters.as_ref()?.iter().map(|oid| if *oid >= FIRST_USER_OID { 0 } else { *oid }).collect())
    };
    if known(&herd.parameters) != known(&plain.parameters) {
        return Some(format!("parameters {:?} instead of {:?}", herd.parameters, plain.parameters));
    }
    match (&herd.columns, &plain.columns) {
        (None, None) => {}
        (Some(herd), Some(plain)) => {
            let same = |(a, b): (&Column, &Column)| {
                let user = a.type_oid >= FIRST_USER_OID && b.type_oid >= FIRST_USER_OID;
                a.name == b.name
                    && (user || a.type_oid == b.type_oid)
                    && a.type_size == b.type_size
                    && a.modifier == b.modifier
                    && a.format == b.format
            };
            if herd.len() != plain.len() || !herd.iter().zip(plain).all(same) {
                return Some("columns differ".into());
            }
        }
        (herd, _) => return Some(format!("columns {}", if herd.is_some() { "told" } else { "not told" })),
    }
    let (mut a, mut b) = (herd.rows.clone(), plain.rows.clone());
    if !ordered {
        a.sort();
        b.sort();
    }
    if a != b {
        return Some("rows differ".into());
    }
    let (mut a, mut b) = (tuples(&herd.copied), tuples(&plain.copied));
    a.sort();
    b.sort();
    (a != b).then(|| "copied data differs".into())
}

/// Rows of COPY TO: of the binary format, or lines.
fn tuples(data: &[u8]) -> Vec<Vec<u8>> {
    let Some(mut rest) = data.strip_prefix(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0") else {
        return data.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    };
    let mut found = Vec::new();
    while let [a, b, ..] = rest {
        let fields = i16::from_be_bytes([*a, *b]);
        let mut length = 2;
        for _ in 0..fields.max(0) {
            let field = i32::from_be_bytes(rest[length..length + 4].try_into().expect("four bytes"));
            length += 4 + field.max(0) as usize;
        }
        let (tuple, next) = rest.split_at(length);
        found.push(tuple.to_vec());
        rest = next;
    }
    found
}

/// Counts and lists.
pub struct Tally {
    name: String,
    same: usize,
    refused: usize,
    wrong: usize,
    /// Reason -> statements.
    reasons: BTreeMap<String, Vec<String>>,
    reports: Vec<String>,
    lines: Vec<String>,
}

impl Tally {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            same: 0,
            refused: 0,
            wrong: 0,
            reasons: BTreeMap::new(),
            reports: Vec::new(),
            lines: Vec::new(),
        }
    }

    pub fn add(&mut self, what: &str, verdict: &Verdict, herd: &Answer, plain: Option<&Answer>) {
        match verdict {
            Verdict::Same => {
                self.same += 1;
                self.lines.push(format!("same     {what}"));
            }
            Verdict::Refused(reason) => {
                self.refused += 1;
                self.lines.push(format!("refused  {what}\n             {reason}"));
                self.reasons.entry(reason.clone()).or_default().push(what.into());
            }
            Verdict::Wrong(why) => {
                let plain = plain.map_or_else(String::new, |plain| format!("   one server:\n{plain}"));
                self.report(format!("{what}\n   {why}\n   pgherd:\n{herd}{plain}"));
            }
        }
    }

    pub fn wrong_contents(&mut self, what: &str, differences: &[String]) {
        self.report(format!("{what}\n   afterwards: {}", differences.join("\n   afterwards: ")));
    }

    fn report(&mut self, report: String) {
        self.wrong += 1;
        eprintln!("WRONG {report}");
        self.reports.push(report);
    }

    pub fn wrong(&self) -> usize {
        self.wrong
    }

    pub fn summary(&self) -> String {
        format!("{}: {} same, {} refused, {} wrong", self.name, self.same, self.refused, self.wrong)
    }

    pub fn wrongs(&self) -> String {
        format!("{}\n{}", self.summary(), self.reports.join("\n"))
    }

    /// Into `target/differential/`.
    pub fn write(&self) {
        let folder = folder();
        fs::create_dir_all(&folder).expect("a folder in target");
        let mut refused = String::new();
        for (reason, statements) in &self.reasons {
            let mut statements = statements.clone();
            statements.dedup();
            writeln!(refused, "{reason} ({})", statements.len()).unwrap();
            for statement in statements.iter().take(200) {
                writeln!(refused, "    {statement}").unwrap();
            }
        }
        let write = |suffix: &str, text: String| {
            fs::write(folder.join(format!("{}.{suffix}.txt", self.name)), text).expect("a list is written");
        };
        write("refused", refused);
        write("wrong", self.reports.join("\n\n"));
        write("all", self.lines.join("\n"));
    }
}

fn folder() -> PathBuf {
    // target/debug/deps/differential-...
    let test = std::env::current_exe().expect("our own path");
    let target = test.ancestors().nth(3).expect("deps is three levels deep");
    target.join("differential")
}
