//! Messages that pgherd itself says, and the few that it must understand.
//!
//! Writers append one whole frame to a buffer. Readers take a body without type and length.

use crate::frame::{Fields, Malformed};

/// Appends a frame whose body `write` produces.
pub fn frame(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

pub const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
pub const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
pub const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
pub const NO_DATA: &[u8] = b"n\0\0\0\x04";
pub const EMPTY_QUERY: &[u8] = b"I\0\0\0\x04";
pub const SYNC: &[u8] = b"S\0\0\0\x04";
pub const FLUSH: &[u8] = b"H\0\0\0\x04";
pub const COPY_DONE: &[u8] = b"c\0\0\0\x04";
pub const TERMINATE: &[u8] = b"X\0\0\0\x04";

pub fn query(out: &mut Vec<u8>, sql: &str) {
    frame(out, b'Q', |o| cstr(o, sql.as_bytes()));
}

pub fn parse(out: &mut Vec<u8>, name: &[u8], sql: &[u8], types: &[u32]) {
    frame(out, b'P', |o| {
        cstr(o, name);
        cstr(o, sql);
        o.extend_from_slice(&(types.len() as u16).to_be_bytes());
        for oid in types {
            o.extend_from_slice(&oid.to_be_bytes());
        }
    });
}

/// `target`: 'S' a statement, 'P' a portal.
pub fn close(out: &mut Vec<u8>, target: u8, name: &[u8]) {
    frame(out, b'C', |o| {
        o.push(target);
        cstr(o, name);
    });
}

/// `target`: 'S' a statement, 'P' a portal.
pub fn describe(out: &mut Vec<u8>, target: u8, name: &[u8]) {
    frame(out, b'D', |o| {
        o.push(target);
        cstr(o, name);
    });
}

pub fn execute(out: &mut Vec<u8>, portal: &[u8], rows: u32) {
    frame(out, b'E', |o| {
        cstr(o, portal);
        o.extend_from_slice(&rows.to_be_bytes());
    });
}

pub fn copy_fail(out: &mut Vec<u8>, why: &str) {
    frame(out, b'f', |o| cstr(o, why.as_bytes()));
}

pub fn copy_data(out: &mut Vec<u8>, data: &[u8]) {
    frame(out, b'd', |o| o.extend_from_slice(data));
}

pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    frame(out, b'C', |o| cstr(o, tag.as_bytes()));
}

/// `status`: 'I' idle, 'T' in a transaction, 'E' in a failed one.
pub fn ready_for_query(out: &mut Vec<u8>, status: u8) {
    out.extend_from_slice(&[b'Z', 0, 0, 0, 5, status]);
}

pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    frame(out, b'S', |o| {
        cstr(o, name.as_bytes());
        cstr(o, value.as_bytes());
    });
}

pub fn backend_key_data(out: &mut Vec<u8>, process: u32, secret: &[u8]) {
    frame(out, b'K', |o| {
        o.extend_from_slice(&process.to_be_bytes());
        o.extend_from_slice(secret);
    });
}

/// 'R' with a code and what belongs to it.
pub fn authentication(out: &mut Vec<u8>, code: u32, data: &[u8]) {
    frame(out, b'R', |o| {
        o.extend_from_slice(&code.to_be_bytes());
        o.extend_from_slice(data);
    });
}

/// Password, SASLInitialResponse and SASLResponse share the type 'p'.
pub fn password(out: &mut Vec<u8>, data: &[u8]) {
    frame(out, b'p', |o| o.extend_from_slice(data));
}

/// A data row of text or binary values.
pub fn data_row(out: &mut Vec<u8>, values: &[Option<Vec<u8>>]) {
    frame(out, b'D', |o| {
        o.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            match value {
                None => o.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(v) => {
                    o.extend_from_slice(&(v.len() as u32).to_be_bytes());
                    o.extend_from_slice(v);
                }
            }
        }
    });
}

/// What an ErrorResponse or NoticeResponse says, as far as pgherd says or reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// "ERROR", "FATAL", "WARNING", "NOTICE"
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// The whole body as a server sent it: then that is what the client gets, position, context and all.
    pub raw: Option<Vec<u8>>,
}

