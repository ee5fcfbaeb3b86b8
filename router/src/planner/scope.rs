//! Which relation a column name belongs to: a query's FROM items, its WITH names, and the queries around it.
//!
//! Invariant: a column is taken for a key only when no other relation in reach could have it.

use std::ops::Range;

use sqlparser::ast::{Expr, Ident};

use super::found::Node;
use super::level::Rows;
use super::merge::Sorted;
use crate::topology::Topology;

/// One item of FROM (or the target of UPDATE, DELETE).
#[derive(Debug)]
pub(super) struct Item {
    /// Its alias, or its own name.
    pub name: String,
    /// Its schema as written; `None` with an alias.
    pub schema: Option<String>,
    /// A sharded table: its pin, and its key columns by name.
    pub sharded: Option<(usize, Vec<String>)>,
    pub reference: bool,
    /// All its columns; `None`: not known.
    pub columns: Option<Vec<String>>,
    /// Index into the topology's tables: whose facts its columns have.
    pub table: Option<usize>,
    /// How its columns are compared, where they are no table's.
    pub kinds: Vec<Sorted>,
    /// An outer join fills it up with NULLs.
    pub nullable: bool,
}

#[derive(Debug)]
pub(super) struct Scope<'a> {
    outer: Option<&'a Scope<'a>>,
    pub items: Vec<Item>,
    /// WITH queries by name, and what they give; `None`: not understood as rows.
    pub ctes: Vec<(String, Option<Rows>)>,
    /// Columns of USING and NATURAL: a bare name means the column of this item; `None`: of nobody we know.
    merged: Vec<(String, Option<usize>)>,
    /// There is a NATURAL JOIN.
    pub natural: bool,
}

impl<'a> Scope<'a> {
    pub fn inside(outer: Option<&'a Scope<'a>>) -> Self {
        Self { outer, items: Vec::new(), ctes: Vec::new(), merged: Vec::new(), natural: false }
    }

    /// A WITH query in reach. Outer `None`: there is none of that name.
    #[allow(clippy::option_option)]
    pub fn cte(&self, name: &str) -> Option<Option<&Rows>> {
        match self.ctes.iter().rfind(|(cte, _)| cte == name) {
            Some((_, rows)) => Some(rows.as_ref()),
            None => self.outer?.cte(name),
        }
    }

    pub fn has_cte(&self, name: &str) -> bool {
        self.cte(name).is_some()
    }

