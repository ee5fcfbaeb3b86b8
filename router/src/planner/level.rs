//! Whether the rows of a query are where its tables' rows are: what may be computed on each shard by itself.
//!
//! Every level of a query (a SELECT with its FROM) is judged by itself. Its sharded tables *meet* when their keys are compared for
//! equality wherever their rows meet: then each row of the join is made on one shard, of rows of that shard alone, and the rows
//! of the level are the union of what the shards make. Groups, DISTINCT and windows that contain the key do not reach over a
//! shard either, and a subquery whose tables meet a table around it sees everything that it would see on one server.
//!
//! Invariants:
//! - an equality counts only for the level whose condition it is: under NOT EXISTS it says nothing about the level around it;
//! - of an outer join only equalities between its two sides count, and a key of a side that may be filled up with NULLs is no key
//!   of the rows.

use std::ops::Range;

use sqlparser::ast::{BinaryOperator, Expr, Ident, JoinConstraint, SelectItem, Value};

use super::constant::same_family;
use super::found::Node;
use super::merge::Sorted;
use super::query::Walk;
use super::scope::Scope;
use crate::lexer::TokenKind;
use crate::plan::LiteralKind;

/// One SELECT (or UPDATE, DELETE) under way.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// Key columns that are equal wherever their rows meet.
    pub edges: Vec<(Node, Node)>,
    /// Why it needs the rows of all shards at once: the first reason.
    pub whole: Option<String>,
    /// There is an aggregate of its own.
    pub aggregates: Option<String>,
    /// Windows by name, and whether they contain the key.
    pub windows: Vec<(String, bool)>,
}

/// What a query gives to whatever stands around it.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// It reads sharded tables.
    pub sharded: bool,
    /// One of them, whose key says where each row is. `None` with `sharded`: none does.
    pub pin: Option<usize>,
    /// Where the key's columns are among the output; as many as the key has, or none.
    pub key: Vec<Export>,
    /// All output names; `None`: not known.
    pub columns: Option<Vec<String>>,
    /// How the columns are compared, as far as it is known.
    pub kinds: Vec<Sorted>,
    /// Why the union of what the shards give is not what it gives.
    pub whole: Option<String>,
    /// Why it gives other rows each time it is asked.
    pub arbitrary: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Export {
    pub name: Option<String>,
    pub position: Option<usize>,
}

/// What an outer join keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    Left,
    Right,
    Both,
}

pub(super) const JOINED: &str = "It joins sharded tables, and their keys do not put it on one shard.";

impl Rows {
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.whole.get_or_insert_with(|| reason.into());
        self
    }

    fn exports_all(&self) -> bool {
        !self.key.is_empty() && self.key.iter().all(|export| export.position.is_some())
    }
}

