//! DDL and maintenance, by tokens: which shards have the object that a command names.
//!
//! Invariant: the text is never changed; only its place is decided. A command that would make a sharded or reference table
//! differ between shards, or promise what one shard cannot keep, is refused.

use super::behind::behind;
use super::classify::{Draft, calls_user_code, spread_or_user};
use super::names::{self, FIRST, Relation, sharding};
use super::reader::{Name, Reader};
use super::refuse::{ddl, user_function, view};
use super::route::Route;
use crate::lexer::{Token, TokenKind};
use crate::plan::SessionEffect;
use crate::refusal::Refusal;
use crate::topology::{Event, ShardId, Topology};

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Everywhere,
    On(ShardId),
}

type Placed<T = Place> = Result<T, Refusal>;

const EVERYWHERE: Route = Route::Copies { first_alone: true, moments: false };

/// Everything that is no query and not the session's own. The database has several shards.
pub(super) fn command(topology: &Topology, tokens: &[Token]) -> Draft {
    let mut notices = Vec::new();
    let mut place = place(topology, tokens, &mut notices);
    if matches!(place, Ok(Place::On(shard)) if shard != FIRST)
        && tokens.iter().any(|token| token.text == "nextval")
    {
        // One of that name is there, for sharded tables; it would give numbers that the first shard's gives, too.
        place = Err(ddl("Sequences are the first shard's, and this table is on another one."));
    }
    let mut draft = match place {
        Ok(Place::Everywhere) => Draft::other(EVERYWHERE),
        Ok(Place::On(shard)) => Draft::other(Route::One(shard)),
        Err(refusal) => Draft::refused(refusal),
    };
    let mut reader = Reader::new(tokens);
    let first = reader.word().unwrap_or("");
    reader.next();
    if first == "create" {
        reader.accept_any(&["global", "local"]);
        if reader.accept_any(&["temp", "temporary"]) || tokens.iter().any(|token| token.text == "pg_temp") {
            draft.effect = Some(SessionEffect::TemporaryTable);
        }
        if reader.word() == Some("sequence") && matches!(draft.route, Route::Copies { .. }) {
            draft.route = Route::CreateSequence;
        }
    }
    // Maintenance changes no name, no type and no key.
    draft.ddl = !matches!(
        first,
        "vacuum" | "analyze" | "analyse" | "cluster" | "reindex" | "lock" | "truncate" | "refresh"
    );
    if matches!(first, "vacuum" | "analyze" | "analyse" | "reindex" | "cluster")
        && let Route::Copies { first_alone, .. } = &mut draft.route
    {
        *first_alone = false;
    }
    draft.outside_transaction = runs_outside_transaction(tokens);
    draft.notices = notices;
    draft
}

/// Commands that PostgreSQL refuses inside a transaction block.
pub(super) fn runs_outside_transaction(tokens: &[Token]) -> bool {
    let mut reader = Reader::new(tokens);
    let first = reader.word().unwrap_or("");
    reader.next();
    let concurrently =
        || tokens.iter().any(|token| token.kind == TokenKind::Word && token.text == "concurrently");
    match first {
        "vacuum" => true,
        "cluster" => {
            reader.accept("verbose");
            reader.at_end()
        }
        "create" | "drop" => {
            reader.accept("unique");
            match reader.word().unwrap_or("") {
                "database" | "tablespace" => true,
                "index" => concurrently(),
                // CREATE SUBSCRIPTION and DROP SUBSCRIPTION, when they touch a replication slot.
                "subscription" => true,
                _ => false,
            }
        }
        "reindex" => {
            reader.parentheses();
            matches!(reader.word(), Some("database" | "system" | "schema")) || concurrently()
        }
        "alter" => match reader.word().unwrap_or("") {
            "system" => true,
            "table" => concurrently(),
            _ => false,
        },
        "refresh" | "detach" => false,
        _ => false,
    }
}

fn place(topology: &Topology, tokens: &[Token], notices: &mut Vec<String>) -> Placed {
    let place = place_of(topology, tokens, notices)?;
    // A thing of one shard must not get the name of a table of all.
    let renamed = tokens.windows(3).find(|three| {
        let word =
            |index: usize, text: &str| three[index].kind == TokenKind::Word && three[index].text == text;
        word(0, "rename") && word(1, "to") && names::is_spread(topology, &three[2].text)
    });
    match renamed {
        Some(three) if place != Place::Everywhere => {
            Err(ddl(format!("The configuration knows another table as \"{}\".", three[2].text)))
        }
        _ => Ok(place),
    }
}

