//! SELECT, INSERT, UPDATE, DELETE and VALUES of a sharded database: from the tree to a route.

use sqlparser::ast::{Query, SetExpr, Statement};

use super::draw;
use super::found::Found;
use super::gather::GatherRoute;
use super::insert::Inserted;
use super::names::{self, FIRST, Relation};
use super::parse;
use super::query::{Seen, Walk};
use super::reader::Reader;
use super::refuse::{FIRST_SHARDS, not_proven, two_places};
use super::route::{PinnedRoute, Route};
use super::scope::Scope;
use crate::lexer::{Token, TokenKind};
use crate::plan::Literal;
use crate::refusal::Refusal;
use crate::topology::Topology;

/// A route, and whether the statement provably writes nothing.
pub(super) struct Shape {
    pub route: Route,
    pub read_only: bool,
    /// Another text with its fingerprint may need another route.
    pub positional: bool,
}

impl Shape {
    fn refused(refusal: Refusal) -> Self {
        Self { route: Route::Refuse(refusal), read_only: false, positional: false }
    }
}

pub(super) fn shape(topology: &Topology, tokens: &[Token], literals: &[Literal]) -> Shape {
    let spread = tokens.iter().any(|token| is_name(token) && names::is_spread(topology, &token.text));
    let first = Reader::new(tokens).peek().map_or("", |token| token.text.as_str());
    if !matches!(first, "select" | "with" | "values" | "table" | "insert" | "update" | "delete" | "(") {
        let elsewhere =
            tokens.iter().any(|token| is_name(token) && names::is_elsewhere(topology, &token.text));
        let refusal = elsewhere.then(|| not_proven("pgherd does not understand this kind of statement."));
        return refusal
            .map_or(Shape { route: Route::One(FIRST), read_only: false, positional: false }, Shape::refused);
    }
    let found = parse::statement(tokens)
        .map_err(not_proven)
        .and_then(|statement| of_tree(topology, &statement, tokens, literals));
    match found {
        Ok(shape) => shape,
        Err(refusal) if spread => Shape::refused(refusal),
        // It names nothing that is spread: all its relations are on the first shard, or do not exist.
        Err(refusal) => unlisted(topology, tokens).unwrap_or_else(|| Shape::refused(refusal)),
    }
}

/// What is not understood, but names only relations of one shard. `None`: of several, or nobody knows.
fn unlisted(topology: &Topology, tokens: &[Token]) -> Option<Shape> {
    let elsewhere = |token: &Token| is_name(token) && names::is_elsewhere(topology, &token.text);
    (!tokens.iter().any(elsewhere)).then_some(Shape {
        route: Route::One(FIRST),
        read_only: false,
        positional: false,
    })
}

fn is_name(token: &Token) -> bool {
    matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
}

/// Two checks on the tokens that do not depend on the tree.
///
/// A name after FROM, JOIN, INTO, UPDATE or USING is a relation to PostgreSQL. The tree must have found as many of each that
/// is spread; if sqlparser took one for something else, the statement would be sent to the wrong place.
fn agrees(topology: &Topology, tokens: &[Token], found: &[String]) -> Seen {
    let word = |token: &Token| token.kind == TokenKind::Word;
    if tokens.iter().any(|token| word(token) && token.text == "uescape") {
        return Err(not_proven("pgherd does not read UESCAPE."));
    }
    for (index, token) in tokens.iter().enumerate().skip(1) {
        if !is_name(token) || !names::is_spread(topology, &token.text) {
            continue;
        }
        // Back over a qualifier, ONLY and opening parentheses.
        let mut before = index - 1;
        let qualified = tokens[before].text == "." && tokens[before].kind == TokenKind::Punctuation;
        if qualified && before >= 2 {
            before -= 2;
        }
        while before > 0
            && (word(&tokens[before]) && matches!(tokens[before].text.as_str(), "only" | "lateral")
                || tokens[before].kind == TokenKind::Punctuation && tokens[before].text == "(")
        {
            before -= 1;
        }
        let opens = word(&tokens[before])
            && matches!(tokens[before].text.as_str(), "from" | "join" | "into" | "update" | "table");
        // A qualified name after FROM may be of another schema: then it is found as such.
        if opens && !qualified && !found.contains(&token.text) {
            return Err(not_proven(format!("pgherd's parser does not see \"{}\" as a table.", token.text)));
        }
    }
    Ok(())
}