impl Walk<'_> {
    pub fn level(&mut self) -> Option<&mut Level> {
        self.levels.last_mut()
    }

    /// The level under way needs the rows of all shards at once.
    pub fn whole(&mut self, reason: impl Into<String>) {
        match self.levels.last_mut() {
            Some(level) => {
                level.whole.get_or_insert_with(|| reason.into());
            }
            None => self.found.against_union(reason),
        }
    }

    pub fn edge(&mut self, left: Node, right: Node) {
        if let Some(level) = self.levels.last_mut() {
            level.edges.push((left, right));
        }
    }

    /// Nodes that the level's conditions make equal to this one.
    fn reach(&self, from: Node) -> Vec<Node> {
        let mut reached = vec![from];
        let edges = self.levels.last().map_or(&[][..], |level| level.edges.as_slice());
        let mut next = 0;
        while let Some(node) = reached.get(next).copied() {
            next += 1;
            for (a, b) in edges {
                for (from, to) in [(a, b), (b, a)] {
                    if *from == node && !reached.contains(to) {
                        reached.push(*to);
                    }
                }
            }
        }
        reached
    }

    /// Their rows meet on one shard only.
    pub fn meet(&self, left: usize, right: usize) -> bool {
        if left == right {
            return true;
        }
        let (Some(a), Some(b)) = (self.found.pins.get(left), self.found.pins.get(right)) else {
            return false;
        };
        a.distribution == b.distribution
            && !a.columns.is_empty()
            && (0..a.columns.len()).all(|column| self.reach((left, column)).contains(&(right, column)))
    }

    /// The sharded items of a range: one that stands for all, if all of them meet. `Ok(None)`: there is none.
    pub fn together(&self, names: &Scope<'_>, range: Range<usize>) -> Result<Option<usize>, String> {
        let items = || names.items[range.clone()].iter();
        let pins = || items().filter_map(|item| item.sharded.as_ref().map(|(pin, _)| *pin));
        let certain = items().filter(|item| !item.nullable);
        let first = certain.filter_map(|item| item.sharded.as_ref().map(|(pin, _)| *pin)).next();
        let Some(first) = first.or_else(|| pins().next()) else { return Ok(None) };
        match pins().all(|pin| self.meet(first, pin)) {
            true => Ok(Some(first)),
            false => Err(JOINED.to_owned()),
        }
    }

    /// An outer join of items: may it be done on each shard by itself?
    pub fn outer_join(
        &mut self,
        names: &mut Scope<'_>,
        left: Range<usize>,
        right: Range<usize>,
        constraint: &JoinConstraint,
        keeps: Keeps,
    ) {
        if let JoinConstraint::On(expr) = constraint {
            for (a, a_item, b, b_item) in equalities(self, expr, names) {
                let across = left.contains(&a_item) && right.contains(&b_item)
                    || left.contains(&b_item) && right.contains(&a_item);
                if across {
                    self.edge(a, b);
                }
            }
        }
        let good = match (self.together(names, left.clone()), self.together(names, right.clone())) {
            (Ok(None), Ok(None)) => true,
            (Ok(Some(_)), Ok(None)) => keeps == Keeps::Left,
            (Ok(None), Ok(Some(_))) => keeps == Keeps::Right,
            (Ok(Some(a)), Ok(Some(b))) => self.meet(a, b),
            (Err(_), _) | (_, Err(_)) => false,
        };
        if !good {
            self.whole("An outer join would miss partners on other shards, and add rows without a partner.");
        }
        let filled = match keeps {
            Keeps::Left => right,
            Keeps::Right => left,
            Keeps::Both => left.start..right.end,
        };
        for item in &mut names.items[filled] {
            item.nullable = true;
        }
    }

    /// The expressions contain the key of the level's rows.
    pub fn covers<'e>(
        &self,
        pin: usize,
        mut expressions: impl Iterator<Item = &'e Expr> + Clone,
        names: &Scope<'_>,
    ) -> bool {
        let Some(found) = self.found.pins.get(pin) else { return false };
        !found.columns.is_empty()
            && (0..found.columns.len()).all(|column| {
                let equal = self.reach((pin, column));
                expressions
                    .clone()
                    .any(|expr| certain_key(names, expr).is_some_and(|node| equal.contains(&node)))
            })
            && expressions.next().is_some()
    }

    /// What DISTINCT ON means: a name is an output's first, as in ORDER BY, and a column's only then (PostgreSQL,
    /// findTargetlistEntrySQL92).
    pub fn meant_first<'e>(
        &mut self,
        expr: &'e Expr,
        outputs: &'e [SelectItem],
        names: &Scope<'_>,
    ) -> &'e Expr {
        let Expr::Identifier(name) = expr else { return self.meant(expr, outputs, names) };
        let named = outputs.iter().find_map(|output| match output {
            SelectItem::ExprWithAlias { expr, alias } if alias.value == name.value => Some(expr),
            SelectItem::UnnamedExpr(expr) if last_name(expr).is_some_and(|own| own == name.value) => {
                Some(expr)
            }
            _ => None,
        });
        // A cast, a CASE or a call may have this name, too: whatever it is, it is no key.
        let unnamed = || {
            outputs.iter().find_map(|output| match output {
                SelectItem::UnnamedExpr(expr) if last_name(expr).is_none() => Some(expr),
                _ => None,
            })
        };
        let named = named.or_else(unnamed);
        named.unwrap_or_else(|| self.meant(expr, outputs, names))
    }

    /// What GROUP BY means by a number or an output name, and DISTINCT ON by a number.
    pub fn meant<'e>(&mut self, expr: &'e Expr, outputs: &'e [SelectItem], names: &Scope<'_>) -> &'e Expr {
        match expr {
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => {
                let at = super::parse::offset(value.span);
                let literal = TokenKind::Literal(LiteralKind::Integer);
                let Some(token) =
                    self.tokens.iter().find(|token| token.at.start == at && token.kind == literal)
                else {
                    return expr;
                };
                // The number is part of what the statement means.
                self.found.positional = true;
                let number = token.text.parse::<usize>().unwrap_or(0);
                match outputs.get(number.wrapping_sub(1)) {
                    Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. })
                        if outputs[..number].iter().all(is_expression) =>
                    {
                        expr
                    }
                    _ => expr,
                }
            }
            Expr::Identifier(name) if names.certainly_lacks(&name.value) => {
                let mut found = None;
                for output in outputs {
                    if let SelectItem::ExprWithAlias { expr, alias } = output
                        && alias.value == name.value
                        && found.replace(expr).is_some()
                    {
                        return expr;
                    }
                }
                found.unwrap_or(expr)
            }
            _ => expr,
        }
    }

    /// Where the key of the level's rows is among its outputs.
    pub fn exports(&self, pin: usize, outputs: &[SelectItem], names: &Scope<'_>) -> Vec<Export> {
        let Some(found) = self.found.pins.get(pin) else { return Vec::new() };
        (0..found.columns.len())
            .map(|column| {
                let equal = self.reach((pin, column));
                let mut counted = true;
                for (position, output) in outputs.iter().enumerate() {
                    let (expr, name) = match output {
                        SelectItem::UnnamedExpr(expr) => (expr, last_name(expr)),
                        SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone())),
                        SelectItem::Wildcard(_) => {
                            counted = false;
                            let star = |item: &super::scope::Item| -> Option<String> {
                                if item.nullable {
                                    return None;
                                }
                                let (pin, key) = item.sharded.as_ref()?;
                                let at =
                                    key.iter().enumerate().find(|(at, _)| equal.contains(&(*pin, *at)))?.1;
                                Some(at.clone())
                            };
                            // Of a join, a name could be two columns'.
                            if names.items.len() == 1
                                && let Some(name) = star(&names.items[0])
                            {
                                return Export { name: Some(name), position: None };
                            }
                            continue;
                        }
                        SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
                            counted = false;
                            continue;
                        }
                    };
                    if certain_key(names, expr).is_some_and(|node| equal.contains(&node)) {
                        return Export { name, position: counted.then_some(position) };
                    }
                }
                Export::default()
            })
            .collect()
    }

    /// UNION, INTERSECT, EXCEPT. `kept`: UNION ALL.
    pub fn united(&mut self, left: Rows, right: Rows, kept: bool) -> Rows {
        let whole = left.whole.clone().or_else(|| right.whole.clone());
        let arbitrary = left.arbitrary.clone().or_else(|| right.arbitrary.clone());
        let sharded = left.sharded || right.sharded;
        let mut rows = Rows { sharded, columns: left.columns.clone(), whole, arbitrary, ..Rows::default() };
        // Of two types that differ the rows have a third.
        rows.kinds = left
            .kinds
            .iter()
            .zip(&right.kinds)
            .map(|(a, b)| if a == b { *a } else { Sorted::Unknown })
            .collect();
        if !sharded {
            return rows;
        }
        let mut aligned = false;
        if let (Some(a), Some(b)) = (left.pin, right.pin)
            && let (Some(one), Some(other)) = (self.found.pins.get(a), self.found.pins.get(b))
        {
            let mut types = one.columns.iter().zip(&other.columns);
            let same = one.distribution == other.distribution
                && types.all(|(a, b)| same_family(a.column.ty, b.column.ty));
            aligned = same
                && left.exports_all()
                && right.exports_all()
                && left.key.iter().zip(&right.key).all(|(a, b)| a.position == b.position);
            // Rows of its own: what one side meets the other need not.
            let own = self.found.again(a);
            let met = |pin: usize| {
                let mut found = self.anchors.iter().filter(move |(own, _)| *own == pin);
                found.next().map(|(_, outer)| *outer)
            };
            if let (Some(outer), Some(_)) = (met(a), met(b)) {
                self.anchors.push((own, outer));
            }
            rows.pin = Some(own);
        }
        let pins = rows.pin.is_some();
        match (aligned, kept && pins) {
            (true, _) => rows.key = left.key,
            (false, true) => {}
            (false, false) => {
                rows = rows.because("UNION, INTERSECT and EXCEPT would be computed on each shard by itself.");
            }
        }
        rows
    }
}