fn place_of(topology: &Topology, tokens: &[Token], notices: &mut Vec<String>) -> Placed {
    let mut reader = Reader::new(tokens);
    let first = reader.word().unwrap_or("");
    reader.next();
    match first {
        "create" => create(topology, tokens, reader, notices),
        "alter" => alter(topology, tokens, reader, notices),
        "drop" => drop(topology, reader),
        "truncate" => {
            reader.accept("table");
            let place = tables(topology, reader)?;
            truncated(topology, reader).map(|()| place)
        }
        "lock" => {
            reader.accept("table");
            tables(topology, reader)
        }
        "vacuum" | "analyze" | "analyse" => {
            if reader.parentheses().is_none() {
                while reader.accept_any(&["full", "freeze", "verbose", "analyze", "analyse"]) {}
            }
            if reader.at_end() { Ok(Place::Everywhere) } else { tables(topology, reader) }
        }
        "cluster" => {
            reader.parentheses();
            reader.accept("verbose");
            if reader.at_end() { Ok(Place::Everywhere) } else { table(topology, &mut reader) }
        }
        "reindex" => {
            reader.parentheses();
            let kind = reader.word().unwrap_or("");
            reader.next();
            reader.accept("concurrently");
            match kind {
                "table" => table(topology, &mut reader),
                "index" => index(topology, &mut reader),
                _ => Ok(Place::Everywhere),
            }
        }
        "comment" => comment(topology, reader),
        "grant" | "revoke" => grant(topology, reader),
        "reassign" => Ok(Place::Everywhere),
        "refresh" => match spread_or_user(topology, tokens) {
            Some(refusal) => Err(refusal),
            None => Ok(Place::On(FIRST)),
        },
        "import" | "security" => untouched(topology, tokens),
        // No command of PostgreSQL that pgherd knows. If it names nothing spread, the first shard will know.
        _ => untouched(topology, tokens),
    }
}

/// It names a table that is on another shard than the first, and only there.
fn names_single(topology: &Topology, tokens: &[Token]) -> bool {
    tokens.iter().any(|token| {
        matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
            && names::is_elsewhere(topology, &token.text)
            && !names::is_spread(topology, &token.text)
    })
}

/// One relation's place.
fn named(topology: &Topology, name: &Name<'_>) -> Placed {
    match names::relation(topology, name.schema, name.name) {
        Relation::Sharded(_) | Relation::Reference(_) => Ok(Place::Everywhere),
        Relation::On(shard) => Ok(Place::On(shard)),
        Relation::Derived => Ok(Place::Everywhere),
        Relation::Ambiguous => {
            Err(ddl(format!("Several schemas have a configured table \"{}\": name one.", name.name)))
        }
    }
}

fn table(topology: &Topology, reader: &mut Reader<'_>) -> Placed {
    reader.accept("only");
    match reader.name() {
        Some(name) => named(topology, &name),
        None => Ok(Place::On(FIRST)),
    }
}

/// `a, only b, c *, d (x, y)` and what may follow: all in one place.
fn tables(topology: &Topology, mut reader: Reader<'_>) -> Placed {
    let mut found: Option<Place> = None;
    loop {
        reader.accept_all(&["if", "exists"]);
        let place = table(topology, &mut reader)?;
        match found {
            None => found = Some(place),
            Some(before) if before == place => {}
            Some(_) => {
                return Err(ddl(
                    "Some of the tables are on every shard and some are on one: name them in two commands.",
                ));
            }
        }
        reader.accept_symbol("*");
        reader.parentheses();
        if !reader.accept_symbol(",") {
            return Ok(found.unwrap_or(Place::On(FIRST)));
        }
    }
}

/// The names that `tables` has read: what else TRUNCATE of them would do.
fn truncated(topology: &Topology, mut reader: Reader<'_>) -> Placed<()> {
    loop {
        reader.accept("only");
        let Some(name) = reader.name() else { return Ok(()) };
        if let Relation::Sharded(table) | Relation::Reference(table) =
            names::relation(topology, name.schema, name.name)
            && let Some(reason) = behind(topology, table, Event::Truncate)?
        {
            return Err(ddl(reason));
        }
        reader.accept_symbol("*");
        if !reader.accept_symbol(",") {
            return Ok(());
        }
    }
}

fn index(topology: &Topology, reader: &mut Reader<'_>) -> Placed {
    let Some(name) = reader.name() else { return Ok(Place::On(FIRST)) };
    match topology.facts.indexes.get(name.name).and_then(|table| topology.tables.get(*table)) {
        Some(table) => named(topology, &Name { schema: None, name: &table.name }),
        None => Ok(Place::On(FIRST)),
    }
}

