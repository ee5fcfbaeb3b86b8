//! What kind of statement it is, by its first words; and what it leaves behind in the session.
//!
//! Invariant: a statement of the session's own (BEGIN, SET, ...) is recognised only when it was read to its last token. One
//! that PostgreSQL would not accept is sent to the first shard, which says so.

use super::Made;
use super::copying;
use super::draw::{self, DrawRoute};
use super::names::{self, FIRST};
use super::reader::Reader;
use super::refuse::{ddl, not_proven, syntax, unknown_shard, user_code, user_function};
use super::route::Route;
use super::schema;
use super::shape::{Shape, shape};
use super::views;
use crate::lexer::{Token, TokenKind, string_value};
use crate::plan::{
    Answer, Begin, ConfigText, Explain, Isolation, Kind, Literal, LiteralKind, SessionEffect, SetStatement,
    Template,
};
use crate::refusal::Refusal;
use crate::topology::{ShardId, Topology};

/// A template under construction.
pub(super) struct Draft {
    pub kind: Kind,
    pub route: Route,
    pub effect: Option<SessionEffect>,
    pub read_only: bool,
    pub ddl: bool,
    pub outside_transaction: bool,
    pub notices: Vec<String>,
    pub depends_on_literals: bool,
}

impl Draft {
    pub fn new(kind: Kind, route: Route) -> Self {
        Self {
            kind,
            route,
            effect: None,
            read_only: false,
            ddl: false,
            outside_transaction: false,
            notices: Vec::new(),
            depends_on_literals: false,
        }
    }

    pub fn other(route: Route) -> Self {
        Self::new(Kind::Other, route)
    }

    pub fn refused(refusal: Refusal) -> Self {
        Self::other(Route::Refuse(refusal))
    }

