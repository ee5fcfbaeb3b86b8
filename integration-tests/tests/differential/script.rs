//! Statements written by hand, one to a line, in `cases/*.sql`.
//!
//! ```text
//! ## class                    a heading
//! # remark
//! SELECT ... $1 <- 7:int8 | \N       values of the parameters, with or without a type
//! COPY t FROM STDIN <<< 1\ta\n       what is sent when the server asks
//! { why                       a script: its lines run in one session, then again as extended statements
//! ...
//! }
//! [simple] ...                only as a Query (several statements in one string)
//! [unordered] ...             ORDER BY does not fix the order in full
//! [any error] ...             which of several errors is said first is nobody's promise
//! [loose] ...                 moments, OIDs, places: values are not compared (of EXPLAIN no rows at all); and not written to the one
//!                             shard of a layout
//! ```

use std::io;

use super::client::{Answer, Bound, Client};
use super::judge::{Tally, Verdict, refusal, verdict};
use super::world::{Layout, World};

const FILES: [(&str, &str); 11] = [
    ("read", include_str!("cases/read.sql")),
    ("combine", include_str!("cases/combine.sql")),
    ("shape", include_str!("cases/shape.sql")),
    ("lexing", include_str!("cases/lexing.sql")),
    ("params", include_str!("cases/params.sql")),
    ("write", include_str!("cases/write.sql")),
    ("copy", include_str!("cases/copy.sql")),
    ("session", include_str!("cases/session.sql")),
    ("ddl", include_str!("cases/ddl.sql")),
    ("code", include_str!("cases/code.sql")),
    ("gather", include_str!("cases/gather.sql")),
];

#[derive(Debug, Clone)]
pub struct Line {
    pub sql: String,
    values: Vec<(Option<String>, String)>,
    copy: Vec<u8>,
    simple: bool,
    unordered: bool,
    any_error: bool,
    loose: bool,
}

#[derive(Debug)]
enum Case {
    One(Line),
    Script { why: String, lines: Vec<Line> },
}

fn line(text: &str) -> Line {
    let mut text = text.trim();
    let (mut simple, mut unordered, mut any_error, mut loose) = (false, false, false, false);
    while let Some((flag, rest)) = text.strip_prefix('[').and_then(|text| text.split_once("] ")) {
        match flag {
            "simple" => simple = true,
            "unordered" => unordered = true,
            "any error" => any_error = true,
            "loose" => loose = true,
            other => panic!("flag {other}"),
        }
        text = rest;
    }
    let (text, copy) = match text.split_once(" <<< ") {
        Some((text, data)) => (text, unescape(data)),
        None => (text.strip_suffix(" <<<").unwrap_or(text), Vec::new()),
    };
    let (sql, values) = match text.rsplit_once(" <- ") {
        Some((sql, values)) => (sql, values.split(" | ").map(value).collect()),
        None => (text, Vec::new()),
    };
    // A line is a line, but statements may have several.
    let sql = sql.replace('⏎', "\n");
    Line { sql, values, copy, simple, unordered, any_error, loose }
}

fn value(text: &str) -> (Option<String>, String) {
    let text = text.trim();
    match text.rsplit_once(':') {
        Some((value, ty))
            if !ty.is_empty()
                && ty.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !ty.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            (Some(ty.into()), value.into())
        }
        _ => (None, text.into()),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => out.push(b'\n'),
                Some(b't') => out.push(b'\t'),
                Some(b'r') => out.push(b'\r'),
                Some(b'0') => out.push(0),
                Some(b'x') => {
                    let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                    let digits = String::from_utf8_lossy(&digits).into_owned();
                    out.push(u8::from_str_radix(&digits, 16).expect("two hexadecimal digits"));
                }
                Some(other) => out.push(other),
                None => {}
            },
            _ => out.push(byte),
        }
    }
    out
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut script: Option<(String, Vec<Line>)> = None;
    for raw in text.lines() {
        let raw = raw.trim();
        if raw.is_empty() || raw.starts_with("# ") || raw.starts_with("##") {
            continue;
        }
        match (&mut script, raw) {
            (None, raw) if raw.starts_with("{ ") => script = Some((raw[2..].into(), Vec::new())),
            (Some(_), "}") => {
                let (why, lines) = script.take().expect("a script");
                cases.push(Case::Script { why, lines });
            }
            (Some((_, lines)), raw) => lines.push(line(raw)),
            (None, raw) => cases.push(Case::One(line(raw))),
        }
    }
    assert!(script.is_none(), "a script is not closed");
    cases
}

/// How a statement is sent.
#[derive(Debug, Clone)]
pub enum Mode {
    Simple,
    Extended(&'static str, Bound),
}

impl Mode {
    fn name(&self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended(name, _) => name,
        }
    }

