//! A view over sharded tables in FROM: its query takes the place of its name, and the text is planned again.
//!
//! Invariants:
//! - What the query of a view means does not depend on who asks, but for privileges: the facts have none over tables with row
//!   security, and each has its names in full.
//! - A name that might be anything else than an item of FROM (a WITH query, a column, a whole row) is left alone, and the statement
//!   is refused as before.

use std::ops::Range;

use super::reader::Reader;
use crate::lexer::{Token, TokenKind, tokens};
use crate::topology::{Topology, ViewFacts};

/// Views of views.
const DEPTH_MAX: usize = 8;

const BYTES_MAX: usize = 1 << 20;

/// A statement names a view whose query is known.
pub(super) fn named(topology: &Topology, tokens: &[Token]) -> bool {
    !topology.facts.views.is_empty()
        && tokens.iter().any(|token| is_name(token) && topology.facts.views.contains_key(&token.text))
}

/// The statement with the queries of its views. `None`: some name of a view stands where it may be something else.
pub(super) fn expanded(topology: &Topology, sql: &str) -> Option<String> {
    let mut sql = sql.to_owned();
    for _ in 0..DEPTH_MAX {
        let all = tokens(&sql);
        let sites = sites(topology, &all)?;
        if sites.is_empty() {
            return Some(sql);
        }
        sql = spliced(&sql, &all, &sites)?;
        if sql.len() > BYTES_MAX {
            return None;
        }
    }
    None
}

struct Site {
    /// Its name, with its schema.
    at: Range<usize>,
    called: String,
    aliased: bool,
}

/// Where views stand in FROM. `None`: one of their names stands somewhere else.
fn sites<'t>(topology: &'t Topology, all: &[Token]) -> Option<Vec<(Site, &'t ViewFacts)>> {
    let mut sites: Vec<(Site, &ViewFacts)> = Vec::new();
    for (index, token) in all.iter().enumerate() {
        let view = topology.facts.views.get(&token.text).filter(|_| is_name(token));
        let Some(view) = view else { continue };
        if symbol(all, index + 1, ".") {
            // A qualifier of one of its columns, or a schema of that name: looked at below.
            continue;
        }
        if word(all, index.wrapping_sub(1), "as") {
            // An alias, perhaps of its own query.
            continue;
        }
        let mut begin = index;
        if index >= 2 && symbol(all, index - 1, ".") {
            if all[index - 2].text != view.schema {
                // A column of that name, or another schema's relation.
                continue;
            }
            begin = index - 2;
        }
        if !stands_in_from(all, begin) {
            return None;
        }
        let next = index + 1;
        let alias = if word(all, next, "as") { next + 1 } else { next };
        let named = all.get(alias).filter(|token| {
            token.kind == TokenKind::Quoted
                || Reader::new(&all[alias..]).savepoint().is_some() && is_name(token)
        });
        let called = named.map_or(&token.text, |alias| &alias.text).clone();
        sites.push((Site { at: begin..index + 1, called, aliased: named.is_some() }, view));
    }
    // A whole row has the view's own type.
    let whole_row = |called: &str| {
        all.iter().enumerate().any(|(index, token)| {
            let placed = sites.iter().any(|(site, _)| site.at.contains(&index));
            let names_it = placed || word(all, index.wrapping_sub(1), "as");
            let alias = sites.iter().any(|(site, _)| site.at.end == index);
            let part = symbol(all, index + 1, ".") || index > 0 && symbol(all, index - 1, ".");
            is_name(token) && token.text == called && !names_it && !alias && !part
        })
    };
    if sites.iter().any(|(site, _)| whole_row(&site.called)) {
        return None;
    }
    Some(sites)
}

fn spliced(sql: &str, all: &[Token], sites: &[(Site, &ViewFacts)]) -> Option<String> {
    let (mut text, mut copied) = (String::with_capacity(sql.len() + 256), 0);
    for (site, view) in sites {
        let (first, last) = (all.get(site.at.start)?, all.get(site.at.end - 1)?);
        text.push_str(sql.get(copied..first.at.start as usize)?);
        text.push('(');
        text.push_str(&view.text);
        text.push(')');
        if !site.aliased {
            text.push_str(&format!(" AS \"{}\"", site.called.replace('"', "\"\"")));
        }
        copied = last.at.end as usize;
    }
    text.push_str(sql.get(copied..)?);
    Some(text)
}

/// FROM name, JOIN name, FROM ..., name
fn stands_in_from(all: &[Token], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return false };
    if word(all, before, "join") {
        return in_query(all, before);
    }
    if word(all, before, "from") {
        return !word(all, before.wrapping_sub(1), "distinct") && in_query(all, before);
    }
    if !symbol(all, before, ",") {
        return false;
    }
    // Back to the clause that the comma is of.
    let mut closed = 0;
    for index in (0..before).rev() {
        match (all[index].kind, all[index].text.as_str()) {
            (TokenKind::Punctuation, ")") => closed += 1,
            (TokenKind::Punctuation, "(") if closed == 0 => return false,
            (TokenKind::Punctuation, "(") => closed -= 1,
            (TokenKind::Word, "from") if closed == 0 => {
                return !word(all, index.wrapping_sub(1), "distinct") && in_query(all, index);
            }
            (
                TokenKind::Word,
                "select" | "where" | "by" | "having" | "window" | "limit" | "offset" | "with" | "values"
                | "using" | "returning" | "set",
            ) if closed == 0 => return false,
            _ => {}
        }
    }
    false
}

/// What stands at the same depth is a query, not the arguments of extract(... FROM ...).
fn in_query(all: &[Token], at: usize) -> bool {
    let mut closed = 0;
    for index in (0..at).rev() {
        match (all[index].kind, all[index].text.as_str()) {
            (TokenKind::Punctuation, ")") => closed += 1,
            (TokenKind::Punctuation, "(") if closed == 0 => {
                return word(all, index + 1, "select") || word(all, index + 1, "with");
            }
            (TokenKind::Punctuation, "(") => closed -= 1,
            _ => {}
        }
    }
    true
}

fn is_name(token: &Token) -> bool {
    matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
}

fn word(all: &[Token], index: usize, text: &str) -> bool {
    all.get(index).is_some_and(|token| token.kind == TokenKind::Word && token.text == text)
}

fn symbol(all: &[Token], index: usize, text: &str) -> bool {
    all.get(index).is_some_and(|token| token.kind == TokenKind::Punctuation && token.text == text)
}