    fn with_effect(mut self, effect: SessionEffect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Its text carries a value that the template carries, too.
    fn literal(mut self) -> Self {
        self.depends_on_literals = true;
        self
    }

    fn made(self, topology: &Topology) -> Made {
        Made {
            template: Template {
                kind: self.kind,
                effect: self.effect,
                read_only: self.read_only,
                ddl: self.ddl,
                outside_transaction: self.outside_transaction,
                notices: self.notices,
                version: topology.version,
                route: self.route,
            },
            depends_on_literals: self.depends_on_literals,
        }
    }
}

pub(super) fn empty(topology: &Topology) -> Template {
    let mut draft = Draft::new(Kind::Empty, Route::Any);
    draft.read_only = true;
    draft.made(topology).template
}

/// 54000: nobody reads it. Not cached: its fingerprint says nothing about its length.
pub(super) fn too_long(topology: &Topology, limit: usize) -> Made {
    let refusal = Refusal {
        sqlstate: "54000",
        message: "statement is too long for a sharded database".to_owned(),
        detail: Some(format!("pgherd reads statements of up to {} MiB for their keys.", limit >> 20)),
        hint: Some("Use COPY, or several statements.".to_owned()),
    };
    Draft::refused(refusal).literal().made(topology)
}

/// One shard has all there is: nothing has to be understood to send a statement there.
pub(super) fn is_plain(topology: &Topology) -> bool {
    topology.shards.len() == 1
}

pub(super) fn statement(topology: &Topology, sql: &str, tokens: &[Token], literals: &[Literal]) -> Made {
    let mut draft = session(topology, sql, tokens).unwrap_or_else(|| {
        if is_plain(topology) { plain(tokens) } else { sharded(topology, sql, tokens, literals) }
    });
    if !is_plain(topology) {
        match hint(topology, tokens) {
            Ok(None) => {}
            Ok(Some(Route::One(_))) if !hinted_read(tokens) && names_spread(topology, tokens) => {
                // By hand a row could be put where no statement looks for it, or a copy made to differ.
                draft.route = Route::Refuse(Refusal::unsupported(
                    "cannot write to a sharded or reference table on a shard named by hand",
                    "Its rows are placed by their keys, and reference tables are the same on every shard.",
                    "Leave the hint away, or name the key: /* pgherd: key=VALUE distribution=NAME */.",
                ));
            }
            Ok(Some(route)) => {
                draft.route = match route {
                    Route::One(shard) => Route::Named(shard),
                    route => route,
                };
                draft.read_only = false;
            }
            Err(refusal) => draft.route = Route::Refuse(refusal),
        }
    }
    if !is_plain(topology)
        && let Some(allowed) = configures(topology, tokens)
    {
        // Which setting, and to what, is the literals' to say.
        draft.depends_on_literals = true;
        if let Err(refusal) = allowed {
            draft = Draft::refused(refusal).literal();
        }
    }
    if draft.effect.is_none() && !matches!(draft.kind, Kind::SetConfig(_)) {
        draft.effect = effect_of_calls(tokens);
    }
    draft.made(topology)
}

fn names_spread(topology: &Topology, tokens: &[Token]) -> bool {
    tokens.iter().any(|token| is_name(token) && names::is_spread(topology, &token.text))
}

/// A statement that begins as a read and has nothing in it that writes, whatever functions it calls.
fn hinted_read(tokens: &[Token]) -> bool {
    let first = Reader::new(tokens).word().unwrap_or("").to_owned();
    matches!(first.as_str(), "select" | "values" | "table" | "with" | "explain" | "show" | "copy")
        && !tokens.iter().any(|token| {
            token.kind == TokenKind::Word
                && matches!(
                    token.text.as_str(),
                    "into" | "insert" | "update" | "delete" | "merge" | "stdin" | "from_stdin"
                )
        })
}

/// A plain pool: no tree is needed.
fn plain(tokens: &[Token]) -> Draft {
    let mut reader = Reader::new(tokens);
    let mut draft = Draft::other(Route::One(FIRST));
    let first = reader.word().unwrap_or("");
    draft.read_only = match first {
        "select" | "values" | "table" => only_reads(tokens),
        _ => false,
    };
    match first {
        "create" => {
            reader.next();
            reader.accept_any(&["global", "local"]);
            if reader.accept_any(&["temp", "temporary"]) || tokens.iter().any(|token| token.text == "pg_temp")
            {
                draft.effect = Some(SessionEffect::TemporaryTable);
            }
            draft.ddl = true;
        }
        "alter" | "drop" | "comment" | "grant" | "revoke" | "reassign" | "import" | "security" => {
            draft.ddl = true
        }
        "select" | "with" if into_temporary(tokens) => draft.effect = Some(SessionEffect::TemporaryTable),
        // User code may leave anything behind, as in any pool; nobody can know.
        _ => {}
    }
    draft.outside_transaction = schema::runs_outside_transaction(tokens);
    draft
}

/// SELECT ... INTO TEMP t
fn into_temporary(tokens: &[Token]) -> bool {
    tokens.windows(2).any(|pair| {
        pair[0].kind == TokenKind::Word
            && pair[0].text == "into"
            && (matches!(pair[1].text.as_str(), "temp" | "temporary" | "local" | "global"))
    })
}

/// By tokens alone: no lock, no INTO, no function that is not known to read only.
fn only_reads(tokens: &[Token]) -> bool {
    tokens.iter().enumerate().all(|(index, token)| {
        let called =
            tokens.get(index + 1).is_some_and(|next| next.text == "(" && next.kind == TokenKind::Punctuation);
        match token.kind {
            TokenKind::Word
                if matches!(token.text.as_str(), "into" | "insert" | "update" | "delete" | "merge") =>
            {
                false
            }
            TokenKind::Word if token.text == "for" => !tokens
                .get(index + 1)
                .is_some_and(|next| matches!(next.text.as_str(), "update" | "share" | "no" | "key")),
            TokenKind::Word | TokenKind::Quoted if called => {
                is_syntax(&token.text)
                    || !matches!(
                        names::builtin(&token.text),
                        names::Function::Unknown | names::Function::Sequence
                    )
            }
            TokenKind::Invalid => false,
            _ => true,
        }
    })
}

/// Words that may stand before a parenthesis without being a call.
pub(super) fn is_syntax(word: &str) -> bool {
    matches!(
        word,
        "in" | "any"
            | "all"
            | "some"
            | "exists"
            | "values"
            | "and"
            | "or"
            | "not"
            | "as"
            | "from"
            | "where"
            | "select"
            | "on"
            | "using"
            | "over"
            | "filter"
            | "cast"
            | "array"
            | "row"
            | "by"
            | "when"
            | "then"
            | "else"
            | "join"
            | "union"
            | "except"
            | "intersect"
            | "distinct"
            | "having"
            | "limit"
            | "offset"
            | "within"
            | "group"
            | "case"
            | "between"
            | "like"
            | "ilike"
            | "is"
            | "lateral"
            | "numeric"
            | "decimal"
            | "varchar"
            | "char"
            | "character"
            | "varying"
            | "timestamp"
            | "timestamptz"
            | "time"
            | "interval"
            | "bit"
            | "with"
            | "materialized"
            | "only"
            | "sets"
            | "cube"
            | "rollup"
            | "float"
    )
}

/// Functions that leave something in the session.
fn effect_of_calls(tokens: &[Token]) -> Option<SessionEffect> {
    let mut found = None;
    let named = |name: &str| tokens.iter().any(|token| token.text == name);
    if named("pg_settings") && named("update") {
        // Its rule is a set_config.
        found = Some(SessionEffect::Other);
    }
    for (index, token) in tokens.iter().enumerate() {
        let called =
            tokens.get(index + 1).is_some_and(|next| next.text == "(" && next.kind == TokenKind::Punctuation);
        if !called || !matches!(token.kind, TokenKind::Word | TokenKind::Quoted) {
            continue;
        }
        match token.text.as_str() {
            "pg_advisory_lock"
            | "pg_advisory_lock_shared"
            | "pg_try_advisory_lock"
            | "pg_try_advisory_lock_shared" => {
                found = Some(SessionEffect::AdvisoryLock);
            }
            "pg_advisory_unlock" | "pg_advisory_unlock_shared" | "pg_advisory_unlock_all" => {
                found = found.or(Some(SessionEffect::LetsGo));
            }
            "pg_listening_channels" => found = found.or(Some(SessionEffect::ListeningChannels)),
            "set_config" if !is_local(&tokens[index + 1..]) => found = found.or(Some(SessionEffect::Other)),
            "currval" | "lastval" => found = found.or(Some(SessionEffect::SequenceValue)),
            "dblink_connect" | "dblink_connect_u" | "lo_open" => found = found.or(Some(SessionEffect::Other)),
            _ => {}
        }
    }
    found
}

/// set_config(a, b, true)
fn is_local(tokens: &[Token]) -> bool {
    let mut reader = Reader::new(tokens);
    let Some(inside) = reader.parentheses() else { return false };
    let mut depth = 0;
    let mut last = 0;
    for (index, token) in inside.iter().enumerate() {
        match token.text.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            "," if depth == 0 => last = index + 1,
            _ => {}
        }
    }
    matches!(inside.get(last..), Some([word]) if word.kind == TokenKind::Word && word.text == "true")
}

