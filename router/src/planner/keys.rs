//! What a condition says about keys.
//!
//! Invariant: a fact holds in every row for which the condition is true. What only looks like one (under NOT, under OR with
//! something else, of another query's column) is none. A fact that is missed costs a shard too many, never a row.
//!
//! Start reading at [`Walk::condition`].

use std::ops::Range;

use sqlparser::ast::{ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr};

use super::constant::{self, Constant, Source};
use super::found::{Atom, Node};
use super::level::certain_key;
use super::query::Walk;
use super::scope::Scope;
use crate::rule::order_is_bytes;

/// Each: what a key column can be. All of them hold.
type Facts = Vec<(Node, Vec<Atom>)>;

/// Values in one fact; a condition with more says nothing.
const ATOMS_MAX: usize = 65_536;

impl Walk<'_> {
    /// What the conjuncts of a condition say about keys. `right`: only these items, for an outer join's condition.
    pub fn condition(&mut self, expr: &Expr, names: &Scope<'_>, right: Option<Range<usize>>) {
        match expr {
            Expr::Nested(inner) => self.condition(inner, names, right),
            Expr::BinaryOp { left, op: BinaryOperator::And, right: other } => {
                self.condition(left, names, right.clone());
                self.condition(other, names, right);
            }
            _ => {
                self.filter(expr, names, &right);
                if let Expr::BinaryOp { left, op: BinaryOperator::Eq, right: other } = expr {
                    self.equal(left, other, names, &right);
                }
                for (node, atoms) in self.known(expr, names, &right) {
                    self.learn(node, atoms);
                }
            }
        }
    }

    /// Two key columns that are equal.
    fn equal(&mut self, left: &Expr, right: &Expr, names: &Scope<'_>, only: &Option<Range<usize>>) {
        match (left, right) {
            (Expr::Nested(left), right) | (right, Expr::Nested(left)) => {
                return self.equal(left, right, names, only);
            }
            (Expr::Tuple(left), Expr::Tuple(right)) if left.len() == right.len() => {
                for (left, right) in left.iter().zip(right) {
                    self.equal(left, right, names, only);
                }
                return;
            }
            _ => {}
        }
        let allowed = |item: usize| only.as_ref().is_none_or(|only| only.contains(&item));
        match (names.key(left), names.key(right)) {
            (Some((left, left_item)), Some((right, right_item))) => {
                if only.is_none() {
                    self.equals_key(left, right);
                }
                if allowed(right_item) {
                    self.implies(left, right);
                }
                if allowed(left_item) {
                    self.implies(right, left);
                }
            }
            // An outer query's row: its key is known where the outer condition says so.
            (Some((node, item)), None) if allowed(item) => {
                if let Some((outer, _)) = names.outer_key(right) {
                    self.implies(outer, node);
                    if only.is_none() {
                        self.equals_key(outer, node);
                    }
                }
            }
            (None, Some((node, item))) if allowed(item) => {
                if let Some((outer, _)) = names.outer_key(left) {
                    self.implies(outer, node);
                    if only.is_none() {
                        self.equals_key(outer, node);
                    }
                }
            }
            (Some(_) | None, None) | (None, Some(_)) => {}
        }
    }

    /// The rows meet only where their keys are equal: see `level`.
    fn equals_key(&mut self, left: Node, right: Node) {
        let types = self.found.column(left).zip(self.found.column(right));
        if types.is_some_and(|(left, right)| constant::same_family(left.ty, right.ty)) {
            self.edge(left, right);
        }
    }

    fn implies(&mut self, from: Node, to: Node) {
        let types = self.found.column(from).zip(self.found.column(to));
        if types.is_some_and(|(from, to)| constant::same_family(from.ty, to.ty)) {
            self.found.implications.push((from, to));
        }
    }

    fn known(&self, expr: &Expr, names: &Scope<'_>, only: &Option<Range<usize>>) -> Facts {
        let key = |expr: &Expr| {
            let (node, item) = names.key(expr)?;
            only.as_ref().is_none_or(|only| only.contains(&item)).then_some(node)
        };
        let constant = |expr: &Expr| constant::recognise(expr, self.literals);
        match expr {
            Expr::Nested(inner) => self.known(inner, names, only),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                let mut facts = self.known(left, names, only);
                for fact in self.known(right, names, only) {
                    and(&mut facts, fact);
                }
                facts
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                let left = self.known(left, names, only);
                if left.is_empty() { left } else { or(left, self.known(right, names, only)) }
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => self.equals(left, right, names, only),
            Expr::BinaryOp { left, op, right } => {
                let Some(compared) = Compared::of(op) else { return Facts::new() };
                // Of rows, the first column decides, unless it is equal.
                let (left, right, compared) = match (unnested(left), unnested(right)) {
                    (Expr::Tuple(left), Expr::Tuple(right)) if left.len() == right.len() => {
                        let (Some(left), Some(right)) = (left.first(), right.first()) else {
                            return Facts::new();
                        };
                        (left, right, compared.inclusive())
                    }
                    (left, right) => (left, right, compared),
                };
                match (key(left), key(right)) {
                    (Some(node), None) => constant(right)
                        .map(|constant| (node, vec![compared.atom(constant)]))
                        .into_iter()
                        .collect(),
                    (None, Some(node)) => constant(left)
                        .map(|constant| (node, vec![compared.turned().atom(constant)]))
                        .into_iter()
                        .collect(),
                    _ => Facts::new(),
                }
            }
            Expr::Between { expr, negated: false, low, high } => {
                let Some(node) = key(expr) else { return Facts::new() };
                let (low, high) = (constant(low), constant(high));
                if low.is_none() && high.is_none() {
                    return Facts::new();
                }
                let end = |constant: Option<Constant>| constant.map(|constant| (constant, true));
                vec![(node, vec![Atom::Between { low: end(low), high: end(high) }])]
            }
            Expr::InList { expr, list, negated: false } => match unnested(expr) {
                Expr::Tuple(columns) => {
                    let rows: Option<Vec<&Vec<Expr>>> = list
                        .iter()
                        .map(|row| match unnested(row) {
                            Expr::Tuple(row) if row.len() == columns.len() => Some(row),
                            _ => None,
                        })
                        .collect();
                    let Some(rows) = rows else { return Facts::new() };
                    let column = |(at, column): (usize, &Expr)| {
                        let node = key(column)?;
                        let values = rows.iter().map(|row| constant(&row[at]).map(Atom::Value));
                        Some((node, values.collect::<Option<Vec<_>>>()?))
                    };
                    columns.iter().enumerate().filter_map(column).collect()
                }
                expr => {
                    let Some(node) = key(expr) else { return Facts::new() };
                    let values: Option<Vec<_>> =
                        list.iter().map(|expr| constant(expr).map(Atom::Value)).collect();
                    values.map(|values| (node, values)).into_iter().collect()
                }
            },
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, is_some: _ } => {
                let Some(node) = key(left) else { return Facts::new() };
                self.elements(right).map(|atoms| (node, atoms)).into_iter().collect()
            }
            // Of a side that an outer join fills up, NULL says that there was no partner.
            Expr::IsNull(expr) if certain_key(names, expr).is_some() => {
                key(expr).map(|node| (node, vec![Atom::Null])).into_iter().collect()
            }
            Expr::IsNotDistinctFrom(left, right)
                if certain_key(names, left).or_else(|| certain_key(names, right)).is_some() =>
            {
                let side = match (key(left), key(right)) {
                    (Some(node), None) => constant(right).map(|constant| (node, constant)),
                    (None, Some(node)) => constant(left).map(|constant| (node, constant)),
                    _ => None,
                };
                side.map(|(node, constant)| (node, vec![Atom::Same(constant)])).into_iter().collect()
            }
            _ => Facts::new(),
        }
    }

    fn equals(&self, left: &Expr, right: &Expr, names: &Scope<'_>, only: &Option<Range<usize>>) -> Facts {
        let (left, right) = (unnested(left), unnested(right));
        if let (Expr::Tuple(left), Expr::Tuple(right)) = (left, right)
            && left.len() == right.len()
        {
            let columns = left.iter().zip(right);
            return columns.flat_map(|(left, right)| self.equals(left, right, names, only)).collect();
        }
        let (key, value) = match (names.key(left), names.key(right)) {
            (Some(key), None) => (key, right),
            (None, Some(key)) => (key, left),
            _ => return Facts::new(),
        };
        let (node, item) = key;
        if only.as_ref().is_some_and(|only| !only.contains(&item)) {
            return Facts::new();
        }
        match unnested(value) {
            Expr::AnyOp { .. } => Facts::new(),
            value => constant::recognise(value, self.literals)
                .map(|constant| (node, vec![Atom::Value(constant)]))
                .into_iter()
                .collect(),
        }
    }

    /// The elements of an array: ARRAY[...], '{...}', $1, each with or without a cast.
    fn elements(&self, array: &Expr) -> Option<Vec<Atom>> {
        let constant = |expr: &Expr| constant::recognise(expr, self.literals);
        let (array, cast) = match unnested(array) {
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None } => {
                let DataType::Array(ArrayElemTypeDef::SquareBracket(element, None)) = data_type else {
                    return None;
                };
                (unnested(expr), Some(constant::key_type(element)?))
            }
            array => (array, None),
        };
        match array {
            Expr::Array(array) if array.named => {
                let element = |expr: &Expr| {
                    let constant = constant(expr)?;
                    match (constant.cast, cast) {
                        (own, None) => Some(Atom::Value(Constant { cast: own, ..constant })),
                        (None, cast) => Some(Atom::Value(Constant { cast, ..constant })),
                        (Some(_), Some(_)) => None,
                    }
                };
                array.elem.iter().map(element).collect()
            }
            array => {
                let constant = constant(array)?;
                let whole = constant.cast.is_none()
                    && matches!(constant.source, Source::Literal { negative: false, .. } | Source::Param(_));
                whole.then(|| vec![Atom::Elements(Constant { cast, ..constant })])
            }
        }
    }

    fn learn(&mut self, node: Node, atoms: Vec<Atom>) {
        if atoms.len() > ATOMS_MAX {
            return;
        }
        let column = self.found.column(node);
        let constants = atoms.iter().flat_map(Atom::constants);
        let params = constants.filter_map(|constant| match constant.source {
            Source::Param(number) => Some((number, column?)),
            _ => None,
        });
        self.found.key_params.extend(params);
        self.found.learn(node, atoms);
    }
}