impl Report {
    pub fn error(sqlstate: &str, message: impl Into<String>) -> Self {
        Self::new("ERROR", sqlstate, message)
    }

    pub fn fatal(sqlstate: &str, message: impl Into<String>) -> Self {
        Self::new("FATAL", sqlstate, message)
    }

    pub fn warning(sqlstate: &str, message: impl Into<String>) -> Self {
        Self::new("WARNING", sqlstate, message)
    }

    fn new(severity: &str, sqlstate: &str, message: impl Into<String>) -> Self {
        Self {
            severity: severity.into(),
            sqlstate: sqlstate.into(),
            message: message.into(),
            detail: None,
            hint: None,
            raw: None,
        }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Appends it as ErrorResponse, or as NoticeResponse for the milder severities.
    pub fn write(&self, out: &mut Vec<u8>) {
        let kind = if matches!(self.severity.as_str(), "ERROR" | "FATAL" | "PANIC") { b'E' } else { b'N' };
        frame(out, kind, |o| {
            if let Some(raw) = &self.raw {
                o.extend_from_slice(raw);
                return;
            }
            let mut field = |code: u8, text: &str| {
                o.push(code);
                // A NUL would end the field early.
                o.extend(text.bytes().filter(|&b| b != 0));
                o.push(0);
            };
            field(b'S', &self.severity);
            field(b'V', &self.severity);
            field(b'C', &self.sqlstate);
            field(b'M', &self.message);
            if let Some(detail) = &self.detail {
                field(b'D', detail);
            }
            if let Some(hint) = &self.hint {
                field(b'H', hint);
            }
            o.push(0);
        });
    }

    /// Reads the body of an ErrorResponse, to be passed on as it is.
    pub fn read_whole(body: &[u8]) -> Self {
        Self { raw: Some(body.to_vec()), ..Self::read(body) }
    }

    /// Moves the position that a server named, in characters of another text than the one that it was sent.
    pub fn shift_position(&mut self, by: i64) {
        self.replace_position(|position| position + by);
    }

    /// Like [`Self::shift_position`], for positions behind the first `same` characters only.
    pub fn shift_position_behind(&mut self, same: i64, by: i64) {
        self.replace_position(
            |position| if position > same { (position + by).max(same + 1) } else { position },
        );
    }

    fn replace_position(&mut self, new: impl FnOnce(i64) -> i64) {
        let Some(raw) = &mut self.raw else { return };
        let mut at = 0;
        while let Some(&code) = raw.get(at).filter(|code| **code != 0) {
            let Some(length) = raw[at + 1..].iter().position(|byte| *byte == 0) else { return };
            let text = at + 1..at + 1 + length;
            if code == b'P'
                && let Some(position) =
                    std::str::from_utf8(&raw[text.clone()]).ok().and_then(|p| p.parse::<i64>().ok())
            {
                raw.splice(text, new(position).max(1).to_string().into_bytes());
                return;
            }
            at = text.end + 1;
        }
    }

    /// Reads the body of an ErrorResponse or NoticeResponse. A field that is missing becomes a mild default: some
    /// servers leave fields out, and that must not hurt anybody.
    pub fn read(body: &[u8]) -> Self {
        let mut report = Self::error("XX000", "");
        let mut fields = Fields::new(body);
        while let Ok(code) = fields.u8() {
            if code == 0 {
                break;
            }
            let Ok(text) = fields.cstr() else { break };
            let text = || String::from_utf8_lossy(text).into_owned();
            match code {
                b'V' => report.severity = text(),
                b'S' if report.severity == "ERROR" => report.severity = text(),
                b'C' => report.sqlstate = text(),
                b'M' => report.message = text(),
                b'D' => report.detail = Some(text()),
                b'H' => report.hint = Some(text()),
                _ => {}
            }
        }
        report
    }
}

/// A Parse message, in place.
#[derive(Debug, Clone, Copy)]
pub struct ParseBody<'a> {
    pub name: &'a [u8],
    pub sql: &'a [u8],
    /// Type OIDs, four bytes each, network order.
    pub types: &'a [u8],
}