/// A command about things that are on the first shard, unless it names something spread.
fn untouched(topology: &Topology, tokens: &[Token]) -> Placed {
    match spread_or_user(topology, tokens) {
        Some(refusal) => Err(refusal),
        None => Ok(Place::On(FIRST)),
    }
}

fn create(
    topology: &Topology,
    tokens: &[Token],
    mut reader: Reader<'_>,
    notices: &mut Vec<String>,
) -> Placed {
    reader.accept_all(&["or", "replace"]);
    reader.accept_any(&["global", "local"]);
    let temporary = reader.accept_any(&["temp", "temporary"]);
    reader.accept_any(&[
        "unlogged",
        "recursive",
        "trusted",
        "procedural",
        "constraint",
        "unique",
        "foreign",
        "default",
    ]);
    let before = reader;
    let Some(kind) = reader.word() else { return Ok(Place::On(FIRST)) };
    reader.next();
    // Code that stands behind a default, a check, an operator or a trigger runs unseen later.
    if matches!(kind, "table" | "domain" | "index")
        && let Some(refusal) = calls_user_code(topology, reader.rest())
    {
        return Err(refusal);
    }
    if matches!(kind, "cast" | "operator" | "aggregate" | "trigger")
        && let Some(refusal) = names_user_code(topology, reader.rest())
    {
        return Err(refusal);
    }
    match kind {
        "table" => create_table(topology, reader, temporary, notices),
        "index" => create_index(topology, tokens, reader, notices),
        "view" if !temporary && !takes_a_table(topology, reader) => match spread_or_user(topology, tokens) {
            None => Ok(Place::On(FIRST)),
            // It would be on every shard, and one of its tables is on one.
            Some(refusal) if names_single(topology, tokens) => Err(refusal),
            // Whoever uses it is planned with its query.
            Some(_) => calls_user_code(topology, tokens).map_or(Ok(Place::Everywhere), Err),
        },
        "view" | "materialized" => untouched(topology, tokens),
        "sequence" if temporary => untouched(topology, tokens),
        "sequence" => create_sequence(topology, reader),
        "schema" => match reader.rest().iter().any(|token| token.text == "create" || token.text == "grant") {
            true => Err(ddl("CREATE SCHEMA with objects in it is not taken apart.")),
            false => Ok(Place::Everywhere),
        },
        "type" | "domain" | "extension" | "function" | "procedure" | "aggregate" | "operator" | "cast"
        | "collation" | "conversion" | "text" | "language" | "transform" | "access" | "role" | "user"
        | "group" => {
            if kind == "user" && reader.word() == Some("mapping") {
                return untouched(topology, before.rest());
            }
            Ok(Place::Everywhere)
        }
        "trigger" | "rule" => match on_table(topology, reader)? {
            Place::Everywhere => Err(ddl(format!(
                "A {kind} on a sharded or reference table may read or write other shards' rows inside."
            ))),
            place => match spread_or_user(topology, reader.rest()).filter(|_| kind == "rule") {
                Some(refusal) => Err(refusal),
                None => Ok(place),
            },
        },
        "policy" => {
            if reader.rest().iter().any(|token| token.kind == TokenKind::Word && token.text == "select") {
                return untouched(topology, tokens);
            }
            match calls_user_code(topology, tokens) {
                Some(refusal) => Err(refusal),
                None => on_table(topology, reader),
            }
        }
        "statistics" => {
            let from = reader.rest().iter().position(|token| token.text == "from");
            match from
                .map(|from| table(topology, &mut Reader::new(&reader.rest()[from + 1..])))
                .transpose()?
            {
                Some(Place::Everywhere) => Err(ddl(
                    "DROP STATISTICS would not find them on the other shards: it does not say the table.",
                )),
                place => Ok(place.unwrap_or(Place::On(FIRST))),
            }
        }
        "database" | "tablespace" | "publication" | "subscription" | "event" => {
            Err(ddl("It concerns one server, not the herd: connect to that server."))
        }
        "server" => untouched(topology, tokens),
        _ => untouched(topology, tokens),
    }
}

/// The name is one that the configuration knows as a table's.
fn takes_a_table(topology: &Topology, mut reader: Reader<'_>) -> bool {
    let name = reader.name();
    name.is_none_or(|name| topology.tables.iter().any(|table| table.name == name.name))
}