/// By its first word; one that is not read to its end is the first shard's to refuse.
pub(super) fn is_session_statement(tokens: &[Token]) -> bool {
    let first = Reader::new(tokens).word();
    tokens.is_empty()
        || first.is_some_and(|word| {
            let words = [
                "begin",
                "start",
                "commit",
                "end",
                "rollback",
                "abort",
                "savepoint",
                "release",
                "set",
                "show",
            ];
            words.contains(&word)
        })
}

/// Statements that the session itself must understand. `None`: not one of them.
fn session(topology: &Topology, sql: &str, tokens: &[Token]) -> Option<Draft> {
    let mut reader = Reader::new(tokens);
    let first = reader.word()?;
    reader.next();
    let any = |kind| Some(Draft::new(kind, Route::Any));
    match first {
        "begin" => {
            reader.accept_any(&["work", "transaction"]);
            any(Kind::Begin(modes(reader)?))
        }
        "start" => {
            if !reader.accept("transaction") {
                return None;
            }
            any(Kind::Begin(modes(reader)?))
        }
        "commit" | "end" => {
            reader.accept_any(&["work", "transaction"]);
            any(Kind::Commit { chain: chain(reader)? })
        }
        "rollback" | "abort" => {
            reader.accept_any(&["work", "transaction"]);
            if first == "rollback" && reader.accept("to") {
                reader.accept("savepoint");
                let name = reader.savepoint()?.to_owned();
                return reader.at_end().then(|| Draft::new(Kind::RollbackTo(name), Route::Any));
            }
            any(Kind::Rollback { chain: chain(reader)? })
        }
        "savepoint" => {
            let name = reader.savepoint()?.to_owned();
            reader.at_end().then(|| Draft::new(Kind::Savepoint(name), Route::Any))
        }
        "release" => {
            reader.accept("savepoint");
            let name = reader.savepoint()?.to_owned();
            reader.at_end().then(|| Draft::new(Kind::Release(name), Route::Any))
        }
        "set" => Some(set(topology, sql, reader)),
        "reset" => reset(reader),
        "show" => {
            let mut draft = Draft::other(Route::Any);
            draft.read_only = true;
            Some(draft)
        }
        "discard" => {
            let all = reader.accept("all") && reader.at_end();
            let kind = if all { Kind::DiscardAll } else { Kind::Other };
            Some(Draft::new(kind, Route::One(FIRST)).with_effect(SessionEffect::LetsGo))
        }
        "deallocate" => {
            reader.accept("prepare");
            let all = reader.word() == Some("all");
            let name = reader.identifier()?.to_owned();
            reader.at_end().then(|| Draft::new(Kind::Deallocate((!all).then_some(name)), Route::Any))
        }
        "listen" => Some(match channel(&mut reader) {
            Some(channel) => Draft::new(Kind::Listen(channel), Route::Any),
            None => Draft::other(Route::One(FIRST)).with_effect(SessionEffect::Listen),
        }),
        "unlisten" => {
            if reader.accept_symbol("*") && reader.at_end() {
                return any(Kind::Unlisten(None));
            }
            Some(match channel(&mut reader) {
                Some(channel) => Draft::new(Kind::Unlisten(Some(channel)), Route::Any),
                None => Draft::other(Route::One(FIRST)).with_effect(SessionEffect::LetsGo),
            })
        }
        "notify" => Some(Draft::other(Route::One(FIRST)).with_effect(SessionEffect::Notify)),
        "checkpoint" => Some(Draft::other(Route::One(FIRST))),
        "load" => Some(Draft::other(Route::One(FIRST)).with_effect(SessionEffect::Other)),
        "execute" | "explain" | "create" if is_plain(topology) => execute(first, tokens),
        "prepare" if is_plain(topology) && reader.word() != Some("transaction") => prepare(sql, reader),
        "select" => set_config(reader),
        "execute" => Some(Draft::other(Route::One(FIRST)).with_effect(SessionEffect::SqlPrepare)),
        "prepare" if reader.word() != Some("transaction") => {
            let mut draft = Draft::other(Route::One(FIRST)).with_effect(SessionEffect::SqlPrepare);
            if !is_plain(topology)
                && let Some(refusal) = spread_or_user(topology, tokens)
            {
                draft.route = Route::Refuse(refusal);
            }
            Some(draft)
        }
        "fetch" | "move" => {
            let name = cursor_name(reader.rest())?;
            let mut draft = Draft::new(Kind::Fetch { name }, Route::One(FIRST));
            draft.read_only = first == "fetch";
            Some(draft)
        }
        "close" => {
            let all = reader.word() == Some("all");
            let name = reader.identifier()?.to_owned();
            reader
                .at_end()
                .then(|| Draft::new(Kind::CloseCursor { name: (!all).then_some(name) }, Route::One(FIRST)))
        }
        "declare" => declare(topology, tokens, reader),
        _ => None,
    }
}

