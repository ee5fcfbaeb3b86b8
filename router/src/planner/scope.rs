//! Which relation a column name belongs to: a query's FROM items, its WITH names, and the queries around it.
//!
//! Invariant: a column is taken for a key only when no other relation in reach could have it.

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
}

impl<'a> Scope<'a> {
    pub fn inside(outer: Option<&'a Scope<'a>>) -> Self {
        Self { outer, items: Vec::new(), ctes: Vec::new() }
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

    fn bare(&self, name: &Ident) -> Option<(Node, usize)> {
        let mut found = None;
        for (number, item) in self.items.iter().enumerate() {
            let known = match &item.columns {
                Some(columns) => columns.contains(&name.value),
                // Alone in FROM it has the column, or PostgreSQL says that nobody has.
                None if self.items.len() == 1 => true,
                None => return None,
            };
            if known {
                if found.is_some() {
                    return None;
                }
                found = Some(number);
            }
        }
        let number = found?;
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