/// A sequence is the first shard's; the others have one of its name, for the defaults that name it.
fn create_sequence(topology: &Topology, mut reader: Reader<'_>) -> Placed {
    let before = reader;
    reader.accept_all(&["if", "not", "exists"]);
    match reader.name() {
        Some(name) if !names::is_spread(topology, name.name) => {
            Ok(owner(topology, reader.rest())?.unwrap_or(Place::Everywhere))
        }
        _ => untouched(topology, before.rest()),
    }
}

/// Where the table of OWNED BY table.column is.
fn owner(topology: &Topology, tokens: &[Token]) -> Placed<Option<Place>> {
    let word = |token: &Token, text: &str| token.kind == TokenKind::Word && token.text == text;
    let Some(at) = tokens.windows(2).position(|two| word(&two[0], "owned") && word(&two[1], "by")) else {
        return Ok(None);
    };
    let mut reader = Reader::new(&tokens[at + 2..]);
    let mut parts = Vec::new();
    while let Some(part) = reader.identifier() {
        parts.push(part);
        if !reader.accept_symbol(".") {
            break;
        }
    }
    match parts[..] {
        [table, _] => named(topology, &Name { schema: None, name: table }).map(Some),
        [.., schema, table, _] => named(topology, &Name { schema: Some(schema), name: table }).map(Some),
        // NONE
        _ => Ok(None),
    }
}

/// A function whose inside nobody sees, called or not.
fn names_user_code(topology: &Topology, tokens: &[Token]) -> Option<Refusal> {
    let name = |token: &&Token| matches!(token.kind, TokenKind::Word | TokenKind::Quoted);
    let user = |token: &&Token| topology.facts.user_functions.contains(&token.text);
    tokens.iter().filter(name).find(user).map(|token| user_function(&token.text))
}

/// `name ... ON table`: CREATE TRIGGER, RULE, POLICY, and DROP and ALTER of them.
fn on_table(topology: &Topology, mut reader: Reader<'_>) -> Placed {
    while let Some(token) = reader.next() {
        let on = token.kind == TokenKind::Word && token.text == "on";
        // CREATE RULE ... AS ON event TO table
        let event =
            reader.word().is_some_and(|word| matches!(word, "select" | "insert" | "update" | "delete"));
        if on && event {
            reader.next();
            reader.accept("to");
            return table(topology, &mut reader);
        }
        if on {
            return table(topology, &mut reader);
        }
    }
    Ok(Place::On(FIRST))
}

fn create_table(
    topology: &Topology,
    mut reader: Reader<'_>,
    temporary: bool,
    notices: &mut Vec<String>,
) -> Placed {
    reader.accept_all(&["if", "not", "exists"]);
    let Some(name) = reader.name() else { return Ok(Place::On(FIRST)) };
    let configured = topology.tables.iter().any(|table| table.name == name.name);
    if temporary || name.schema == Some("pg_temp") {
        if configured {
            return Err(ddl(format!(
                "A temporary table \"{}\" would hide the table of that name.",
                name.name
            )));
        }
        return on_one(topology, reader.rest(), Place::On(FIRST));
    }
    let rest = reader.rest();
    let word = |token: &Token, text: &str| token.kind == TokenKind::Word && token.text == text;
    let elsewhere =
        rest.iter().position(|token| ["like", "inherits", "of"].iter().any(|text| word(token, text)));
    let place = named(topology, &name)?;
    if Place::Everywhere != place {
        return on_one(topology, rest, place);
    }
    if reader.word() == Some("as") || rest.iter().any(|token| word(token, "select")) {
        return Err(ddl(
            "CREATE TABLE ... AS for a sharded or reference table is not taken apart: create it, then fill it.",
        ));
    }
    if elsewhere.is_some() {
        return Err(ddl(
            "LIKE, INHERITS, OF and PARTITION OF are not understood for a sharded or reference table.",
        ));
    }
    constraints(topology, &name, rest, notices)?;
    Ok(place)
}

/// What follows the name of a new table that is on one shard. Its columns may be called as they like; CREATE TABLE x AS SELECT
/// ... FROM sharded, LIKE, INHERITS, PARTITION OF and REFERENCES name tables.
fn on_one(topology: &Topology, rest: &[Token], place: Place) -> Placed {
    let word = |token: &Token, text: &str| token.kind == TokenKind::Word && token.text == text;
    let first_of = |words: &[&str]| {
        rest.iter()
            .position(|token| words.iter().any(|text| word(token, text)))
            .map_or(&[][..], |at| &rest[at..])
    };
    if let Some(refusal) = spread_or_user(topology, first_of(&["like", "inherits", "of"])) {
        return Err(refusal);
    }
    let query = first_of(&["as", "with"]);
    if query.iter().any(|token| ["select", "table", "values", "execute"].iter().any(|text| word(token, text)))
        && let Some(refusal) = spread_or_user(topology, query)
    {
        return Err(refusal);
    }
    foreign_keys(topology, None, rest)?;
    Ok(place)
}

