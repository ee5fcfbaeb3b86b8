//! Splitting the rows of a COPY FROM STDIN by their key.
//!
//! Invariant: rows are cut exactly where PostgreSQL cuts them (`copyfromparse.c`, version 15 to 17), and each goes to the
//! owner of its key. What PostgreSQL would refuse in the *whole* stream (mixed line ends, data behind the trailer) is
//! refused here: a shard sees only its own rows and could not tell.
//!
//! Left to the shards: all that concerns one row only (number of columns beyond the key, the other columns' values).
//! Left to the caller: a client encoding that differs from the server's (the key is read from the bytes as they come).
//!
//! Limits: one unfinished row is kept, of `ROW_BYTES_MAX` at most.
//!
//! Start reading at [`Splitter::push`].

use std::sync::Arc;

use memchr::{memchr, memchr_iter, memchr2, memchr3};
use pgherd_config::KeyType;

use crate::plan::{CopyFormat, CopyRows};
use crate::refusal::{Refusal, no_shard};
use crate::rule::Rule;
use crate::topology::{Distribution, ShardId, Topology};
use crate::value::{self, KeyValue, ValueError};

/// PostgreSQL's own bound of a line and of a field (memutils.h, MaxAllocSize).
const ROW_BYTES_MAX: usize = 1 << 30;
/// An unfinished row grows by this much at first, then by twice as much each time, until its end is found.
const GROWTH_BYTES: usize = 1024;
/// The buffer of an unfinished row is kept for the next one up to this size.
const PARTIAL_KEPT_BYTES: usize = 1 << 20;

const BINARY_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the header's extension.
const BINARY_HEADER_BYTES: usize = BINARY_SIGNATURE.len() + 4 + 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Shard(ShardId),
    /// Every shard that takes part.
    All,
}

/// Cuts a COPY stream into rows and says where each belongs.
#[derive(Debug)]
pub struct Splitter {
    rows: CopyRows,
    types: Vec<KeyType>,
    distribution: String,
    rule: Arc<Rule>,
    /// Key columns by their place in the row: (position in the row, index in the key), ascending.
    wanted: Vec<(usize, usize)>,
    /// By index in the key: where this row has it.
    found: Vec<Field>,
    /// A key column without its escapes.
    unescaped: Vec<u8>,
    /// The beginning of a row that is not complete yet.
    partial: Vec<u8>,
    scan: Scan,
    stage: Stage,
    line_end: LineEnd,
    /// As PostgreSQL counts them for its error context.
    line: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The header line, or the binary header.
    Header,
    Rows,
    /// Behind `\.`, what follows does not count.
    Ended,
    /// Behind the binary trailer nothing may follow.
    Trailer,
}

/// copyfromparse.c, EolType: the first line decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Unknown,
    Nl,
    Cr,
    CrNl,
}

/// How far the row at hand has been looked at, so that no byte of it is scanned twice.
#[derive(Debug, Clone, Copy, Default)]
struct Scan {
    at: usize,
    in_quote: bool,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A row: its length, and its length with the line end.
    Row { data: usize, end: usize },
    /// More bytes are needed to tell.
    Unfinished,
    /// `\.`, or nothing more.
    End,
    /// The binary trailer.
    Trailer { end: usize },
}

/// A raw field in a line (or a value in a binary row).
#[derive(Debug, Clone, Copy, Default)]
struct Field {
    start: usize,
    end: usize,
    /// CSV: a quote was seen. Binary: NULL.
    flag: bool,
}

impl Splitter {
    pub fn new(rows: &CopyRows, topology: &Topology) -> Self {
        Self::over(rows, &topology.distributions[rows.distribution])
    }

    pub fn over(rows: &CopyRows, distribution: &Distribution) -> Self {
        let mut wanted: Vec<(usize, usize)> =
            rows.key.iter().enumerate().map(|(key, column)| (*column, key)).collect();
        wanted.sort_unstable();
        let has_header = rows.header || rows.format == CopyFormat::Binary;
        Self {
            rows: rows.clone(),
            types: distribution.types.clone(),
            distribution: distribution.name.clone(),
            rule: Arc::clone(&distribution.rule),
            found: vec![Field::default(); wanted.len()],
            wanted,
            unescaped: Vec::new(),
            partial: Vec::new(),
            scan: Scan::default(),
            stage: if has_header { Stage::Header } else { Stage::Rows },
            line_end: LineEnd::Unknown,
            line: 0,
        }
    }

    /// Feeds bytes as they came in CopyData messages: rows may be cut anywhere. `out` gets whole rows with their line
    /// ends, in order; neighbours of one target may come as one slice.
    ///
    /// # Errors
    /// [`Refusal`] of the whole COPY; some rows before the refused one may have been given out.
    pub fn push(&mut self, mut data: &[u8], out: &mut dyn FnMut(Target, &[u8])) -> Result<(), Refusal> {
        if !self.partial.is_empty() {
            data = self.complete_partial(data, out)?;
        }
        let (mut start, mut at, mut run) = (0, 0, Target::All);
        let result = loop {
            if at == data.len() {
                break Ok(());
            }
            match self.next(&data[at..], false) {
                Err(refusal) => break Err(refusal),
                Ok(None) => break Ok(()),
                Ok(Some((target, len))) => {
                    if target != run {
                        if start < at {
                            out(run, &data[start..at]);
                        }
                        (start, run) = (at, target);
                    }
                    at += len;
                }
            }
        };
        if start < at {
            out(run, &data[start..at]);
        }
        result?;
        if self.stage != Stage::Ended {
            self.partial.extend_from_slice(&data[at..]);
        }
        Ok(())
    }