    pub fn run(&self, client: &mut Client, sql: &str, copy: &[u8]) -> io::Result<Answer> {
        match self {
            Self::Simple => client.simple(sql, copy),
            Self::Extended(_, bound) => client.extended(sql, bound, copy),
        }
    }
}

pub fn plain_modes() -> [Mode; 3] {
    [
        Mode::Simple,
        Mode::Extended("extended", Bound::default()),
        Mode::Extended("named binary", Bound { binary_results: true, named: true, ..Bound::default() }),
    ]
}

fn modes(line: &Line, plain: &mut Client) -> Vec<Mode> {
    if line.simple {
        return vec![Mode::Simple];
    }
    if line.values.is_empty() {
        return plain_modes().to_vec();
    }
    let mut types = Vec::new();
    let mut binary = Vec::new();
    let mut text = Vec::new();
    let mut formats = Vec::new();
    for (ty, value) in &line.values {
        let null = value == "\\N";
        text.push((!null).then(|| unescape(value)));
        let Some(ty) = ty else {
            types.push(0);
            binary.push((!null).then(|| unescape(value)));
            formats.push(0);
            continue;
        };
        let oid = plain.rows(&format!("SELECT '{ty}'::regtype::oid"))[0][0].clone().expect("an OID");
        types.push(oid.parse().expect("an OID"));
        formats.push(1);
        let sql = format!("SELECT '{}'::{ty}", value.replace('\'', "''"));
        let bound = Bound { binary_results: true, ..Bound::default() };
        binary.push(match null {
            true => None,
            false => {
                let answer = plain.extended(&sql, &bound, b"").expect("an answer");
                answer.parts.first().and_then(|part| part.rows.first()).and_then(|row| row[0].clone())
            }
        });
    }
    let bound =
        |types: &[u32], formats: &[i16], values: &Vec<Option<Vec<u8>>>, binary_results, named| Bound {
            types: types.to_vec(),
            formats: formats.to_vec(),
            values: values.clone(),
            binary_results,
            named,
        };
    let mut modes = vec![
        Mode::Extended("undeclared text", bound(&[], &[], &text, false, false)),
        Mode::Extended("declared text", bound(&types, &[0], &text, false, true)),
    ];
    if formats.contains(&1) {
        modes.push(Mode::Extended("declared binary", bound(&types, &formats, &binary, true, true)));
        modes.push(Mode::Extended("undeclared binary", bound(&[], &formats, &binary, true, false)));
    }
    modes
}

fn first_word(sql: &str) -> String {
    sql.trim_start().chars().take_while(|c| c.is_ascii_alphabetic()).collect::<String>().to_ascii_lowercase()
}

fn only_reads(sql: &str) -> bool {
    matches!(first_word(sql).as_str(), "select" | "values" | "table" | "show" | "explain" | "fetch")
        && !sql.contains(';')
}

fn is_ddl(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    ["create", "alter", "drop", "comment", "into", "import"].iter().any(|word| lower.contains(word))
        && !matches!(first_word(sql).as_str(), "insert" | "merge")
}

pub fn run(world: &mut World, tally: &mut Tally) {
    let only = std::env::var("PGHERD_DIFF_ONLY").ok();
    for layout in &mut world.layouts {
        layout.save();
        for (file, text) in FILES {
            // One shard is a plain pool: nothing is planned, and a key may be renamed as anything else.
            if layout.shards == 1 && matches!(file, "ddl" | "code") {
                continue;
            }
            layout.restore();
            for case in cases(text) {
                let named = match &case {
                    Case::One(line) => line.sql.clone(),
                    Case::Script { why, lines } => {
                        format!(
                            "{why} {}",
                            lines.iter().map(|line| line.sql.as_str()).collect::<Vec<_>>().join(" ")
                        )
                    }
                };
                if only.as_ref().is_some_and(|only| file != only && !named.contains(only.as_str())) {
                    continue;
                }
                let before = tally.wrong();
                match &case {
                    Case::One(line) => one(layout, tally, line),
                    Case::Script { why, lines } => script(layout, tally, why, lines),
                }
                if tally.wrong() > before {
                    layout.reconnect();
                    layout.restore();
                }
            }
        }
    }
}

pub fn one(layout: &mut Layout, tally: &mut Tally, line: &Line) {
    if line.loose && layout.shards == 1 && !only_reads(&line.sql) {
        return;
    }
    for mode in modes(line, &mut layout.plain) {
        step(layout, tally, line, &mode, "");
        tidy(layout);
        if !only_reads(&line.sql) {
            contents(
                layout,
                tally,
                &format!("{} shards, {}: {}", layout.shards, mode.name(), line.sql),
                is_ddl(&line.sql),
            );
        }
    }
}