/// Constraints in CREATE TABLE and ALTER TABLE ... ADD.
fn constraints(
    topology: &Topology,
    name: &Name<'_>,
    tokens: &[Token],
    notices: &mut Vec<String>,
) -> Placed<()> {
    let relation = names::relation(topology, name.schema, name.name);
    let table = match relation {
        Relation::Sharded(table) | Relation::Reference(table) => table,
        Relation::On(_) | Relation::Derived | Relation::Ambiguous => return Ok(()),
    };
    foreign_keys(topology, Some(table), tokens)?;
    if let Some((_, key)) = sharding(topology, table) {
        for columns in unique_columns(tokens) {
            if !key.iter().all(|key| columns.contains(&key.as_str())) {
                notices.push(format!(
                    "unique constraint on \"{}\" holds on each shard by itself: it does not contain the sharding key \"{}\"",
                    columns.join("\", \""),
                    key.join("\", \""),
                ));
            }
        }
    }
    Ok(())
}

/// Column lists of UNIQUE and PRIMARY KEY.
fn unique_columns(tokens: &[Token]) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    // The column being defined: the first word after ( or , at depth 1, or after ADD [COLUMN].
    let mut column: Option<&str> = None;
    let mut fresh = true;
    let mut reader = Reader::new(tokens);
    let mut depth = 0;
    while let Some(token) = reader.peek() {
        let constraint = token.kind == TokenKind::Word && (token.text == "unique" || token.text == "primary");
        if constraint && depth <= 1 {
            reader.next();
            reader.accept("key");
            reader.accept_all(&["nulls", "not", "distinct"]);
            reader.accept_all(&["nulls", "distinct"]);
            match reader.parentheses().and_then(|list| Reader::new(list).names()) {
                Some(names) => found.push(names.into_iter().map(|name| name.name).collect()),
                None => found.extend(column.map(|column| vec![column])),
            }
            fresh = false;
            continue;
        }
        match (token.kind, token.text.as_str()) {
            (TokenKind::Punctuation, "(") => {
                depth += 1;
                fresh = depth == 1;
            }
            (TokenKind::Punctuation, ")") => depth -= 1,
            (TokenKind::Punctuation, ",") if depth <= 1 => fresh = true,
            (TokenKind::Word, "add" | "column" | "if" | "not" | "exists") if fresh || depth == 0 => {
                fresh = true
            }
            (TokenKind::Word | TokenKind::Quoted, _) if fresh => {
                column = Some(&token.text);
                fresh = false;
            }
            _ => {}
        }
        reader.next();
    }
    found
}

/// REFERENCES: the row it points to must be on the same shard, always. `table`: what has the constraint; `None`: a table
/// that is on one shard.
fn foreign_keys(topology: &Topology, table: Option<usize>, tokens: &[Token]) -> Placed<()> {
    let references = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| token.kind == TokenKind::Word && token.text == "references");
    for (at, _) in references {
        let mut reader = Reader::new(&tokens[at + 1..]);
        let Some(target) = reader.name() else { continue };
        let named = reader.parentheses().and_then(|list| Reader::new(list).names());
        match (table, names::relation(topology, target.schema, target.name)) {
            // A copy of the row is there.
            (_, Relation::Reference(_)) => {}
            (None, Relation::On(_)) => {}
            (Some(table), Relation::Sharded(other)) => {
                let (Some((distribution, key)), Some((other_distribution, other_key))) =
                    (sharding(topology, table), sharding(topology, other))
                else {
                    return Err(ddl(format!(
                        "A row of a reference table would need \"{}\" on every shard.",
                        target.name
                    )));
                };
                let own = referencing(&tokens[..at]);
                let theirs: Vec<&str> = match (&named, topology.facts.tables.get(&other)) {
                    (Some(names), _) => names.iter().map(|name| name.name).collect(),
                    (None, Some(facts)) => facts.primary_key.iter().map(String::as_str).collect(),
                    (None, None) => Vec::new(),
                };
                let together = distribution == other_distribution
                    && own.len() == theirs.len()
                    && key.iter().zip(other_key).all(|(key, other_key)| {
                        own.iter().zip(&theirs).any(|(own, theirs)| own == key && theirs == other_key)
                    });
                if !together {
                    return Err(ddl(format!(
                        "A foreign key to \"{}\" must contain the sharding key of both tables, named, and they must be co-located.",
                        target.name
                    )));
                }
            }
            (_, Relation::Sharded(_) | Relation::On(_) | Relation::Derived | Relation::Ambiguous) => {
                return Err(ddl(format!(
                    "The rows of \"{}\" that a foreign key needs are not on every shard.",
                    target.name
                )));
            }
        }
    }
    Ok(())
}