pub fn read_parse(body: &[u8]) -> Result<ParseBody<'_>, Malformed> {
    let mut fields = Fields::new(body);
    let (name, sql) = (fields.cstr()?, fields.cstr()?);
    let count = fields.u16()? as usize;
    let types = fields.bytes(count * 4)?;
    fields.end()?;
    Ok(ParseBody { name, sql, types })
}

/// A Bind message, in place.
#[derive(Debug, Clone, Copy)]
pub struct BindBody<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    /// Everything behind the statement's name, to be sent on as it is.
    pub tail: &'a [u8],
}

pub fn read_bind(body: &[u8]) -> Result<BindBody<'_>, Malformed> {
    let mut fields = Fields::new(body);
    let (portal, statement) = (fields.cstr()?, fields.cstr()?);
    Ok(BindBody { portal, statement, tail: fields.rest() })
}

/// Takes the tail of a Bind apart: parameter formats, values, result formats.
pub fn read_bind_tail<'a>(
    tail: &'a [u8],
    formats: &mut Vec<u16>,
    values: &mut Vec<Option<&'a [u8]>>,
    results: &mut Vec<u16>,
) -> Result<(), Malformed> {
    let mut fields = Fields::new(tail);
    for _ in 0..fields.u16()? {
        formats.push(fields.u16()?);
    }
    for _ in 0..fields.u16()? {
        values.push(fields.value()?);
    }
    for _ in 0..fields.u16()? {
        results.push(fields.u16()?);
    }
    fields.end()
}

/// Appends a Bind message whose end, behind the names, is there already.
pub fn bind_with(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], tail: &[u8]) {
    frame(out, b'B', |o| {
        cstr(o, portal);
        cstr(o, statement);
        o.extend_from_slice(tail);
    });
}

/// Appends a Bind message.
pub fn bind(
    out: &mut Vec<u8>,
    portal: &[u8],
    statement: &[u8],
    formats: &[u16],
    values: &[Option<&[u8]>],
    results: &[u16],
) {
    frame(out, b'B', |o| {
        cstr(o, portal);
        cstr(o, statement);
        o.extend_from_slice(&(formats.len() as u16).to_be_bytes());
        for f in formats {
            o.extend_from_slice(&f.to_be_bytes());
        }
        o.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            match value {
                None => o.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(v) => {
                    o.extend_from_slice(&(v.len() as u32).to_be_bytes());
                    o.extend_from_slice(v);
                }
            }
        }
        o.extend_from_slice(&(results.len() as u16).to_be_bytes());
        for f in results {
            o.extend_from_slice(&f.to_be_bytes());
        }
    });
}

/// One column of a RowDescription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: Vec<u8>,
    pub type_oid: u32,
    pub type_modifier: u32,
    pub format: u16,
    /// Table OID, attribute number and type length, as they came.
    pub table: u32,
    pub attribute: u16,
    pub type_length: u16,
}

pub fn read_row_description(body: &[u8]) -> Result<Vec<Column>, Malformed> {
    let mut fields = Fields::new(body);
    let count = fields.u16()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let name = fields.cstr()?.to_vec();
        let (table, attribute, type_oid) = (fields.u32()?, fields.u16()?, fields.u32()?);
        let (type_length, type_modifier, format) = (fields.u16()?, fields.u32()?, fields.u16()?);
        columns.push(Column { name, type_oid, type_modifier, format, table, attribute, type_length });
    }
    fields.end()?;
    Ok(columns)
}

pub fn row_description(out: &mut Vec<u8>, columns: &[Column]) {
    frame(out, b'T', |o| {
        o.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        for c in columns {
            cstr(o, &c.name);
            o.extend_from_slice(&c.table.to_be_bytes());
            o.extend_from_slice(&c.attribute.to_be_bytes());
            o.extend_from_slice(&c.type_oid.to_be_bytes());
            o.extend_from_slice(&c.type_length.to_be_bytes());
            o.extend_from_slice(&c.type_modifier.to_be_bytes());
            o.extend_from_slice(&c.format.to_be_bytes());
        }
    });
}

/// The values of a DataRow.
pub fn read_data_row<'a>(body: &'a [u8], values: &mut Vec<Option<&'a [u8]>>) -> Result<(), Malformed> {
    let mut fields = Fields::new(body);
    for _ in 0..fields.u16()? {
        values.push(fields.value()?);
    }
    fields.end()
}