fn is_expression(item: &SelectItem) -> bool {
    matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
}

/// A key column of rows that are never filled up with NULLs.
pub(super) fn certain_key(names: &Scope<'_>, expr: &Expr) -> Option<Node> {
    let (node, item) = names.key(expr)?;
    (!names.items[item].nullable).then_some(node)
}

fn last_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|name: &Ident| name.value.clone()),
        Expr::Nested(inner) => last_name(inner),
        _ => None,
    }
}

/// Equalities between keys that hold wherever the condition holds, with their items.
fn equalities(walk: &Walk<'_>, expr: &Expr, names: &Scope<'_>) -> Vec<(Node, usize, Node, usize)> {
    let mut found = Vec::new();
    let mut left = vec![expr];
    while let Some(expr) = left.pop() {
        match expr {
            Expr::Nested(inner) => left.push(inner),
            Expr::BinaryOp { left: a, op: BinaryOperator::And, right: b } => left.extend([&**a, &**b]),
            Expr::BinaryOp { left: a, op: BinaryOperator::Eq, right: b } => {
                let (Some((a, a_item)), Some((b, b_item))) = (names.key(a), names.key(b)) else { continue };
                let families = walk.found.column(a).zip(walk.found.column(b));
                if families.is_some_and(|(a, b)| same_family(a.ty, b.ty)) {
                    found.push((a, a_item, b, b_item));
                }
            }
            _ => {}
        }
    }
    found
}