/// The columns before REFERENCES: of FOREIGN KEY (...), or the column being defined.
fn referencing(before: &[Token]) -> Vec<&str> {
    let foreign = before.iter().rposition(|token| token.kind == TokenKind::Word && token.text == "foreign");
    if let Some(at) = foreign {
        let mut reader = Reader::new(&before[at + 1..]);
        if reader.accept("key")
            && let Some(list) = reader.parentheses()
            && reader.at_end()
            && let Some(names) = Reader::new(list).names()
        {
            return names.into_iter().map(|name| name.name).collect();
        }
    }
    // Back to the comma or parenthesis that opens the column's definition.
    let mut depth = 0;
    let mut start = before.len();
    while start > 0 {
        let token = &before[start - 1];
        match (token.kind, token.text.as_str()) {
            (TokenKind::Punctuation, ")") => depth += 1,
            (TokenKind::Punctuation, "(" | ",") if depth == 0 => break,
            (TokenKind::Word, "column" | "add") if depth == 0 => break,
            (TokenKind::Punctuation, "(") => depth -= 1,
            _ => {}
        }
        start -= 1;
    }
    Reader::new(&before[start..]).identifier().into_iter().collect()
}

fn create_index(
    topology: &Topology,
    tokens: &[Token],
    mut reader: Reader<'_>,
    notices: &mut Vec<String>,
) -> Placed {
    let unique = tokens.iter().take(3).any(|token| token.kind == TokenKind::Word && token.text == "unique");
    while reader.word().is_some_and(|word| word != "on")
        || reader.peek().is_some_and(|token| token.kind != TokenKind::Word)
    {
        reader.next();
    }
    if !reader.accept("on") {
        return Ok(Place::On(FIRST));
    }
    reader.accept("only");
    let Some(name) = reader.name() else { return Ok(Place::On(FIRST)) };
    if reader.accept("using") {
        reader.next();
    }
    let columns = reader.parentheses().unwrap_or(&[]);
    if let Relation::Sharded(table) = names::relation(topology, name.schema, name.name)
        && let Some((_, key)) = sharding(topology, table)
        && unique
        && !key
            .iter()
            .all(|key| columns.iter().any(|token| token.text == *key && token.kind != TokenKind::Punctuation))
    {
        notices.push(format!(
            "unique index on \"{}\" holds on each shard by itself: it does not contain the sharding key \"{}\"",
            name.name,
            key.join("\", \""),
        ));
    }
    named(topology, &name)
}

fn alter(topology: &Topology, tokens: &[Token], mut reader: Reader<'_>, notices: &mut Vec<String>) -> Placed {
    reader.accept_any(&["procedural", "foreign"]);
    let Some(kind) = reader.word() else { return Ok(Place::On(FIRST)) };
    reader.next();
    match kind {
        "table" => alter_table(topology, reader, notices),
        "index" => {
            reader.accept_all(&["if", "exists"]);
            let before = reader;
            let place = index(topology, &mut reader)?;
            match before.rest().iter().any(|token| token.text == "attach") {
                true => untouched(topology, tokens).map(|_| place),
                false => Ok(place),
            }
        }
        "view" | "materialized" => {
            reader.accept("view");
            reader.accept_all(&["if", "exists"]);
            table(topology, &mut reader)
        }
        "sequence" if owner(topology, reader.rest())? == Some(Place::Everywhere) => Ok(Place::Everywhere),
        "sequence" | "server" | "statistics" => untouched(topology, tokens),
        "user" if reader.word() == Some("mapping") => untouched(topology, tokens),
        "domain" => calls_user_code(topology, tokens).map_or(Ok(Place::Everywhere), Err),
        "schema" | "type" | "extension" | "function" | "procedure" | "routine" | "aggregate" | "operator"
        | "collation" | "conversion" | "text" | "language" | "role" | "user" | "group" | "default"
        | "large" => Ok(Place::Everywhere),
        "trigger" | "rule" | "policy" => match calls_user_code(topology, tokens) {
            Some(refusal) => Err(refusal),
            None => on_table(topology, reader),
        },
        "database" | "tablespace" | "system" | "publication" | "subscription" | "event" => {
            Err(ddl("It concerns one server, not the herd: connect to that server."))
        }
        _ => untouched(topology, tokens),
    }
}