fn unnested(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

#[derive(Debug, Clone, Copy)]
struct Compared {
    below: bool,
    equal: bool,
}

impl Compared {
    fn of(op: &BinaryOperator) -> Option<Self> {
        let (below, equal) = match op {
            BinaryOperator::Lt => (true, false),
            BinaryOperator::LtEq => (true, true),
            BinaryOperator::Gt => (false, false),
            BinaryOperator::GtEq => (false, true),
            _ => return None,
        };
        Some(Self { below, equal })
    }

    fn inclusive(self) -> Self {
        Self { equal: true, ..self }
    }

    /// `1 < key` is `key > 1`.
    fn turned(self) -> Self {
        Self { below: !self.below, ..self }
    }

    fn atom(self, constant: Constant) -> Atom {
        let end = Some((constant, self.equal));
        if self.below {
            Atom::Between { low: None, high: end }
        } else {
            Atom::Between { low: end, high: None }
        }
    }
}

/// Adds a fact to others that hold, too. Two ends of one interval become one, so that OR finds it whole.
fn and(facts: &mut Facts, (node, mut atoms): (Node, Vec<Atom>)) {
    if let [Atom::Between { low, high }] = atoms.as_mut_slice() {
        for (other, known) in facts.iter_mut() {
            let [Atom::Between { low: known_low, high: known_high }] = known.as_mut_slice() else { continue };
            let apart = (low.is_none() || known_low.is_none()) && (high.is_none() || known_high.is_none());
            if *other == node && apart {
                *known_low = known_low.or(*low);
                *known_high = known_high.or(*high);
                return;
            }
        }
    }
    facts.push((node, atoms));
}

/// What holds when either side does: of columns that both of them know.
fn or(left: Facts, right: Facts) -> Facts {
    // Several facts about one column: the first that has only values, else the first.
    let best = |facts: Facts| {
        let mut best = Facts::new();
        for (node, atoms) in facts {
            match best.iter_mut().find(|(known, _)| *known == node) {
                None => best.push((node, atoms)),
                Some((_, known))
                    if known.iter().any(Atom::is_interval) && !atoms.iter().any(Atom::is_interval) =>
                {
                    *known = atoms;
                }
                Some(_) => {}
            }
        }
        best
    };
    let mut right = best(right);
    best(left)
        .into_iter()
        .filter_map(|(node, mut atoms)| {
            let at = right.iter().position(|(other, _)| *other == node)?;
            atoms.append(&mut right.swap_remove(at).1);
            Some((node, atoms))
        })
        .collect()
}

/// Whether what is known of one column's order holds for the other, if they are equal.
pub(super) fn same_order(left: constant::Column, right: constant::Column) -> bool {
    let known = |column: constant::Column| order_is_bytes(column.ty) || column.c_collation;
    known(left) && known(right)
}