/// PREPARE name [(types)] AS statement
fn prepare(sql: &str, mut reader: Reader<'_>) -> Option<Draft> {
    let name = reader.identifier()?.to_owned();
    let types = match (reader.peek(), reader.parentheses()) {
        (Some(open), Some(inside)) => {
            let last = inside.last().map_or(open.at.end, |token| token.at.end);
            let end = last + sql.get(last as usize..)?.find(')')? as u32 + 1;
            open.at.start..end
        }
        _ => 0..0,
    };
    if !reader.accept("as") {
        return None;
    }
    let body = reader.peek()?.at.start..reader.rest().last()?.at.end;
    Some(Draft::new(Kind::Prepare { name, types, body }, Route::One(FIRST)).literal())
}

/// EXECUTE name ..., EXPLAIN [...] EXECUTE name ..., CREATE TABLE ... AS EXECUTE name ...
fn execute(first: &str, tokens: &[Token]) -> Option<Draft> {
    let word = |token: &Token, text: &str| token.kind == TokenKind::Word && token.text == text;
    let mut reader = Reader::new(tokens);
    reader.next();
    match first {
        "execute" => {}
        "explain" => {
            while reader.accept_any(&["analyze", "analyse", "verbose"]) {}
            reader.parentheses();
            if !reader.accept("execute") {
                return None;
            }
        }
        // What a temporary table does to the session is known by its other words.
        _ if reader.accept_any(&["temp", "temporary", "local", "global"]) => return None,
        _ => loop {
            let token = reader.next()?;
            if word(token, "as") && reader.accept("execute") {
                break;
            }
        },
    }
    let token = reader.peek()?;
    let (name, at) = (reader.identifier()?.to_owned(), token.at.clone());
    let mut draft = Draft::new(Kind::Execute { name, at }, Route::One(FIRST)).literal();
    draft.ddl = first == "create";
    Some(draft)
}

/// SELECT set_config('name', 'value', false), ...: what is set is known, so that the session can carry it to other servers.
fn set_config(mut reader: Reader<'_>) -> Option<Draft> {
    let mut calls = Vec::new();
    loop {
        if reader.accept("pg_catalog") && !reader.accept_symbol(".") {
            return None;
        }
        if !reader.accept("set_config") {
            return None;
        }
        let inside = reader.parentheses()?;
        let [name, first, value, second, last] = inside else { return None };
        if first.text != "," || second.text != "," || last.kind != TokenKind::Word || last.text != "false" {
            return None;
        }
        calls.push((config_text(name)?, config_text(value)?));
        if reader.accept("as") {
            reader.identifier()?;
        }
        if !reader.accept_symbol(",") {
            break;
        }
    }
    reader.at_end().then(|| Draft::new(Kind::SetConfig(calls), Route::One(FIRST)).literal())
}

/// set_config is a SET by other words, whatever else the statement does: what SET is refused, it is. `None`: nothing calls it.
fn configures(topology: &Topology, tokens: &[Token]) -> Option<Result<(), Refusal>> {
    let mut found = None;
    for (index, token) in tokens.iter().enumerate() {
        let called = tokens.get(index + 1).is_some_and(|next| next.text == "(" && !is_name(next));
        if !is_name(token) || token.text != "set_config" || !called {
            continue;
        }
        let constant = |at: usize| match tokens.get(at).and_then(config_text) {
            // Not a part of an expression.
            Some(ConfigText::Constant(text)) if tokens.get(at + 1).is_some_and(|next| next.text == ",") => {
                Some(text)
            }
            _ => None,
        };
        let unclear = || {
            Refusal::unsupported(
                "cannot tell what set_config would set",
                "Some settings decide how pgherd reads statements, so their names and values have to be constants in a sharded database.",
                "Write the setting's name as a constant.",
            )
        };
        let Some(name) = constant(index + 2).map(|name| name.to_ascii_lowercase()) else {
            return Some(Err(unclear()));
        };
        if READ_BY.contains(&name.as_str()) {
            let Some(value) = constant(index + 4) else { return Some(Err(unclear())) };
            if let Some(refusal) = forbidden(topology, &name, &value) {
                return Some(Err(refusal));
            }
        }
        found = Some(Ok(()));
    }
    found
}