    /// For a query in FROM that is not LATERAL: it sees what is around this query, and its WITH queries, but not its neighbours.
    pub fn without_items(&self) -> Scope<'a> {
        Scope { ctes: self.ctes.clone(), ..Scope::inside(self.outer) }
    }

    /// Sharded tables of this query and of those around it.
    pub fn pins(&self) -> Vec<usize> {
        let mut found: Vec<usize> =
            self.items.iter().filter_map(|item| item.sharded.as_ref().map(|(pin, _)| *pin)).collect();
        found.extend(self.outer_pins());
        found
    }

    pub fn outer_pins(&self) -> Vec<usize> {
        self.outer.map_or_else(Vec::new, Scope::pins)
    }

    /// No item of this query has the column.
    pub fn certainly_lacks(&self, column: &str) -> bool {
        let lacks = |item: &Item| {
            item.columns.as_ref().is_some_and(|columns| columns.iter().all(|name| name != column))
        };
        self.items.iter().all(lacks)
    }

    /// An item of this query has the column, by whatever other names it may be known.
    pub fn certainly_has(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Identifier(name) => {
                let has =
                    |item: &Item| item.columns.as_ref().is_some_and(|columns| columns.contains(&name.value));
                self.items.iter().any(has)
            }
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [.., item, _] => self.items.iter().any(|candidate| candidate.name == item.value),
                _ => false,
            },
            _ => false,
        }
    }

    /// How a column of this query's own is compared, where its item is no table.
    pub fn kind(&self, expr: &Expr) -> Option<Sorted> {
        let (item, name) = match expr {
            Expr::Identifier(name) if !self.natural => (self.only(&name.value, 0..self.items.len())?, name),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [item, name] => {
                    let mut matching =
                        self.items.iter().enumerate().filter(|(_, found)| found.name == item.value);
                    let found = matching.next()?.0;
                    if matching.next().is_some() {
                        return None;
                    }
                    (found, name)
                }
                _ => return None,
            },
            _ => return None,
        };
        let item = &self.items[item];
        let columns = item.columns.as_ref().filter(|columns| columns.len() == item.kinds.len())?;
        item.kinds.get(columns.iter().position(|column| *column == name.value)?).copied()
    }

    /// The table and the number of a plain column of this query's own.
    pub fn fact(&self, topology: &Topology, expr: &Expr) -> Option<(usize, usize)> {
        let item = match expr {
            Expr::Nested(inner) => return self.fact(topology, inner),
            Expr::Identifier(name) if !self.natural => self.only(&name.value, 0..self.items.len())?,
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [name, _] => {
                    let mut matching =
                        self.items.iter().enumerate().filter(|(_, item)| item.name == name.value);
                    let found = matching.next()?.0;
                    if matching.next().is_some() {
                        return None;
                    }
                    found
                }
                _ => return None,
            },
            _ => return None,
        };
        let name = match expr {
            Expr::Identifier(name) => name,
            Expr::CompoundIdentifier(parts) => parts.last()?,
            _ => return None,
        };
        let item = &self.items[item];
        let table = item.table?;
        item.columns.as_ref()?;
        let facts = topology.facts.tables.get(&table)?;
        let column = facts.columns.iter().position(|column| column.name == name.value)?;
        Some((table, column))
    }

    /// A key column of this query's own items: its node, and the item's number.
    pub fn key(&self, expr: &Expr) -> Option<(Node, usize)> {
        match expr {
            Expr::Nested(inner) => self.key(inner),
            Expr::Identifier(name) => self.bare(name),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [item, column] => self.named(None, item, column)?,
                [schema, item, column] => self.named(Some(schema), item, column)?,
                _ => None,
            },
            _ => None,
        }
    }

    /// A column of this query's own items, whichever it is: the item's number, and its name.
    pub fn column<'e>(&self, expr: &'e Expr) -> Option<(usize, &'e str)> {
        match expr {
            Expr::Nested(inner) => self.column(inner),
            Expr::Identifier(name) => {
                if self.natural || self.merged.iter().any(|(merged, _)| *merged == name.value) {
                    return None;
                }
                let number = self.only(&name.value, 0..self.items.len())?;
                Some((number, name.value.as_str()))
            }
            Expr::CompoundIdentifier(parts) => {
                let [item, column] = parts.as_slice() else { return None };
                let mut matching =
                    self.items.iter().enumerate().filter(|(_, candidate)| candidate.name == item.value);
                let (number, _) = matching.next()?;
                matching.next().is_none().then_some((number, column.value.as_str()))
            }
            _ => None,
        }
    }

    /// A key column of a query around this one. Only with the item's name: a bare name could be an inner column.
    pub fn outer_key(&self, expr: &Expr) -> Option<(Node, usize)> {
        let Expr::CompoundIdentifier(parts) = expr else { return None };
        let [item, column] = parts.as_slice() else { return None };
        let mut scope = self;
        loop {
            // An item of that name in a nearer query hides the farther ones.
            if scope.items.iter().any(|candidate| candidate.name == item.value) {
                return if std::ptr::eq(scope, self) { None } else { scope.named(None, item, column)? };
            }
            scope = scope.outer?;
        }
    }

    /// USING (column), of items that are in `left` and in `right`. The nodes, where both are keys.
    pub fn merge(
        &mut self,
        column: &str,
        left: Range<usize>,
        right: Range<usize>,
        inner: bool,
    ) -> Option<(Node, Node)> {
        let before = self.merged.iter().rposition(|(name, _)| name == column);
        let theirs = match before {
            Some(merged) => self.merged[merged].1.filter(|item| left.contains(item)),
            None => self.only(column, left),
        };
        let ours = self.only(column, right);
        let nodes = theirs.zip(ours).and_then(|(theirs, ours)| {
            Some((self.items[theirs].node(column)?, self.items[ours].node(column)?))
        });
        // Of a right or full join, the merged column is another.
        self.merged.push((column.to_owned(), theirs.filter(|_| inner)));
        nodes
    }

    /// The only one of these items that has the column.
    fn only(&self, column: &str, items: Range<usize>) -> Option<usize> {
        let alone = items.len() == 1;
        let mut found = None;
        for number in items {
            let has = match &self.items[number].columns {
                Some(columns) => columns.iter().any(|name| name == column),
                None if alone => true,
                None => return None,
            };
            if has && found.replace(number).is_some() {
                return None;
            }
        }
        found
    }

    fn bare(&self, name: &Ident) -> Option<(Node, usize)> {
        if self.natural {
            return None;
        }
        if let Some((_, item)) = self.merged.iter().rfind(|(merged, _)| *merged == name.value) {
            let number = (*item)?;
            return Some((self.items[number].node(&name.value)?, number));
        }
        // Alone in FROM it has the column, or PostgreSQL says that nobody has.
        let number = self.only(&name.value, 0..self.items.len())?;
        Some((self.items[number].node(&name.value)?, number))
    }

    /// Outer `None`: no or several items of that name. Inner `None`: not a key column.
    #[allow(clippy::option_option)]
    fn named(&self, schema: Option<&Ident>, name: &Ident, column: &Ident) -> Option<Option<(Node, usize)>> {
        let fits = |item: &Item| {
            item.name == name.value
                && schema.is_none_or(|schema| item.schema.as_deref() == Some(schema.value.as_str()))
        };
        let mut matching = self.items.iter().enumerate().filter(|(_, item)| fits(item));
        let (number, item) = matching.next()?;
        if matching.next().is_some() {
            return None;
        }
        Some(item.node(&column.value).map(|node| (node, number)))
    }
}

impl Item {
    fn node(&self, column: &str) -> Option<Node> {
        let (pin, key) = self.sharded.as_ref()?;
        Some((*pin, key.iter().position(|name| name == column)?))
    }
}