fn alter_table(topology: &Topology, mut reader: Reader<'_>, notices: &mut Vec<String>) -> Placed {
    if reader.accept("all") {
        return Err(ddl("ALTER TABLE ALL moves tables of one server."));
    }
    reader.accept_all(&["if", "exists"]);
    reader.accept("only");
    let Some(name) = reader.name() else { return Ok(Place::On(FIRST)) };
    reader.accept_symbol("*");
    let rest = reader.rest();
    if let Some(refusal) = calls_user_code(topology, rest) {
        return Err(refusal);
    }
    let place = named(topology, &name)?;
    if place != Place::Everywhere {
        if reader.accept_all(&["set", "schema"]) && names::is_spread(topology, name.name) {
            return Err(ddl(format!("The configuration knows another table as \"{}\".", name.name)));
        }
        foreign_keys(topology, None, rest)?;
        let words = ["attach", "inherit", "detach", "of"];
        let other = rest
            .iter()
            .position(|token| token.kind == TokenKind::Word && words.contains(&token.text.as_str()));
        if let Some(refusal) = other.and_then(|at| spread_or_user(topology, &rest[at..])) {
            return Err(refusal);
        }
        return Ok(place);
    }
    if let Relation::Derived = names::relation(topology, name.schema, name.name) {
        return Err(view(name.name));
    }
    let key: &[String] = match names::relation(topology, name.schema, name.name) {
        Relation::Sharded(table) => sharding(topology, table).map_or(&[], |(_, key)| key),
        _ => &[],
    };
    let mut actions = reader;
    while !actions.at_end() {
        action(topology, &name, key, &mut actions)?;
    }
    constraints(topology, &name, rest, notices)?;
    Ok(place)
}

/// One action of ALTER TABLE on a sharded or reference table, up to the comma.
fn action(topology: &Topology, name: &Name<'_>, key: &[String], reader: &mut Reader<'_>) -> Placed<()> {
    let is_key = |column: Option<&str>| column.is_some_and(|column| key.iter().any(|key| key == column));
    let first = reader.word().unwrap_or("");
    reader.next();
    let refused = |reason: &str| Err(ddl(format!("{reason} (table \"{}\").", name.name)));
    match first {
        "rename" if reader.accept("to") => return refused("The configuration knows the table by its name"),
        "rename" if !reader.accept("constraint") => {
            reader.accept("column");
            if is_key(reader.identifier()) {
                return refused("The configuration knows the sharding key by its name");
            }
        }
        "set" if reader.word() == Some("schema") => {
            return refused("The configuration knows the table by its name");
        }
        "drop" if !reader.accept("constraint") => {
            reader.accept("column");
            reader.accept_all(&["if", "exists"]);
            if is_key(reader.identifier()) {
                return refused("The sharding key cannot be dropped");
            }
        }
        "alter" if reader.word() != Some("constraint") => {
            reader.accept("column");
            let column = reader.identifier();
            let typed = reader.accept("type") || reader.accept_all(&["set", "data", "type"]);
            if typed && is_key(column) {
                return refused("The type of the sharding key decides where rows are");
            }
            if typed {
                same_everywhere(topology, reader.rest())?;
            }
        }
        "add" => {
            let constraint = matches!(
                reader.word(),
                Some("constraint" | "primary" | "unique" | "foreign" | "check" | "exclude")
            );
            if !constraint {
                same_everywhere(topology, reader.rest())?;
            }
        }
        "attach" | "detach" | "inherit" | "no" | "of" | "not" => {
            return refused("Partitions and inheritance are not understood for sharded and reference tables");
        }
        _ => {}
    }
    while let Some(token) = reader.peek() {
        if reader.parentheses().is_some() {
            continue;
        }
        reader.next();
        if token.kind == TokenKind::Punctuation && token.text == "," {
            break;
        }
    }
    Ok(())
}

/// A default or USING that existing rows get must give every shard the same.
fn same_everywhere(topology: &Topology, tokens: &[Token]) -> Placed<()> {
    for (index, token) in tokens.iter().enumerate() {
        if !matches!(token.kind, TokenKind::Word | TokenKind::Quoted) {
            continue;
        }
        let called =
            tokens.get(index + 1).is_some_and(|next| next.kind == TokenKind::Punctuation && next.text == "(");
        let serial = matches!(
            token.text.as_str(),
            "serial" | "bigserial" | "smallserial" | "identity" | "serial8" | "serial4" | "serial2"
        );
        let differs = match names::function(topology, &token.text) {
            names::Function::PerServer | names::Function::Sequence | names::Function::PerRow => true,
            names::Function::Aggregate | names::Function::Pure => false,
            names::Function::Unknown => called && topology.facts.user_functions.contains(&token.text),
        };
        if serial
            || (differs && (called || token.text.starts_with("current_") || token.text.starts_with("local")))
        {
            return Err(ddl(format!(
                "Each shard would evaluate {} by itself for the rows that are there.",
                token.text
            )));
        }
    }
    Ok(())
}