fn config_text(token: &Token) -> Option<ConfigText> {
    match token.kind {
        TokenKind::Param => token.text.parse::<u16>().ok()?.checked_sub(1).map(ConfigText::Param),
        TokenKind::Literal(LiteralKind::String) => {
            let inside = token.text.strip_prefix('\'')?.strip_suffix('\'')?;
            // A backslash means what standard_conforming_strings says; two parts of a string are none of ours.
            let plain = !inside.contains('\\') && !inside.replace("''", "").contains('\'');
            plain.then(|| ConfigText::Constant(inside.replace("''", "'")))
        }
        _ => None,
    }
}

/// Transaction modes to the end of the statement.
fn modes(mut reader: Reader<'_>) -> Option<Begin> {
    let mut begin = Begin::default();
    while !reader.at_end() {
        if reader.accept_all(&["isolation", "level"]) {
            begin.isolation = Some(isolation(&mut reader)?);
        } else if reader.accept_all(&["read", "only"]) {
            begin.read_only = Some(true);
        } else if reader.accept_all(&["read", "write"]) {
            begin.read_only = Some(false);
        } else if reader.accept("deferrable") {
            begin.deferrable = Some(true);
        } else if reader.accept_all(&["not", "deferrable"]) {
            begin.deferrable = Some(false);
        } else {
            return None;
        }
        if reader.accept_symbol(",") && reader.at_end() {
            return None;
        }
    }
    Some(begin)
}

fn isolation(reader: &mut Reader<'_>) -> Option<Isolation> {
    if reader.accept("serializable") {
        Some(Isolation::Serializable)
    } else if reader.accept_all(&["repeatable", "read"]) {
        Some(Isolation::RepeatableRead)
    } else if reader.accept_all(&["read", "committed"]) {
        Some(Isolation::ReadCommitted)
    } else if reader.accept_all(&["read", "uncommitted"]) {
        Some(Isolation::ReadUncommitted)
    } else {
        None
    }
}

/// A channel's name, to the end of the statement. `None`: the server's to judge, and to cut.
fn channel(reader: &mut Reader<'_>) -> Option<String> {
    /// NAMEDATALEN - 1
    const NAME_BYTES_MAX: usize = 63;
    let plain = reader.word();
    if plain.is_some_and(|word| NO_NAMES.contains(&word)) {
        return None;
    }
    let name = reader.identifier()?;
    (reader.at_end() && (1..=NAME_BYTES_MAX).contains(&name.len())).then(|| name.to_owned())
}

/// Words that are no names without quotes (PostgreSQL's kwlist.h: reserved, or names of functions and types only).
const NO_NAMES: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

fn chain(mut reader: Reader<'_>) -> Option<bool> {
    let chain =
        if reader.accept_all(&["and", "no", "chain"]) { false } else { reader.accept_all(&["and", "chain"]) };
    reader.at_end().then_some(chain)
}

fn set(topology: &Topology, sql: &str, mut reader: Reader<'_>) -> Draft {
    let local = |draft: Draft| draft.literal();
    match reader.word() {
        Some("local" | "constraints") => {
            return local(checked_setting(topology, sql, reader, Draft::new(Kind::SetLocal, Route::Any)));
        }
        Some("transaction") => {
            let snapshot = reader.rest().get(1).is_some_and(|token| token.text == "snapshot");
            if snapshot && !is_plain(topology) {
                return local(Draft::refused(ddl("A snapshot belongs to one shard.")));
            }
            return local(Draft::new(Kind::SetLocal, Route::Any));
        }
        _ => {}
    }
    if reader.accept_all(&["session", "characteristics", "as", "transaction"]) {
        return local(session_characteristics(reader));
    }
    if reader.accept_all(&["session", "authorization"]) {
        return local(assigned(sql, "session_authorization", reader));
    }
    reader.accept("session");
    if reader.accept("role") {
        return local(assigned(sql, "role", reader));
    }
    if reader.accept_all(&["time", "zone"]) {
        return local(match reader.word() {
            // SET timezone = INTERVAL ... is not SQL: there is no other way to write it, so it cannot be sent again.
            Some("interval") => Draft::other(Route::One(FIRST)).with_effect(SessionEffect::Other),
            Some("local") => setting("timezone", None),
            _ => assigned(sql, "timezone", reader),
        });
    }
    if reader.accept("names") {
        if reader.at_end() {
            return local(setting("client_encoding", None));
        }
        let draft = assigned(sql, "client_encoding", reader);
        return local(checked(topology, draft));
    }
    if reader.accept("schema") {
        return local(assigned(sql, "search_path", reader));
    }
    if reader.accept_all(&["xml", "option"]) {
        return local(assigned(sql, "xmloption", reader));
    }
    let Some(name) = parameter(&mut reader) else { return Draft::other(Route::One(FIRST)) };
    if !(reader.accept("to") || reader.accept_symbol("=")) || reader.at_end() {
        return Draft::other(Route::One(FIRST));
    }
    let draft = assigned(sql, &name, reader);
    local(checked(topology, draft))
}

