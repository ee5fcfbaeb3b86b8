//! Which relation a column name belongs to: a query's FROM items, its WITH names, and the queries around it.
//!
//! Invariant: a column is taken for a key only when no other relation in reach could have it.

use std::ops::Range;

use sqlparser::ast::{Expr, Ident};

use super::found::Node;

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
}

#[derive(Debug)]
pub(super) struct Scope<'a> {
    outer: Option<&'a Scope<'a>>,
    pub items: Vec<Item>,
    pub ctes: Vec<String>,
    /// Columns of USING and NATURAL: a bare name means the column of this item; `None`: of nobody we know.
    merged: Vec<(String, Option<usize>)>,
    /// There is a NATURAL JOIN.
    pub natural: bool,
}

impl<'a> Scope<'a> {
    pub fn inside(outer: Option<&'a Scope<'a>>) -> Self {
        Self { outer, items: Vec::new(), ctes: Vec::new(), merged: Vec::new(), natural: false }
    }

    pub fn has_cte(&self, name: &str) -> bool {
        self.ctes.iter().any(|cte| cte == name) || self.outer.is_some_and(|outer| outer.has_cte(name))
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