fn drop(topology: &Topology, mut reader: Reader<'_>) -> Placed {
    reader.accept_any(&["procedural", "foreign"]);
    let Some(kind) = reader.word() else { return Ok(Place::On(FIRST)) };
    reader.next();
    match kind {
        "table" => tables(topology, reader),
        "materialized" => {
            reader.accept("view");
            tables(topology, reader)
        }
        "view" => tables(topology, reader),
        "index" => {
            reader.accept("concurrently");
            reader.accept_all(&["if", "exists"]);
            let mut found = None;
            loop {
                let place = index(topology, &mut reader)?;
                if found.is_some_and(|before| before != place) {
                    return Err(ddl(
                        "Some of the indexes are on every shard and some are on one: name them in two commands.",
                    ));
                }
                found = Some(place);
                if !reader.accept_symbol(",") {
                    return Ok(place);
                }
            }
        }
        "sequence" if reader.rest().iter().any(|token| token.text == "cascade") => {
            Err(ddl("CASCADE would take the default of a sharded table's column on the first shard only."))
        }
        "sequence" | "server" | "statistics" => Ok(Place::On(FIRST)),
        "user" if reader.word() == Some("mapping") => Ok(Place::On(FIRST)),
        "schema" | "type" | "domain" | "extension" | "function" | "procedure" | "routine" | "aggregate"
        | "operator" | "cast" | "collation" | "conversion" | "text" | "language" | "transform" | "access"
        | "role" | "user" | "group" | "owned" => Ok(Place::Everywhere),
        "trigger" | "rule" | "policy" => on_table(topology, reader),
        "database" | "tablespace" | "publication" | "subscription" | "event" => {
            Err(ddl("It concerns one server, not the herd: connect to that server."))
        }
        _ => Ok(Place::On(FIRST)),
    }
}

fn comment(topology: &Topology, mut reader: Reader<'_>) -> Placed {
    if !reader.accept("on") {
        return Ok(Place::On(FIRST));
    }
    let Some(kind) = reader.word() else { return Ok(Place::On(FIRST)) };
    reader.next();
    match kind {
        "table" | "view" => table(topology, &mut reader),
        "materialized" => {
            reader.accept("view");
            table(topology, &mut reader)
        }
        "column" => {
            // schema.table.column: the column is the last part.
            let mut parts = Vec::new();
            while let Some(part) = reader.identifier() {
                parts.push(part);
                if !reader.accept_symbol(".") {
                    break;
                }
            }
            match parts[..] {
                [table, _] => named(topology, &Name { schema: None, name: table }),
                [.., schema, table, _] => named(topology, &Name { schema: Some(schema), name: table }),
                _ => Ok(Place::On(FIRST)),
            }
        }
        "index" => index(topology, &mut reader),
        "constraint" | "trigger" | "rule" | "policy" => on_table(topology, reader),
        "sequence" | "statistics" | "server" | "foreign" => Ok(Place::On(FIRST)),
        "database" | "tablespace" | "publication" | "subscription" | "event" => {
            Err(ddl("It concerns one server, not the herd: connect to that server."))
        }
        _ => Ok(Place::Everywhere),
    }
}

fn grant(topology: &Topology, mut reader: Reader<'_>) -> Placed {
    // Privileges may carry column lists; ON comes after them. Without ON it is about roles.
    loop {
        if reader.parentheses().is_some() {
            continue;
        }
        if reader.accept("on") {
            break;
        }
        if reader.next().is_none() {
            return Ok(Place::Everywhere);
        }
    }
    match reader.word() {
        Some("all") => {
            reader.next();
            let sequences = reader.word() == Some("sequences");
            Ok(if sequences { Place::On(FIRST) } else { Place::Everywhere })
        }
        Some("sequence") => Ok(Place::On(FIRST)),
        Some("foreign" | "parameter" | "tablespace" | "large") => Ok(Place::On(FIRST)),
        Some(
            "schema" | "function" | "procedure" | "routine" | "type" | "domain" | "database" | "language",
        ) => Ok(Place::Everywhere),
        _ => {
            reader.accept("table");
            tables(topology, reader)
        }
    }
}