/// A parameter's name, with its qualifier.
fn parameter(reader: &mut Reader<'_>) -> Option<String> {
    let mut name = reader.identifier()?.to_ascii_lowercase();
    while reader.accept_symbol(".") {
        name.push('.');
        name.push_str(&reader.identifier()?.to_ascii_lowercase());
    }
    Some(name)
}

fn setting(name: &str, value: Option<String>) -> Draft {
    Draft::new(Kind::Set(SetStatement::Set { name: name.to_owned(), value }), Route::Any)
}

/// `name` gets what is left of the statement.
fn assigned(sql: &str, name: &str, reader: Reader<'_>) -> Draft {
    let rest = reader.rest();
    let (Some(first), Some(last)) = (rest.first(), rest.last()) else {
        return Draft::other(Route::One(FIRST));
    };
    if rest.iter().any(|token| token.kind == TokenKind::Invalid) {
        return Draft::other(Route::One(FIRST));
    }
    if matches!(rest, [word] if word.kind == TokenKind::Word && word.text == "default") {
        return setting(name, None);
    }
    setting(name, sql.get(first.at.start as usize..last.at.end as usize).map(str::to_owned))
}

/// Settings that our reading of statements depends on cannot be anything else in a sharded database.
fn checked(topology: &Topology, draft: Draft) -> Draft {
    let Kind::Set(SetStatement::Set { name, value: Some(value) }) = &draft.kind else { return draft };
    match forbidden(topology, name, value) {
        None => draft,
        Some(refusal) => Draft::refused(refusal),
    }
}

/// Settings that statements are read by: see [`forbidden`].
const READ_BY: [&str; 2] = ["standard_conforming_strings", "client_encoding"];

fn forbidden(topology: &Topology, name: &str, value: &str) -> Option<Refusal> {
    if is_plain(topology) {
        return None;
    }
    let plain: String = value
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|character| character.to_ascii_lowercase())
        .collect();
    let allowed = match name {
        "standard_conforming_strings" => matches!(plain.as_str(), "on" | "true" | "yes" | "1" | "t"),
        "client_encoding" => matches!(plain.as_str(), "utf8" | "unicode"),
        _ => true,
    };
    (!allowed).then(|| {
        Refusal::unsupported(
            format!("cannot set \"{name}\" to {value} in a sharded database"),
            "pgherd reads the keys in statements as standard strings in UTF8.",
            "",
        )
    })
}

/// SET LOCAL name = value
fn checked_setting(topology: &Topology, sql: &str, mut reader: Reader<'_>, draft: Draft) -> Draft {
    if reader.accept("local")
        && let Some(name) = parameter(&mut reader)
        && (reader.accept("to") || reader.accept_symbol("="))
        && let (Some(first), Some(last)) = (reader.rest().first(), reader.rest().last())
        && let Some(value) = sql.get(first.at.start as usize..last.at.end as usize)
        && let Some(refusal) = forbidden(topology, &name, value)
    {
        return Draft::refused(refusal);
    }
    draft
}

fn session_characteristics(mut reader: Reader<'_>) -> Draft {
    // One mode is one parameter; several cannot be said in one SET.
    if reader.accept_all(&["isolation", "level"])
        && let Some(isolation) = isolation(&mut reader)
        && reader.at_end()
    {
        let level = match isolation {
            Isolation::ReadUncommitted => "'read uncommitted'",
            Isolation::ReadCommitted => "'read committed'",
            Isolation::RepeatableRead => "'repeatable read'",
            Isolation::Serializable => "'serializable'",
        };
        return setting("default_transaction_isolation", Some(level.to_owned()));
    }
    if reader.accept("read") {
        let read_only = reader.accept("only");
        if (read_only || reader.accept("write")) && reader.at_end() {
            let value = if read_only { "on" } else { "off" };
            return setting("default_transaction_read_only", Some(value.to_owned()));
        }
    }
    Draft::other(Route::One(FIRST)).with_effect(SessionEffect::Other)
}

fn reset(mut reader: Reader<'_>) -> Option<Draft> {
    let reset = |name: &str| Draft::new(Kind::Set(SetStatement::Reset { name: name.to_owned() }), Route::Any);
    let draft = if reader.accept("all") {
        Draft::new(Kind::Set(SetStatement::ResetAll), Route::Any)
    } else if reader.accept_all(&["session", "authorization"]) {
        reset("session_authorization")
    } else if reader.accept_all(&["time", "zone"]) {
        reset("timezone")
    } else if reader.accept_all(&["transaction", "isolation", "level"]) {
        reset("transaction_isolation")
    } else {
        reset(&parameter(&mut reader)?)
    };
    reader.at_end().then_some(draft)
}

/// FETCH [direction] [FROM | IN] name: the name is last.
fn cursor_name(tokens: &[Token]) -> Option<String> {
    let name = tokens.iter().rfind(|token| token.kind != TokenKind::Hint)?;
    matches!(name.kind, TokenKind::Word | TokenKind::Quoted).then(|| name.text.clone())
}

