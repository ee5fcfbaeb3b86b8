//! SELECT, INSERT, UPDATE, DELETE and VALUES of a sharded database: from the tree to a route.

use sqlparser::ast::{Query, SetExpr, Statement};

use super::found::Found;
use super::insert::Inserted;
use super::names::{self, FIRST, Relation};
use super::parse;
use super::query::{Seen, Walk};
use super::refuse::{not_proven, two_places};
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
}

impl Shape {
    fn refused(refusal: Refusal) -> Self {
        Self { route: Route::Refuse(refusal), read_only: false }
    }
}

pub(super) fn shape(topology: &Topology, tokens: &[Token], literals: &[Literal]) -> Shape {
    let spread = tokens.iter().any(|token| is_name(token) && names::is_spread(topology, &token.text));
    let found = parse::statement(tokens).map_err(not_proven).and_then(|statement| {
        misplaced(topology, tokens)?;
        of_tree(topology, &statement, tokens, literals)
    });
    match found {
        Ok(shape) => shape,
        Err(refusal) if spread => Shape::refused(refusal),
        // It names nothing that is spread: all its relations are on the first shard, or do not exist.
        Err(refusal) => unlisted(topology, tokens).unwrap_or_else(|| Shape::refused(refusal)),
    }
}

/// What is not understood, but names only relations of one shard. `None`: of several, or nobody knows.
fn unlisted(topology: &Topology, tokens: &[Token]) -> Option<Shape> {
    let elsewhere = |token: &Token| {
        let mut tables = topology.tables.iter().filter(|table| table.name == token.text);
        is_name(token) && tables.any(|table| table.placement != crate::topology::Placement::Single(FIRST))
    };
    (!tokens.iter().any(elsewhere)).then_some(Shape { route: Route::One(FIRST), read_only: false })
}

fn is_name(token: &Token) -> bool {
    matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
}

/// Where PostgreSQL reads FROM, JOIN, INTO, UPDATE, TABLE or ONLY, a relation's name follows; sqlparser must agree, and it
/// has other ideas for `t TABLE x`. Cheap, and independent of the tree.
fn misplaced(_topology: &Topology, tokens: &[Token]) -> Seen {
    let uescape = |token: &Token| token.kind == TokenKind::Word && token.text == "uescape";
    if tokens.iter().any(uescape) {
        return Err(not_proven("pgherd does not read UESCAPE."));
    }
    Ok(())
}

fn of_tree(
    topology: &Topology,
    statement: &Statement,
    tokens: &[Token],
    literals: &[Literal],
) -> Seen<Shape> {
    let mut walk = Walk::new(topology, literals);
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
                    let route = match walk.insert_sharded(insert, table, tokens)? {
                        Inserted::Values(route) => Route::Insert(route),
                        Inserted::Generate(route) => Route::Generate(Box::new(route)),
                    };
                    return Ok(Shape { route, read_only: false });
                }
                Relation::Reference(table) => {
                    walk.insert(insert, &mut names)?;
                    walk.insert_reference(insert, table)?;
                }
                Relation::On(_) | Relation::Derived | Relation::Ambiguous => {
                    walk.insert(insert, &mut names)?
                }
            }
        }
        _ => return Err(not_proven("pgherd does not understand this kind of statement.")),
    }
    route(walk.found, tokens)
}

/// A reference table written by WITH is written on one shard only.
fn inner_write_refused(query: &Query, found: &Found) -> Option<Refusal> {
    let plain = query.with.is_none()
        && !matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_));
    (found.reference_written && !plain)
        .then(|| not_proven("A reference table can be written by a statement of its own only."))
}

fn route(mut found: Found, tokens: &[Token]) -> Seen<Shape> {
    found.spread();
    let read_only = !found.writes;
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
        return Ok(Shape { route: Route::Copies { first_alone: true, moments: true }, read_only });
    }
    if found.pins.is_empty() {
        let route = match fixed {
            Some(shard) => Route::One(shard),
            None if found.relations == 0 && found.pure => Route::Any,
            // Locks on a reference table meet each other, and its writers, on the first shard.
            None if found.reference_read && !found.locks && found.against_copies.is_none() => Route::Any,
            None => Route::One(FIRST),
        };
        return Ok(Shape { route, read_only });
    }
    if found.sequences {
        return Err(not_proven("Sequences are not global yet: two shards would give the same number twice."));
    }
    if found.locks {
        return Err(not_proven(
            "A lock on one shard's copy of a reference table keeps nobody from another copy (use OF).",
        ));
    }
    let several = match (found.against_union, &found.pins[..], fixed) {
        (Some(reason), _, _) => Err(reason),
        (None, [_], None) => Ok(found.aggregates),
        (None, [_], Some(_)) => {
            Err("It joins a sharded table with a table that is on one shard only.".to_owned())
        }
        (None, _, _) => Err("It joins sharded tables, and their keys do not put it on one shard.".to_owned()),
    };
    let shared = shared(tokens, &found.key_params);
    Ok(Shape {
        route: Route::Pinned(Box::new(PinnedRoute { pins: found.pins, fixed, several, shared })),
        read_only,
    })
}

/// Parameters that stand in more than one place. Their type, when it is not declared, may come from another place.
fn shared(tokens: &[Token], keys: &[usize]) -> Vec<usize> {
    let uses = |number: usize| {
        let text = (number + 1).to_string();
        tokens.iter().filter(|token| token.kind == TokenKind::Param && token.text == text).count()
    };
    let mut shared: Vec<usize> = keys.iter().copied().filter(|number| uses(*number) > 1).collect();
    shared.sort_unstable();
    shared.dedup();
    shared
}