    /// CopyDone: a last line without line end is a row.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self, out: &mut dyn FnMut(Target, &[u8])) -> Result<(), Refusal> {
        let partial = std::mem::take(&mut self.partial);
        let mut rest = partial.as_slice();
        while let Some((target, len)) = self.next(rest, true)? {
            out(target, &rest[..len]);
            rest = &rest[len..];
        }
        Ok(())
    }

    /// Gives out the row that begins in `partial` and ends in `data`; returns what follows it.
    fn complete_partial<'d>(
        &mut self,
        data: &'d [u8],
        out: &mut dyn FnMut(Target, &[u8]),
    ) -> Result<&'d [u8], Refusal> {
        let mut partial = std::mem::take(&mut self.partial);
        let before = partial.len();
        let (mut taken, mut growth) = (0, GROWTH_BYTES);
        loop {
            let more = growth.min(data.len() - taken);
            if more == 0 {
                self.partial = partial;
                return Ok(&[]);
            }
            partial.extend_from_slice(&data[taken..taken + more]);
            taken += more;
            growth *= 2;
            if let Some((target, len)) = self.next(&partial, false)? {
                out(target, &partial[..len]);
                if partial.capacity() <= PARTIAL_KEPT_BYTES {
                    partial.clear();
                    self.partial = partial;
                }
                return Ok(&data[len - before..]);
            }
            if self.stage == Stage::Ended {
                return Ok(&[]);
            }
            if partial.len() > ROW_BYTES_MAX {
                return Err(self.refuse("54000", format!("a row of COPY data exceeds {ROW_BYTES_MAX} bytes")));
            }
        }
    }

    /// The target and length of what stands first in `bytes`. `None`: not complete, or the end of the data.
    fn next(&mut self, bytes: &[u8], last: bool) -> Result<Option<(Target, usize)>, Refusal> {
        let found = match (self.stage, self.rows.format) {
            (Stage::Ended, _) => return Ok(None),
            (Stage::Trailer, _) if bytes.is_empty() => return Ok(None),
            (Stage::Trailer, _) => {
                return Err(self.refuse("22P04", "received copy data after EOF marker"));
            }
            (Stage::Header, CopyFormat::Binary) => self.find_binary_header(bytes, last)?,
            (Stage::Rows, CopyFormat::Binary) => self.find_binary(bytes, last)?,
            (_, CopyFormat::Text) => self.find_text(bytes, last)?,
            (_, CopyFormat::Csv) => self.find_csv(bytes, last)?,
        };
        let (data, end) = match found {
            Found::Unfinished => return Ok(None),
            Found::End => {
                self.stage = Stage::Ended;
                return Ok(None);
            }
            Found::Trailer { end } => {
                self.stage = Stage::Trailer;
                return Ok(Some((Target::All, end)));
            }
            Found::Row { data, end } => (data, end),
        };
        self.scan = Scan::default();
        if self.stage == Stage::Header {
            self.stage = Stage::Rows;
            self.line += u64::from(self.rows.format != CopyFormat::Binary);
            return Ok(Some((Target::All, end)));
        }
        self.line += 1;
        let shard = self.owner(&bytes[..data])?;
        Ok(Some((Target::Shard(shard), end)))
    }

    /// copyfromparse.c, `CopyReadLineText` outside CSV mode.
    fn find_text(&mut self, bytes: &[u8], last: bool) -> Result<Found, Refusal> {
        let mut from = self.scan.at;
        loop {
            let Some(offset) = memchr3(b'\n', b'\r', b'\\', &bytes[from..]) else {
                return Ok(self.no_line_end(bytes, last));
            };
            let at = from + offset;
            self.scan.at = at;
            if bytes[at] != b'\\' {
                return self.line_end(bytes, at, last);
            }
            match bytes.get(at + 1) {
                None if last => return Ok(self.no_line_end(bytes, last)),
                None => return Ok(Found::Unfinished),
                Some(b'.') => match self.end_marker(&bytes[at + 2..], last)? {
                    EndMarker::Unfinished => return Ok(Found::Unfinished),
                    EndMarker::Corrupt => return Err(self.refuse("22P04", "end-of-copy marker corrupt")),
                    // Version 15 reads the row, newer ones refuse it.
                    EndMarker::Complete if at > 0 => {
                        return Err(self.refuse("22P04", "end-of-copy marker is not alone on its line"));
                    }
                    EndMarker::Complete => return Ok(Found::End),
                },
                // Whatever it is, a line end too: it belongs to the line.
                Some(_) => from = at + 2,
            }
        }
    }

    /// `CopyReadLineText` in CSV mode.
    fn find_csv(&mut self, bytes: &[u8], last: bool) -> Result<Found, Refusal> {
        let (quote, escape) = (self.rows.quote, self.rows.escape);
        let Scan { at: mut from, mut in_quote } = self.scan;
        // \. may be a value, unless it is alone on its line.
        if from == 0 && bytes.first() == Some(&b'\\') {
            match bytes.get(1) {
                None if !last => return Ok(Found::Unfinished),
                Some(b'.') => match self.end_marker(&bytes[2..], last)? {
                    EndMarker::Unfinished => return Ok(Found::Unfinished),
                    EndMarker::Complete => return Ok(Found::End),
                    EndMarker::Corrupt => {}
                },
                _ => {}
            }
        }
        loop {
            if !in_quote {
                self.scan.in_quote = false;
                let offset = memchr3(quote, b'\n', b'\r', &bytes[from..]);
                let Some(offset) = offset else { return Ok(self.no_line_end(bytes, last)) };
                let at = from + offset;
                self.scan = Scan { at, in_quote };
                if bytes[at] != quote {
                    return self.line_end(bytes, at, last);
                }
                in_quote = true;
                from = at + 1;
            } else {
                let offset = if quote == escape {
                    memchr(quote, &bytes[from..])
                } else {
                    memchr2(quote, escape, &bytes[from..])
                };
                let at = offset.map_or(bytes.len(), |offset| from + offset);
                let newline = if self.line_end == LineEnd::Nl { b'\n' } else { b'\r' };
                self.line += memchr_iter(newline, &bytes[from..at]).count() as u64;
                self.scan = Scan { at, in_quote };
                if at == bytes.len() {
                    return Ok(self.no_line_end(bytes, last));
                }
                if quote == escape || bytes[at] == quote {
                    in_quote = false;
                    from = at + 1;
                } else if at + 1 == bytes.len() && !last {
                    return Ok(Found::Unfinished);
                } else {
                    // An escape: the next byte is neither the end of the quoted part nor an escape.
                    from = (at + 2).min(bytes.len());
                }
            }
        }
    }

    fn no_line_end(&mut self, bytes: &[u8], last: bool) -> Found {
        match (last, bytes.len()) {
            (true, 0) => Found::End,
            (true, len) => Found::Row { data: len, end: len },
            // A byte that needs its successor stays unscanned; all others are done.
            (false, len) => {
                self.scan.at = len;
                Found::Unfinished
            }
        }
    }

    /// `bytes[at]` is \n or \r, outside quotes.
    fn line_end(&mut self, bytes: &[u8], at: usize, last: bool) -> Result<Found, Refusal> {
        let csv = self.rows.format == CopyFormat::Csv;
        let stray = |splitter: &Self, name: &str, escape: &str| {
            let mut refusal = splitter.refuse(
                "22P04",
                format!("{} {name} found in data", if csv { "unquoted" } else { "literal" }),
            );
            refusal.hint = Some(if csv {
                format!("Use quoted CSV field to represent {name}.")
            } else {
                format!("Use \"{escape}\" to represent {name}.")
            });
            refusal
        };
        if bytes[at] == b'\n' {
            if matches!(self.line_end, LineEnd::Cr | LineEnd::CrNl) {
                return Err(stray(self, "newline", "\\n"));
            }
            self.line_end = LineEnd::Nl;
            return Ok(Found::Row { data: at, end: at + 1 });
        }
        match (self.line_end, bytes.get(at + 1)) {
            (LineEnd::Nl, _) => Err(stray(self, "carriage return", "\\r")),
            (LineEnd::Cr, _) => Ok(Found::Row { data: at, end: at + 1 }),
            (LineEnd::Unknown | LineEnd::CrNl, None) if !last => Ok(Found::Unfinished),
            (LineEnd::Unknown | LineEnd::CrNl, Some(b'\n')) => {
                self.line_end = LineEnd::CrNl;
                Ok(Found::Row { data: at, end: at + 2 })
            }
            (LineEnd::CrNl, _) => Err(stray(self, "carriage return", "\\r")),
            (LineEnd::Unknown, _) => {
                self.line_end = LineEnd::Cr;
                Ok(Found::Row { data: at, end: at + 1 })
            }
        }
    }

    /// What `\.` is, by what follows it.
    fn end_marker(&self, after: &[u8], last: bool) -> Result<EndMarker, Refusal> {
        let mismatch = || self.refuse("22P04", "end-of-copy marker does not match previous newline style");
        let after = match (self.line_end, after) {
            (LineEnd::CrNl, [b'\r', after @ ..]) => after,
            (LineEnd::CrNl, [b'\n', ..]) if self.rows.format == CopyFormat::Text => return Err(mismatch()),
            (LineEnd::CrNl, [_, ..]) => return Ok(EndMarker::Corrupt),
            (_, after) => after,
        };
        match (self.line_end, after) {
            (_, []) if last => Ok(EndMarker::Corrupt),
            (_, []) => Ok(EndMarker::Unfinished),
            (LineEnd::Unknown, [b'\n' | b'\r', ..])
            | (LineEnd::Nl | LineEnd::CrNl, [b'\n', ..])
            | (LineEnd::Cr, [b'\r', ..]) => Ok(EndMarker::Complete),
            (_, [b'\n' | b'\r', ..]) => Err(mismatch()),
            (_, [_, ..]) => Ok(EndMarker::Corrupt),
        }
    }

    /// copyfromparse.c, `ReceiveCopyBinaryHeader`. The flags are for every shard to judge.
    fn find_binary_header(&self, bytes: &[u8], last: bool) -> Result<Found, Refusal> {
        let signature = &bytes[..bytes.len().min(BINARY_SIGNATURE.len())];
        if !BINARY_SIGNATURE.starts_with(signature) || (last && signature.len() < BINARY_SIGNATURE.len()) {
            return Err(self.refuse("22P04", "COPY file signature not recognized"));
        }
        let extension = match bytes.get(BINARY_HEADER_BYTES - 4..BINARY_HEADER_BYTES) {
            None if last => return Err(self.refuse("22P04", "invalid COPY file header (missing length)")),
            None => return Ok(Found::Unfinished),
            Some(length) => be_i32(length),
        };
        let Ok(extension) = usize::try_from(extension) else {
            return Err(self.refuse("22P04", "invalid COPY file header (missing length)"));
        };
        let end = BINARY_HEADER_BYTES + extension;
        match bytes.len() >= end {
            true => Ok(Found::Row { data: end, end }),
            false if last => Err(self.refuse("22P04", "invalid COPY file header (wrong length)")),
            false => Ok(Found::Unfinished),
        }
    }

    fn find_binary(&mut self, bytes: &[u8], last: bool) -> Result<Found, Refusal> {
        let unfinished = |splitter: &Self| match last {
            true => Err(splitter.refuse("22P04", "unexpected EOF in COPY data")),
            false => Ok(Found::Unfinished),
        };
        let Some(count) = bytes.get(..2) else {
            // PostgreSQL takes half a count for the end.
            return Ok(if last { Found::End } else { Found::Unfinished });
        };
        let count = i16::from_be_bytes([count[0], count[1]]);
        if count == -1 {
            return Ok(Found::Trailer { end: 2 });
        }
        if usize::try_from(count) != Ok(self.rows.columns) {
            let expected = self.rows.columns;
            return Err(self.refuse("22P04", format!("row field count is {count}, expected {expected}")));
        }
        let mut at = 2;
        let mut wanted = 0;
        for column in 0..self.rows.columns {
            let Some(length) = bytes.get(at..at + 4) else { return unfinished(self) };
            let length = be_i32(length);
            at += 4;
            let len = match length {
                -1 => 0,
                _ => usize::try_from(length).map_err(|_| self.refuse("22P04", "invalid field size"))?,
            };
            if let Some((position, key)) = self.wanted.get(wanted)
                && *position == column
            {
                self.found[*key] = Field { start: at, end: at + len, flag: length == -1 };
                wanted += 1;
            }
            at += len;
            if at > bytes.len() {
                return unfinished(self);
            }
        }
        Ok(Found::Row { data: at, end: at })
    }

    /// The owner of the row in `line`, which is without its line end.
    fn owner(&mut self, line: &[u8]) -> Result<ShardId, Refusal> {
        match self.rows.format {
            CopyFormat::Text => self.find_fields(line, text_field)?,
            CopyFormat::Csv => {
                let (delimiter, quote, escape) = (self.rows.delimiter, self.rows.quote, self.rows.escape);
                self.find_fields(line, |line, at, _| csv_field(line, at, delimiter, quote, escape, None))?;
            }
            // Found with the row's end.
            CopyFormat::Binary => {}
        }
        let rule = Arc::clone(&self.rule);
        let mut finder = rule.find();
        for key in 0..self.found.len() {
            match self.value(line, key)? {
                Some(value) => finder.add(Some(&value)),
                None if key == 0 && rule.takes_null() => finder.add(None),
                None => return Err(self.refuse_null(key)),
            }
        }
        finder.shard().ok_or_else(|| {
            let mut refusal = no_shard(&self.distribution);
            refusal.detail = Some(place(self.line, self.rows.key.first().copied().unwrap_or_default()));
            refusal
        })
    }

    /// Notes where the key columns are. `next` gives a field and where the following one begins.
    fn find_fields(
        &mut self,
        line: &[u8],
        next: impl Fn(&[u8], usize, u8) -> Option<(Field, Option<usize>)>,
    ) -> Result<(), Refusal> {
        let (mut column, mut at) = (0, Some(0));
        for wanted in 0..self.wanted.len() {
            let (position, key) = self.wanted[wanted];
            loop {
                let Some(start) = at else {
                    return Err(self.refuse(
                        "22P04",
                        format!("missing data for sharding key column at position {}", position + 1),
                    ));
                };
                let Some((field, following)) = next(line, start, self.rows.delimiter) else {
                    return Err(self.refuse("22P04", "unterminated CSV quoted field"));
                };
                at = following;
                column += 1;
                if column > position {
                    self.found[key] = field;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads key column `key` of the row at hand. `None`: NULL.
    fn value<'s>(&'s mut self, line: &'s [u8], key: usize) -> Result<Option<KeyValue<'s>>, Refusal> {
        let (field, ty) = (self.found[key], self.types[key]);
        let raw = &line[field.start..field.end];
        if self.rows.format == CopyFormat::Binary {
            if field.flag {
                return Ok(None);
            }
            self.check_kept(key, raw)?;
            return KeyValue::from_binary(ty, self.rows.key_types[key], raw)
                .map(Some)
                .map_err(|error| self.refuse_binary(error, key));
        }

        self.unescaped.clear();
        let null = self.rows.null.as_slice();
        let column = self.rows.key[key];
        let text = match self.rows.format {
            // The null string is compared with what was typed, before any escape is read.
            CopyFormat::Text if raw == null => return Ok(None),
            CopyFormat::Text => match memchr(b'\\', raw) {
                None => raw,
                Some(_) => {
                    unescape(raw, &mut self.unescaped);
                    &self.unescaped
                }
            },
            _ if !field.flag && raw == null => {
                if !self.rows.force_not_null.contains(&column) {
                    return Ok(None);
                }
                raw
            }
            _ if !field.flag => raw,
            _ => {
                let CopyRows { delimiter, quote, escape, .. } = self.rows;
                csv_field(line, field.start, delimiter, quote, escape, Some(&mut self.unescaped));
                if self.unescaped == null && self.rows.force_null.contains(&column) {
                    return Ok(None);
                }
                &self.unescaped
            }
        };
        self.check_kept(key, text)?;
        KeyValue::from_text(ty, text).map(Some).map_err(|error| {
            let mut refusal = value::refusal(error, ty, text);
            refusal.detail = Some(place(self.line, column));
            refusal
        })
    }

    fn refuse(&self, sqlstate: &'static str, message: impl Into<String>) -> Refusal {
        let detail = Some(format!("COPY data, after line {}.", self.line));
        Refusal { sqlstate, message: message.into(), detail, hint: None }
    }

    /// A value too long for varchar(n): the server cuts its blanks, or says that it is too long.
    fn check_kept(&self, key: usize, value: &[u8]) -> Result<(), Refusal> {
        let chars = || value.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        match self.rows.key_chars.get(key).copied().flatten() {
            Some(most) if value.len() > most && chars() > most => Err(Refusal::unsupported(
                format!("cannot place a row whose sharding key is longer than {most} characters"),
                place(self.line, self.rows.key[key]),
                "Send the key without the blanks that would be cut.",
            )),
            _ => Ok(()),
        }
    }

    fn refuse_null(&self, key: usize) -> Refusal {
        Refusal::unsupported(
            "cannot place a row whose sharding key is NULL",
            place(self.line, self.rows.key[key]),
            "Give every row a key.",
        )
    }

    fn refuse_binary(&self, error: ValueError, key: usize) -> Refusal {
        let place = place(self.line, self.rows.key[key]);
        match error {
            ValueError::NotUnderstood => Refusal::unsupported(
                "cannot place a row whose sharding key is in this binary form",
                place,
                "Use COPY in text or CSV format.",
            ),
            ValueError::Invalid | ValueError::OutOfRange => Refusal {
                sqlstate: "22P03",
                message: "incorrect binary data format".into(),
                detail: Some(place),
                hint: None,
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndMarker {
    Complete,
    Unfinished,
    /// Not followed by a line end.
    Corrupt,
}

fn place(line: u64, column: usize) -> String {
    format!("COPY data, line {line}, column at position {}.", column + 1)
}

fn be_i32(bytes: &[u8]) -> i32 {
    i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// copyfromparse.c, `CopyReadAttributesText`: the field at `at`, raw, and where the next one begins.
fn text_field(line: &[u8], start: usize, delimiter: u8) -> Option<(Field, Option<usize>)> {
    let mut from = start;
    let (end, next) = loop {
        match memchr2(delimiter, b'\\', &line[from..]) {
            None => break (line.len(), None),
            Some(offset) if line[from + offset] == delimiter => {
                break (from + offset, Some(from + offset + 1));
            }
            // A backslash at the very end is dropped, before the field is compared with the null string.
            Some(offset) if from + offset + 1 == line.len() => break (from + offset, None),
            Some(offset) => from += offset + 2,
        }
    };
    Some((Field { start, end, flag: false }, next))
}

/// The escapes of text format.
fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let octal = |byte: Option<&u8>| byte.filter(|byte| (b'0'..=b'7').contains(byte)).map(|byte| byte - b'0');
    let hex =
        |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8);
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(&escaped) = raw.get(at) else { return };
        at += 1;
        out.push(match escaped {
            b'0'..=b'7' => {
                let mut value = u16::from(escaped - b'0');
                for _ in 0..2 {
                    let Some(digit) = octal(raw.get(at)) else { break };
                    value = value << 3 | u16::from(digit);
                    at += 1;
                }
                value as u8
            }
            b'x' => match hex(raw.get(at)) {
                None => b'x',
                Some(mut value) => {
                    at += 1;
                    if let Some(digit) = hex(raw.get(at)) {
                        value = value << 4 | digit;
                        at += 1;
                    }
                    value
                }
            },
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            other => other,
        });
    }
}

/// copyfromparse.c, `CopyReadAttributesCSV`: the field at `start`, where the next one begins, and its value in `out`.
/// `None`: a quoted part does not end.
fn csv_field(
    line: &[u8],
    start: usize,
    delimiter: u8,
    quote: u8,
    escape: u8,
    mut out: Option<&mut Vec<u8>>,
) -> Option<(Field, Option<usize>)> {
    let mut keep = |bytes: &[u8]| {
        if let Some(out) = out.as_deref_mut() {
            out.extend_from_slice(bytes);
        }
    };
    let mut quoted = false;
    let mut at = start;
    loop {
        let (end, next) = match memchr2(delimiter, quote, &line[at..]) {
            None => (line.len(), None),
            Some(offset) if line[at + offset] == delimiter => (at + offset, Some(at + offset + 1)),
            Some(offset) => {
                keep(&line[at..at + offset]);
                quoted = true;
                at += offset + 1;
                loop {
                    let offset = memchr2(quote, escape, &line[at..])?;
                    keep(&line[at..at + offset]);
                    at += offset;
                    let byte = line[at];
                    at += 1;
                    if byte == escape
                        && let Some(next) = line.get(at)
                        && (*next == escape || *next == quote)
                    {
                        keep(&[*next]);
                        at += 1;
                    } else if byte == quote {
                        break;
                    } else {
                        keep(&[byte]);
                    }
                }
                continue;
            }
        };
        keep(&line[at..end]);
        return Some((Field { start, end, flag: quoted }, next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::slot;
    use crate::topology::SLOTS;

    /// Every slot is a shard of its own, so that a target tells the key.
    fn distribution(types: &[KeyType]) -> Distribution {
        Distribution {
            name: "d".into(),
            types: types.into(),
            rule: Arc::new(Rule::hash((0..SLOTS as u16).map(ShardId).collect()).unwrap()),
            shown: Default::default(),
        }
    }

    fn text() -> CopyRows {
        CopyRows {
            format: CopyFormat::Text,
            delimiter: b'\t',
            null: b"\\N".to_vec(),
            quote: b'"',
            escape: b'"',
            header: false,
            force_not_null: Vec::new(),
            force_null: Vec::new(),
            distribution: 0,
            key: vec![0],
            columns: 2,
            key_types: vec![25],
            key_chars: vec![None],
        }
    }

    fn csv() -> CopyRows {
        CopyRows { format: CopyFormat::Csv, delimiter: b',', null: Vec::new(), ..text() }
    }

    fn binary() -> CopyRows {
        CopyRows { format: CopyFormat::Binary, key_types: vec![20], ..text() }
    }

    /// What comes out of these chunks: neighbours of one target joined, and the refusal.
    type Output = (Vec<(Target, Vec<u8>)>, Result<(), Refusal>);

    fn split<'c>(rows: &CopyRows, types: &[KeyType], chunks: impl IntoIterator<Item = &'c [u8]>) -> Output {
        let mut given: Vec<(Target, Vec<u8>)> = Vec::new();
        let mut out = |target: Target, bytes: &[u8]| match given.last_mut() {
            Some((last, run)) if *last == target => run.extend_from_slice(bytes),
            _ => given.push((target, bytes.to_vec())),
        };
        let mut splitter = Splitter::over(rows, &distribution(types));
        let feed = || {
            for chunk in chunks {
                splitter.push(chunk, &mut out)?;
            }
            splitter.finish(&mut out)
        };
        let result = feed();
        (given, result)
    }

    /// `rows of all | rows: key | ... ! sqlstate message`, with the rows escaped.
    fn describe(rows: &CopyRows, ty: KeyType, input: &[u8], keys: &[&str]) -> String {
        let (given, result) = split(rows, &[ty], [input]);
        let mut parts: Vec<String> = given
            .iter()
            .map(|(target, bytes)| {
                let name = match target {
                    Target::All => "all".to_string(),
                    Target::Shard(shard) => keys
                        .iter()
                        .find(|key| slot(&[KeyValue::from_text(ty, key.as_bytes()).unwrap()]) == shard.0)
                        .map_or("?".into(), |key| format!("[{}]", key.escape_debug())),
                };
                format!("{name} {}", bytes.escape_ascii())
            })
            .collect();
        if let Err(refusal) = result {
            parts.push(format!("! {} {}", refusal.sqlstate, refusal.message));
        }
        parts.join(" | ")
    }

    /// (why, options, input, keys that the output may name, output)
    type Row = (&'static str, CopyRows, &'static [u8], &'static [&'static str], &'static str);

    fn table() -> Vec<Row> {
        let semicolon = || CopyRows { delimiter: b';', ..csv() };
        vec![
            ("rows by key", text(), b"a\t1\nb\t2\n", &["a", "b"], r"[a] a\t1\n | [b] b\t2\n"),
            ("neighbours are one run", text(), b"a\t1\na\t2\n", &["a"], r"[a] a\t1\na\t2\n"),
            ("no line end at the end", text(), b"a\t1\nb\t2", &["a", "b"], r"[a] a\t1\n | [b] b\t2"),
            ("nothing", text(), b"", &[], ""),
            ("an empty line is one empty field", text(), b"\n", &[""], r"[] \n"),
            (
                "escapes",
                text(),
                b"\\t\\x41\\101\\q\\\\\t1\n",
                &["\tAAq\\"],
                r"[\tAAq\\] \\t\\x41\\101\\q\\\\\t1\n",
            ),
            ("\\x without digits", text(), b"\\xg\t1\n", &["xg"], r"[xg] \\xg\t1\n"),
            ("an escaped delimiter", text(), b"a\\\tb\t1\n", &["a\tb"], r"[a\tb] a\\\tb\t1\n"),
            ("an escaped line end", text(), b"a\\\nb\t1\n", &["a\nb"], r"[a\nb] a\\\nb\t1\n"),
            ("the null string is compared as typed", text(), b"\\\\N\t1\n", &["\\N"], r"[\\N] \\\\N\t1\n"),
            ("NULL", text(), b"\\N\t1\n", &[], "! 0A000 cannot place a row whose sharding key is NULL"),
            ("CRLF", text(), b"a\t1\r\nb\t2\r\n", &["a", "b"], r"[a] a\t1\r\n | [b] b\t2\r\n"),
            ("CR", text(), b"a\rb\r", &["a", "b"], r"[a] a\r | [b] b\r"),
            (
                "mixed line ends",
                text(),
                b"a\nb\r\n",
                &["a"],
                r"[a] a\n | ! 22P04 literal carriage return found in data",
            ),
            (
                "mixed line ends",
                text(),
                b"a\r\nb\n",
                &["a"],
                r"[a] a\r\n | ! 22P04 literal newline found in data",
            ),
            (
                "mixed line ends",
                text(),
                b"a\rb\n",
                &["a"],
                r"[a] a\r | ! 22P04 literal newline found in data",
            ),
            ("end marker", text(), b"a\n\\.\nb\n", &["a"], r"[a] a\n"),
            ("end marker at once", text(), b"\\.\r\nb", &[], ""),
            (
                "end marker in a line",
                text(),
                b"a\\.\n",
                &[],
                "! 22P04 end-of-copy marker is not alone on its line",
            ),
            ("end marker with more", text(), b"\\.a\n", &[], "! 22P04 end-of-copy marker corrupt"),
            ("end marker without line end", text(), b"\\.", &[], "! 22P04 end-of-copy marker corrupt"),
            (
                "end marker, other line end",
                text(),
                b"a\n\\.\r",
                &["a"],
                r"[a] a\n | ! 22P04 end-of-copy marker does not match previous newline style",
            ),
            ("an escaped backslash and a point", text(), b"\\\\.\n", &["\\."], r"[\\.] \\\\.\n"),
            (
                "a header",
                CopyRows { header: true, ..text() },
                b"k\tv\na\t1\n",
                &["a"],
                r"all k\tv\n | [a] a\t1\n",
            ),
            (
                "the second column",
                CopyRows { key: vec![1], ..text() },
                b"1\ta\n\\\t\ta\n",
                &["a"],
                r"[a] 1\ta\n\\\t\ta\n",
            ),
            (
                "too few columns",
                CopyRows { key: vec![1], ..text() },
                b"1\n",
                &[],
                "! 22P04 missing data for sharding key column at position 2",
            ),
            ("csv", csv(), b"a,1\nb,2\n", &["a", "b"], r"[a] a,1\n | [b] b,2\n"),
            ("quoted", csv(), b"\"a,\"\"b\",1\n", &["a,\"b"], "[a,\\\"b] \\\"a,\\\"\\\"b\\\",1\\n"),
            ("quotes within a field", csv(), b"a\"b,\"c,1\n", &["ab,c"], r#"[ab,c] a\"b,\"c,1\n"#),
            (
                "a line end in quotes",
                csv(),
                b"\"a\nb\",1\nc,2\n",
                &["a\nb", "c"],
                r#"[a\nb] \"a\nb\",1\n | [c] c,2\n"#,
            ),
            (
                "another escape",
                CopyRows { escape: b'\\', ..csv() },
                b"\"a\\\"\\\\\\b\",1\n",
                &["a\"\\\\b"],
                r#"[a\"\\\\b] \"a\\\"\\\\\\b\",1\n"#,
            ),
            (
                "an unquoted empty field is NULL",
                csv(),
                b",1\n",
                &[],
                "! 0A000 cannot place a row whose sharding key is NULL",
            ),
            ("a quoted one is not", csv(), b"\"\",1\n", &[""], r#"[] \"\",1\n"#),
            (
                "force_null",
                CopyRows { force_null: vec![0], ..csv() },
                b"\"\",1\n",
                &[],
                "! 0A000 cannot place a row whose sharding key is NULL",
            ),
            ("force_not_null", CopyRows { force_not_null: vec![0], ..csv() }, b",1\n", &[""], r"[] ,1\n"),
            ("an unterminated quote", csv(), b"\"a\n", &[], "! 22P04 unterminated CSV quoted field"),
            ("end marker", csv(), b"a,1\n\\.\nb,2\n", &["a"], r"[a] a,1\n"),
            ("no end marker", csv(), b"\\.,1\n\\.", &["\\."], r"[\\.] \\.,1\n\\."),
            (
                "no end marker in quotes",
                csv(),
                b"\"\n\\.\n\",1\n",
                &["\n\\.\n"],
                r#"[\n\\.\n] \"\n\\.\n\",1\n"#,
            ),
            (
                "a stray CR",
                csv(),
                b"a\nb\r\n",
                &["a"],
                r"[a] a\n | ! 22P04 unquoted carriage return found in data",
            ),
            ("a delimiter of one's own", semicolon(), b"a;1\n", &["a"], r"[a] a;1\n"),
            (
                "a header of two lines",
                CopyRows { header: true, ..csv() },
                b"\"k\nk\",v\na,1\n",
                &["a"],
                r#"all \"k\nk\",v\n | [a] a,1\n"#,
            ),
        ]
    }

    #[test]
    fn rows_are_cut_and_placed_as_postgresql_reads_them() {
        for (why, rows, input, keys, expected) in table() {
            assert_eq!(
                describe(&rows, KeyType::Text, input, keys),
                expected,
                "{why}: {}",
                input.escape_ascii()
            );
        }
    }

    fn binary_stream(tail: &[u8]) -> Vec<u8> {
        [BINARY_SIGNATURE, &[0, 0, 0, 0], &[0, 0, 0, 2], b"xy", tail].concat()
    }

    const BINARY_ROW: &[u8] = &[0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 255, 255, 255, 255];

    #[test]
    fn binary_rows_are_read_by_their_lengths() {
        let header = r"all PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x02xy";
        let row = r"[7] \x00\x02\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x07\xff\xff\xff\xff";
        let cases: [(&str, Vec<u8>, String); 9] = [
            (
                "a row and the trailer",
                [BINARY_ROW, &[255, 255]].concat(),
                format!("{header} | {row} | all \\xff\\xff"),
            ),
            ("no trailer", BINARY_ROW.into(), format!("{header} | {row}")),
            ("half a count is the end", vec![0], header.into()),
            (
                "data behind the trailer",
                vec![255, 255, 0],
                format!("{header}\\xff\\xff | ! 22P04 received copy data after EOF marker"),
            ),
            (
                "a short row",
                BINARY_ROW[..9].into(),
                format!("{header} | ! 22P04 unexpected EOF in COPY data"),
            ),
            ("too many columns", vec![0, 3], format!("{header} | ! 22P04 row field count is 3, expected 2")),
            (
                "a bad length",
                vec![0, 2, 255, 255, 255, 254],
                format!("{header} | ! 22P04 invalid field size"),
            ),
            (
                "NULL",
                vec![0, 2, 255, 255, 255, 255, 0, 0, 0, 0],
                format!("{header} | ! 0A000 cannot place a row whose sharding key is NULL"),
            ),
            (
                "a short key",
                vec![0, 2, 0, 0, 0, 1, 7, 255, 255, 255, 255],
                format!("{header} | ! 22P03 incorrect binary data format"),
            ),
        ];
        for (why, tail, expected) in cases {
            let input = binary_stream(&tail);
            assert_eq!(describe(&binary(), KeyType::BigInt, &input, &["7"]), expected, "{why}");
        }
        assert_eq!(
            describe(&binary(), KeyType::BigInt, b"", &[]),
            "! 22P04 COPY file signature not recognized"
        );
        assert_eq!(
            describe(&binary(), KeyType::BigInt, b"PGCOPX", &[]),
            "! 22P04 COPY file signature not recognized"
        );
    }

    #[test]
    fn a_key_that_cannot_be_read_is_refused_with_its_line() {
        let rows = CopyRows { header: true, ..csv() };
        let cases = [
            (
                KeyType::BigInt,
                "k,v\n1,\"a\nb\"\nx,2\n",
                "22P02",
                "invalid input syntax for type bigint: \"x\"",
            ),
            (
                KeyType::SmallInt,
                "k,v\n1,\"a\nb\"\n99999,2\n",
                "22003",
                "value \"99999\" is out of range for type smallint",
            ),
            (
                KeyType::Date,
                "k,v\n2000-01-01,\"a\nb\"\n2000-02-30,2\n",
                "22008",
                "date/time field value out of range: \"2000-02-30\"",
            ),
            (
                KeyType::Date,
                "k,v\n2000-01-01,\"a\nb\"\ntoday,2\n",
                "0A000",
                "cannot place the sharding key \"today\" of type date",
            ),
        ];
        for (ty, input, sqlstate, message) in cases {
            let refusal = split(&rows, &[ty], [input.as_bytes()]).1.unwrap_err();
            assert_eq!((refusal.sqlstate, refusal.message.as_str()), (sqlstate, message));
            assert_eq!(refusal.detail.unwrap(), "COPY data, line 4, column at position 1.");
        }
    }

    #[test]
    fn a_composite_key_is_hashed_in_the_order_of_the_key_not_of_the_columns() {
        let rows = CopyRows { key: vec![2, 0], columns: 3, key_types: vec![25, 20], ..text() };
        let (given, result) = split(&rows, &[KeyType::Text, KeyType::BigInt], [b"7\t-\teu\n".as_slice()]);
        let expected = slot(&[KeyValue::Text(b"eu".as_slice().into()), KeyValue::Integer(7)]);
        assert_eq!(given, [(Target::Shard(ShardId(expected)), b"7\t-\teu\n".to_vec())]);
        assert_eq!(result, Ok(()));
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % bound
        }
    }

    fn assert_same_however_cut(rows: &CopyRows, ty: KeyType, input: &[u8], random: &mut Random) {
        let whole = split(rows, &[ty], [input]);
        assert_eq!(split(rows, &[ty], input.chunks(1)), whole, "byte by byte: {}", input.escape_ascii());
        for _ in 0..4 {
            let mut chunks = Vec::new();
            let mut rest = input;
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(random.below(rest.len() + 1));
                chunks.push(chunk);
                rest = tail;
            }
            assert_eq!(split(rows, &[ty], chunks.clone()), whole, "{chunks:?}");
        }
    }

    const ALPHABET: &[u8] = b"ab1,,\t\t\"\"\\\\.N\n\n\n\r";

    #[test]
    fn the_output_is_the_same_however_the_input_is_cut() {
        let mut random = Random(1);
        for (_, rows, input, ..) in table() {
            assert_same_however_cut(&rows, KeyType::Text, input, &mut random);
        }
        for tail in [&[BINARY_ROW, BINARY_ROW, &[255, 255]].concat()[..], &[0, 3], &[255, 255, 0]] {
            assert_same_however_cut(&binary(), KeyType::BigInt, &binary_stream(tail), &mut random);
        }
        let backslash = CopyRows { escape: b'\\', ..csv() };
        for rows in [text(), csv(), backslash, CopyRows { header: true, key: vec![1], ..csv() }] {
            for _ in 0..3000 {
                let input: Vec<u8> =
                    (0..random.below(40)).map(|_| ALPHABET[random.below(ALPHABET.len())]).collect();
                assert_same_however_cut(&rows, KeyType::Text, &input, &mut random);
            }
        }
    }

    /// Question: how fast are short rows split? Budget: 200 MB/s and core, so that the servers are the limit.
    /// `cargo test --release -p pgherd-router -- --ignored --nocapture splitting`
    #[test]
    #[ignore = "a measurement"]
    fn splitting_short_rows() {
        let mut random = Random(1);
        let mut line = |format: CopyFormat| {
            let (key, amount) = (random.below(1 << 31), random.below(100_000));
            match format {
                CopyFormat::Csv => format!("{key},{amount},\"paid, shipped\",2024-02-29\n"),
                _ => format!("{key}\t{amount}\tpaid, shipped\t2024-02-29\n"),
            }
        };
        for (name, rows) in
            [("text", CopyRows { columns: 4, ..text() }), ("csv", CopyRows { columns: 4, ..csv() })]
        {
            let input: String = (0..1_000_000).map(|_| line(rows.format)).collect();
            for ty in [KeyType::BigInt, KeyType::Text] {
                let mut splitter = Splitter::over(&rows, &distribution(&[ty]));
                let mut buffers = [(); 4].map(|()| Vec::with_capacity(1 << 20));
                let started = std::time::Instant::now();
                for chunk in input.as_bytes().chunks(1 << 16) {
                    let gathered = splitter.push(chunk, &mut |target, rows| {
                        let Target::Shard(ShardId(shard)) = target else { return };
                        let buffer = &mut buffers[usize::from(shard % 4)];
                        if buffer.len() + rows.len() > buffer.capacity() {
                            buffer.clear();
                        }
                        buffer.extend_from_slice(rows);
                    });
                    gathered.unwrap();
                }
                let seconds = started.elapsed().as_secs_f64();
                let megabytes = input.len() as f64 / 1e6;
                println!(
                    "{name}, {ty:?} key: {:.0} MB/s, {:.0} ns a row of {:.0} bytes",
                    megabytes / seconds,
                    seconds * 1e9 / 1e6,
                    input.len() as f64 / 1e6,
                );
            }
        }
    }
}