fn declare(topology: &Topology, tokens: &[Token], mut reader: Reader<'_>) -> Option<Draft> {
    let name = reader.identifier()?.to_owned();
    let mut hold = false;
    loop {
        if reader.accept("for") {
            break;
        }
        if reader.accept_all(&["with", "hold"]) {
            hold = true;
        } else if !reader.accept_any(&[
            "binary",
            "insensitive",
            "asensitive",
            "no",
            "scroll",
            "cursor",
            "without",
            "hold",
        ]) {
            return None;
        }
    }
    let kind = Kind::Declare { name, hold };
    let mut draft = Draft::new(kind, Route::One(FIRST));
    if hold {
        draft.effect = Some(SessionEffect::HoldableCursor);
    }
    if !is_plain(topology) {
        draft.route = match inner(topology, tokens, reader.rest()) {
            Ok(shape) => Route::Answered {
                inner: Box::new(shape.route),
                what: "a cursor",
                answer: Answer::Cursor,
                format: None,
            },
            Err(refusal) => Route::Refuse(refusal),
        };
    }
    Some(draft)
}

/// The statement inside EXPLAIN, DECLARE or COPY (...). Its literals keep their numbers in the whole statement.
pub(super) fn inner(topology: &Topology, all: &[Token], inside: &[Token]) -> Result<Shape, Refusal> {
    if let Some(refusal) = calls_user_code(topology, inside) {
        return Err(refusal);
    }
    let literals: Vec<Literal> = all
        .iter()
        .filter_map(|token| match token.kind {
            TokenKind::Literal(kind) => Some(Literal { at: token.at.clone(), kind }),
            _ => None,
        })
        .collect();
    Ok(shape(topology, inside, &literals))
}

/// A sharded database.
fn sharded(topology: &Topology, sql: &str, tokens: &[Token], literals: &[Literal]) -> Draft {
    let spread = |token: &Token| is_name(token) && names::is_spread(topology, &token.text);
    if let Some(invalid) = tokens.iter().find(|token| token.kind == TokenKind::Invalid) {
        if invalid.text.starts_with(['u', 'U']) {
            // It may be the name of anything.
            return Draft::refused(not_proven(
                "pgherd does not read names with Unicode escapes (U&\"...\").",
            ));
        }
        // Some versions of PostgreSQL read "1OR" as two tokens. Where it matters, nobody guesses.
        return match tokens.iter().any(spread) {
            true => Draft::refused(syntax(&invalid.text)),
            false => Draft::other(Route::One(FIRST)),
        };
    }
    let mut reader = Reader::new(tokens);
    let first = reader.word().unwrap_or("(");
    match first {
        "select" | "with" | "values" | "table" | "insert" | "update" | "delete" | "(" => {
            if let Some(refusal) = calls_user_code(topology, tokens) {
                return Draft::refused(refusal);
            }
            if !matches!(first, "table" | "insert" | "update" | "delete")
                && views::named(topology, tokens)
                && let Some(draft) = of_views(topology, sql)
            {
                return draft;
            }
            let temporary = matches!(first, "select" | "with") && into_temporary(tokens);
            let shape = shape(topology, tokens, literals);
            let mut draft = Draft::other(draw::with_moments(topology, tokens, shape.route));
            draft.read_only = shape.read_only;
            draft.depends_on_literals = shape.positional;
            if temporary {
                draft.effect = Some(SessionEffect::TemporaryTable);
            }
            draft
        }
        "explain" => explain(topology, tokens, reader),
        "copy" => copying::copy(topology, tokens).literal(),
        "merge" => match spread_or_user(topology, tokens) {
            Some(refusal) => Draft::refused(refusal),
            None => Draft::other(Route::One(FIRST)),
        },
        "do" => Draft::refused(user_code("a DO block")),
        "call" => Draft::refused(user_code("a procedure")),
        "prepare" | "commit" | "rollback" if reader.rest().len() > 1 => {
            reader.next();
            Draft::refused(ddl("Transactions prepared by a client would be prepared on one shard only."))
        }
        _ => schema::command(topology, tokens),
    }
}

/// A query of views. `None`: nobody knows whether it is.
fn of_views(topology: &Topology, sql: &str) -> Option<Draft> {
    let text = views::expanded(topology, sql)?;
    if text == sql {
        // Only an alias has a view's name: that of its query in its place, above all. It would be looked for without end.
        return None;
    }
    let inside = crate::lexer::tokens(&text);
    if let Some(refusal) = calls_user_code(topology, &inside) {
        return Some(Draft::refused(refusal));
    }
    let literals: Vec<Literal> = inside
        .iter()
        .filter_map(|token| match token.kind {
            TokenKind::Literal(kind) => Some(Literal { at: token.at.clone(), kind }),
            _ => None,
        })
        .collect();
    let shape = shape(topology, &inside, &literals);
    let mut draft = match shape.route {
        Route::Refuse(refusal) => Draft::refused(refusal),
        // Locks, for one.
        _ if !shape.read_only => return None,
        _ => Draft::other(Route::Draw(Box::new(DrawRoute::of_views()))),
    };
    draft.read_only = shape.read_only;
    draft.depends_on_literals = shape.positional;
    Some(draft)
}