fn of_tree(
    topology: &Topology,
    statement: &Statement,
    tokens: &[Token],
    literals: &[Literal],
) -> Seen<Shape> {
    let mut walk = Walk::new(topology, literals, tokens);
    let mut names = Scope::inside(None);
    match statement {
        Statement::Query(query) => {
            walk.query(query, None)?;
            if let Some(refusal) = inner_write_refused(query, &walk.found) {
                return Err(refusal);
            }
        }
        Statement::Update(update) => {
            walk.nesting = 1;
            walk.update(update, &mut names)?;
        }
        Statement::Delete(delete) => {
            walk.nesting = 1;
            walk.delete(delete, &mut names)?;
        }
        Statement::Insert(insert) => {
            walk.nesting = 1;
            let parts = super::write::InsertParts::of(insert)?;
            let (schema, name) = super::query::qualified(parts.table)?;
            match names::relation(topology, schema, name) {
                Relation::Sharded(table) => {
                    let apart = draw::of_rows_apart(topology, table, insert, tokens)?;
                    let route = match walk.insert_sharded(insert, table, tokens)? {
                        Inserted::Values(route) => Route::Insert(route),
                        Inserted::Generate(route) => Route::Generate(Box::new(route)),
                        Inserted::Draw(route) => Route::Draw(Box::new(route)),
                        Inserted::InPlace(found) => {
                            agrees(topology, tokens, &found.names)?;
                            return self::route(topology, statement, *found, tokens);
                        }
                    };
                    let mut seen = vec![name.to_owned()];
                    if let Route::Insert(route) = &route {
                        seen.extend(route.found.names.iter().cloned());
                    }
                    agrees(topology, tokens, &seen)?;
                    let route = match (route, apart) {
                        (route @ Route::Insert(_), Some(apart)) => Route::Draw(Box::new(apart.unless(route))),
                        (route, _) => route,
                    };
                    return Ok(Shape { route, read_only: false, positional: false });
                }
                Relation::Reference(table) => {
                    walk.insert(insert, &mut names)?;
                    if let Some(route) = walk.insert_reference(insert, table)? {
                        agrees(topology, tokens, &walk.found.names)?;
                        let route = Route::Draw(Box::new(route));
                        return Ok(Shape { route, read_only: false, positional: false });
                    }
                }
                Relation::On(_) | Relation::Derived | Relation::Ambiguous => {
                    walk.insert(insert, &mut names)?
                }
            }
        }
        _ => return Err(not_proven("pgherd does not understand this kind of statement.")),
    }
    agrees(topology, tokens, &walk.found.names)?;
    route(topology, statement, walk.found, tokens)
}

/// A reference table written by WITH is written on one shard only.
fn inner_write_refused(query: &Query, found: &Found) -> Option<Refusal> {
    let plain = query.with.is_none()
        && !matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_));
    (found.reference_written && !plain)
        .then(|| not_proven("A reference table can be written by a statement of its own only."))
}

fn route(topology: &Topology, statement: &Statement, mut found: Found, tokens: &[Token]) -> Seen<Shape> {
    found.spread();
    let read_only = !found.writes;
    let positional = found.positional;
    let fixed = match found.fixed[..] {
        [] => None,
        [shard] => Some(shard),
        _ => return Err(two_places("It names tables that are on different shards.")),
    };
    if found.reference_written {
        if !found.pins.is_empty() || fixed.is_some() {
            return Err(not_proven("A write to a reference table may read reference tables only."));
        }
        if let Some(reason) = found.against_copies {
            return Err(not_proven(reason));
        }
        return Ok(Shape {
            route: Route::Copies { first_alone: true, moments: true },
            read_only,
            positional,
        });
    }
    if found.pins.is_empty() {
        let route = match fixed {
            Some(shard) => Route::One(shard),
            None if found.relations == 0 && found.pure => Route::Any,
            // Locks on a reference table meet each other, and its writers, on the first shard.
            None if found.reference_read && !found.locks && !found.tied => Route::Any,
            None => Route::One(FIRST),
        };
        return Ok(Shape { route, read_only, positional });
    }
    let mut fixed = fixed;
    if found.sequences {
        // SELECT setval('s', max(id)) FROM t: PostgreSQL finishes it on the first shard.
        let set = !found.draws && matches!(statement, Statement::Query(_));
        fixed = fixed.or(Some(FIRST)).filter(|fixed| set && *fixed == FIRST);
    }
    if found.sequences && fixed.is_none() {
        return Err(not_proven(FIRST_SHARDS));
    }
    if found.locks {
        return Err(not_proven(
            "A lock on one shard's copy of a reference table keeps nobody from another copy (use OF).",
        ));
    }
    let shared = shared(tokens, &found);
    let gather = match statement {
        Statement::Query(_) => GatherRoute::of(topology, &mut found, tokens),
        _ => Err(String::new()),
    };
    let several = match (found.against_union, fixed) {
        (Some(reason), _) => Err(reason),
        (None, None) => Ok(found.combined),
        (None, Some(_)) => Err("It joins a sharded table with a table that is on one shard only.".to_owned()),
    };
    Ok(Shape {
        route: Route::Pinned(Box::new(PinnedRoute { pins: found.pins, fixed, several, shared, gather })),
        read_only,
        positional,
    })
}

/// Parameters that stand in more than one place, unless all of them compare it with keys of one type. Their type, when it
/// is not declared, may come from another place.
fn shared(tokens: &[Token], found: &Found) -> Vec<usize> {
    let uses = |number: usize| {
        let text = (number + 1).to_string();
        tokens.iter().filter(|token| token.kind == TokenKind::Param && token.text == text).count()
    };
    let keys = |number: usize| found.key_params.iter().filter(move |(key, _)| *key == number);
    let mut shared: Vec<usize> = found.key_params.iter().map(|(number, _)| *number).collect();
    shared.sort_unstable();
    shared.dedup();
    shared.retain(|number| {
        let uses = uses(*number);
        let mut types = keys(*number).map(|(_, column)| (column.ty, column.oid));
        let first = types.next();
        uses > 1 && (keys(*number).count() != uses || types.any(|ty| Some(ty) != first))
    });
    shared
}