fn script(layout: &mut Layout, tally: &mut Tally, why: &str, lines: &[Line]) {
    let passes: &[Mode] = match lines.iter().any(|line| line.simple) {
        true => &[Mode::Simple],
        false => &[
            Mode::Simple,
            Mode::Extended(
                "extended",
                Bound {
                    named: true,
                    binary_results: false,
                    types: Vec::new(),
                    formats: Vec::new(),
                    values: Vec::new(),
                },
            ),
        ],
    };
    for pass in passes {
        for line in lines {
            if line.loose && layout.shards == 1 && !only_reads(&line.sql) {
                continue;
            }
            let mode = match (line.values.is_empty(), pass) {
                (true, pass) => pass.clone(),
                (false, _) => modes(line, &mut layout.plain)[1].clone(),
            };
            step(layout, tally, line, &mode, why);
        }
        tidy(layout);
        let ddl = lines.iter().any(|line| is_ddl(&line.sql));
        contents(layout, tally, &format!("{} shards, {}: {why}", layout.shards, pass.name()), ddl);
    }
}

/// One statement on both sides.
pub fn step(layout: &mut Layout, tally: &mut Tally, line: &Line, mode: &Mode, why: &str) -> Verdict {
    let separator = if why.is_empty() { "" } else { ": " };
    let what = format!("{} shards, {}: {why}{separator}{}", layout.shards, mode.name(), line.sql);
    let herd = match mode.run(&mut layout.herd, &line.sql, &line.copy) {
        Ok(answer) => answer,
        Err(error) => {
            let verdict = Verdict::Wrong(format!("no answer: {error}"));
            tally.add(&what, &verdict, &Answer::default(), None);
            layout.reconnect();
            return verdict;
        }
    };
    if let Some(reason) = herd.failure().and_then(refusal) {
        // For the other side it is a statement that fails, whatever it is.
        if layout.plain.status == b'T' && herd.status == b'E' {
            layout.plain.simple("SELECT 1/0", b"").expect("an answer");
        }
        let verdict = match herd.status == layout.plain.status {
            true => Verdict::Refused(reason),
            false => Verdict::Wrong(format!(
                "status {} after a refusal instead of {}",
                herd.status as char, layout.plain.status as char
            )),
        };
        tally.add(&what, &verdict, &herd, None);
        return verdict;
    }
    let mut plain = mode.run(&mut layout.plain, &line.sql, &line.copy).expect("the plain server answers");
    let mut herd = herd;
    if line.loose {
        for part in herd.parts.iter_mut().chain(&mut plain.parts) {
            part.rows.iter_mut().for_each(Vec::clear);
            // The plan of several shards has pgherd's lines and those of each.
            if first_word(&line.sql).eq_ignore_ascii_case("explain") {
                part.rows.clear();
            }
        }
    }
    let ordered = !line.unordered && line.sql.to_ascii_lowercase().contains("order by");
    let verdict = match verdict(&herd, &plain, ordered) {
        Verdict::Wrong(_) if line.any_error && herd.failure().is_some() && plain.failure().is_some() => {
            Verdict::Same
        }
        verdict => verdict,
    };
    tally.add(&what, &verdict, &herd, Some(&plain));
    verdict
}

/// Nothing of this case is left in the sessions.
fn tidy(layout: &mut Layout) {
    for client in [&mut layout.herd, &mut layout.plain] {
        if client.status != b'I' {
            client.simple("ROLLBACK", b"").expect("an answer");
        }
    }
    for client in [&mut layout.herd, &mut layout.plain] {
        let answer = client.simple("DISCARD ALL", b"").expect("an answer");
        assert!(answer.failure().is_none(), "{answer}");
    }
}

pub fn contents(layout: &mut Layout, tally: &mut Tally, what: &str, ddl: bool) {
    let mut differences = Vec::new();
    if ddl {
        layout.look();
        differences.extend(layout.definitions());
    }
    differences.extend(layout.differences());
    if !differences.is_empty() {
        tally.wrong_contents(what, &differences);
        layout.reconnect();
        layout.restore();
    }
}

/// One statement that has no place in a file; its session lives on.
pub fn generated(layout: &mut Layout, tally: &mut Tally, sql: &str, mode: &Mode) {
    let line = Line {
        sql: sql.into(),
        values: Vec::new(),
        copy: Vec::new(),
        simple: false,
        unordered: false,
        // Rows are judged shard after shard: with several mistakes, another one may be the first.
        any_error: true,
        loose: false,
    };
    step(layout, tally, &line, mode, "");
    if layout.plain.status == b'I' && !only_reads(sql) {
        contents(layout, tally, &format!("{} shards, {}: {sql}", layout.shards, mode.name()), false);
    }
}