fn is_name(token: &Token) -> bool {
    matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
}

fn explain(topology: &Topology, tokens: &[Token], mut reader: Reader<'_>) -> Draft {
    reader.next();
    let mut executes = false;
    // What pgherd has to say of it are lines of text.
    let mut as_text = true;
    match reader.parentheses() {
        Some(options) => {
            let formats = ["xml", "json", "yaml"];
            as_text = !options.iter().any(|token| formats.contains(&token.text.trim_matches('\'')));
            executes = options.iter().any(|token| token.text == "analyze" || token.text == "analyse")
        }
        None => {
            while reader.accept_any(&["analyze", "analyse"]) {
                executes = true;
            }
            reader.accept("verbose");
        }
    }
    match inner(topology, tokens, reader.rest()) {
        Ok(shape) => {
            let explain = match (as_text, executes) {
                (false, _) => Explain::No,
                (true, false) => Explain::Plan,
                (true, true) => Explain::Analyze,
            };
            let route = Route::Alone { inner: Box::new(shape.route), what: "EXPLAIN", explain };
            let mut draft = Draft::other(route);
            draft.read_only = shape.read_only || !executes;
            draft.depends_on_literals = shape.positional;
            draft
        }
        Err(refusal) => Draft::refused(refusal),
    }
}

/// A call of a function that may contain any SQL.
pub(super) fn calls_user_code(topology: &Topology, tokens: &[Token]) -> Option<Refusal> {
    let mentions = tokens.iter().any(|token| is_name(token) && names::is_spread(topology, &token.text));
    tokens.iter().enumerate().find_map(|(index, token)| {
        if !is_name(token) || !names::is_user_function(topology, &token.text) {
            return None;
        }
        let symbol = |token: Option<&Token>, symbol: &str| {
            token.is_some_and(|token| token.text == symbol && !is_name(token))
        };
        let called = symbol(tokens.get(index + 1), "(");
        // row.function is a call, too, when the row has no such column.
        let field = index > 0 && symbol(tokens.get(index - 1), ".") && mentions;
        let column = || {
            let mut columns = topology.facts.tables.values().flat_map(|facts| &facts.columns);
            columns.any(|column| column.name == token.text)
        };
        (called || field && !column()).then(|| user_function(&token.text))
    })
}

/// Why a statement whose inside is not looked at cannot run on the first shard: it names something that is elsewhere, or calls
/// user code.
pub(super) fn spread_or_user(topology: &Topology, tokens: &[Token]) -> Option<Refusal> {
    let elsewhere = tokens.iter().find(|token| is_name(token) && names::is_elsewhere(topology, &token.text));
    match elsewhere {
        Some(token) => {
            Some(not_proven(format!("It names \"{}\", and pgherd does not look inside it.", token.text)))
        }
        None => calls_user_code(topology, tokens),
    }
}

/// `/* pgherd: shard=s1 */` and `/* pgherd: key=42 distribution=customer */`
fn hint(topology: &Topology, tokens: &[Token]) -> Result<Option<Route>, Refusal> {
    let mut hints = tokens.iter().filter(|token| token.kind == TokenKind::Hint);
    let Some(hint) = hints.next() else { return Ok(None) };
    let unreadable = || {
        Refusal::unsupported(
            format!("cannot understand hint \"{}\"", hint.text),
            "",
            "Write /* pgherd: shard=NAME */ or /* pgherd: key=VALUE distribution=NAME */.",
        )
    };
    if hints.next().is_some() {
        return Err(unreadable());
    }
    let inside =
        hint.text.trim_start_matches("/*").trim_end_matches("*/").trim().trim_start_matches("pgherd:");
    let (mut shard, mut key, mut distribution) = (None, None, None);
    for word in inside.split_whitespace() {
        match word.split_once('=') {
            Some(("shard", value)) => shard = Some(value),
            Some(("key", value)) => key = Some(value),
            Some(("distribution", value)) => distribution = Some(value),
            _ => return Err(unreadable()),
        }
    }
    match (shard, key, distribution) {
        (Some(name), None, None) => match topology.shards.iter().position(|shard| shard == name) {
            Some(index) => Ok(Some(Route::One(ShardId(index as u16)))),
            None => Err(unknown_shard(name)),
        },
        (None, Some(key), Some(name)) => {
            let distribution = topology
                .distributions
                .iter()
                .position(|distribution| distribution.name == name)
                .ok_or_else(unreadable)?;
            let parts = topology.distributions[distribution].types.len();
            let key: Vec<String> = match parts {
                1 => vec![key.to_owned()],
                _ => key.split(',').map(str::to_owned).collect(),
            };
            Ok(Some(Route::Hinted { distribution, key }))
        }
        _ => Err(unreadable()),
    }
}

/// The text of a string token.
pub(super) fn string(token: &Token) -> Option<Vec<u8>> {
    match token.kind {
        TokenKind::Literal(
            kind @ (LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString),
        ) => string_value(&token.text, kind),
        _ => None,
    }
}
