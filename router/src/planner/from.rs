//! FROM items and joins: relations enter the scope, conditions of joins say what they may.

use std::ops::Range;

use sqlparser::ast::{
    FunctionArg, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableWithJoins,
};

use super::constant::same_family;
use super::level::{Keeps, Rows};
use super::names::{self, Relation, sharding};
use super::query::{Seen, Walk, qualified, unclear};
use super::scope::{Item, Scope};
use crate::topology::Event;

/// Whose rows a join's condition decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Inner joins.
    Both,
    /// Left joins: rows of the left side stay, whatever it says.
    Right,
    /// Right and full joins. (Of a right join it would be the left side, but nobody writes them.)
    Neither,
}

impl Walk<'_> {
    pub fn from(&mut self, from: &[TableWithJoins], names: &mut Scope<'_>) -> Seen {
        from.iter().try_for_each(|tree| self.joined(tree, names))
    }

    fn joined(&mut self, tree: &TableWithJoins, names: &mut Scope<'_>) -> Seen {
        let start = names.items.len();
        self.factor(&tree.relation, names)?;
        for Join { relation, global, join_operator } in &tree.joins {
            if *global {
                return unclear("GLOBAL JOIN");
            }
            let middle = names.items.len();
            self.factor(relation, names)?;
            match join_operator {
                // Its condition holds for every row that is left: it may say something about both sides.
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::CrossJoin(constraint) => {
                    let (left, right) = (start..middle, middle..names.items.len());
                    self.constraint(constraint, names, left, right, Side::Both)?;
                    if let JoinConstraint::On(expr) = constraint {
                        self.condition(expr, names, None);
                    }
                }
                // Rows of the right side that fail the condition do not matter; rows of the left side stay.
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                    let (left, right) = (start..middle, middle..names.items.len());
                    self.constraint(constraint, names, left.clone(), right.clone(), Side::Right)?;
                    if let JoinConstraint::On(expr) = constraint {
                        self.condition(expr, names, Some(right.clone()));
                    }
                    self.outer_join(names, left, right, constraint, Keeps::Left);
                }
                JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                    let (left, right) = (start..middle, middle..names.items.len());
                    self.constraint(constraint, names, left.clone(), right.clone(), Side::Neither)?;
                    self.outer_join(names, left, right, constraint, Keeps::Right);
                }
                JoinOperator::FullOuter(constraint) => {
                    let (left, right) = (start..middle, middle..names.items.len());
                    self.constraint(constraint, names, left.clone(), right.clone(), Side::Neither)?;
                    self.outer_join(names, left, right, constraint, Keeps::Both);
                }
                JoinOperator::Semi(_)
                | JoinOperator::LeftSemi(_)
                | JoinOperator::RightSemi(_)
                | JoinOperator::Anti(_)
                | JoinOperator::LeftAnti(_)
                | JoinOperator::RightAnti(_)
                | JoinOperator::CrossApply
                | JoinOperator::OuterApply
                | JoinOperator::AsOf { .. }
                | JoinOperator::StraightJoin(_)
                | JoinOperator::ArrayJoin
                | JoinOperator::LeftArrayJoin
                | JoinOperator::InnerArrayJoin => return unclear("a join"),
            }
        }
        Ok(())
    }

    /// USING says of keys what the same condition in ON would say. `binds`: the side whose rows must fulfil it.
    fn constraint(
        &mut self,
        constraint: &JoinConstraint,
        names: &mut Scope<'_>,
        left: Range<usize>,
        right: Range<usize>,
        binds: Side,
    ) -> Seen {
        match constraint {
            JoinConstraint::On(expr) => self.expression(expr, names),
            JoinConstraint::Using(columns) => {
                for column in columns {
                    let (None, column) = qualified(column)? else { return unclear("USING") };
                    let merged = names.merge(column, left.clone(), right.clone(), binds != Side::Neither);
                    let Some((left, right)) = merged else { continue };
                    let types = self.found.column(left).zip(self.found.column(right));
                    if !types.is_some_and(|(left, right)| same_family(left.ty, right.ty)) {
                        continue;
                    }
                    self.edge(left, right);
                    if binds != Side::Neither {
                        self.found.implications.push((left, right));
                    }
                    if binds == Side::Both {
                        self.found.implications.push((right, left));
                    }
                }
                Ok(())
            }
            // Which columns it merges depends on tables that may not be known: no bare name is a key any more.
            JoinConstraint::Natural => {
                self.found.all_columns = true;
                names.natural = true;
                Ok(())
            }
            JoinConstraint::None => Ok(()),
        }
    }

    fn factor(&mut self, factor: &TableFactor, names: &mut Scope<'_>) -> Seen {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version: None,
                with_ordinality,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } => {
                if !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty() {
                    return unclear("what follows a table's name");
                }
                match args {
                    Some(args) if args.settings.is_none() => {
                        self.table_function(name, &args.args, names)?;
                        self.unnamed(alias.as_ref(), names, name)
                    }
                    Some(_) => unclear("a function in FROM"),
                    None if *with_ordinality => unclear("WITH ORDINALITY"),
                    None => self.table(name, alias.as_ref(), names),
                }
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality: _, alias } => {
                self.table_function(name, args, names)?;
                self.unnamed(alias.as_ref(), names, name)
            }
            TableFactor::Derived { lateral, subquery, alias, sample: None } => {
                let apart = (!lateral).then(|| names.without_items());
                let (rows, anchor) = self.inside(subquery, apart.as_ref().unwrap_or(names))?;
                self.derived(rows, anchor, alias.as_ref(), "", names)
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality: _,
            } => {
                self.expressions(array_exprs.iter(), names)?;
                self.unnamed(alias.as_ref(), names, &ObjectName(Vec::new()))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joined(table_with_joins, names),
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { .. } => {
                unclear("TABLESAMPLE")
            }
            TableFactor::Table { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::UnpivotExpr { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => unclear("an item of FROM"),
        }
    }

    /// A function in FROM: the same rows on every shard, like those of a reference table.
    fn table_function(&mut self, name: &ObjectName, args: &[FunctionArg], names: &Scope<'_>) -> Seen {
        self.found.relations += 1;
        let before = self.found.against_copies.take();
        self.arguments(args, names)?;
        if let Some(reason) = std::mem::replace(&mut self.found.against_copies, before) {
            // Its rows would not be the same on every shard.
            self.found.against_copies(reason.clone());
            self.whole(reason);
        }
        let (schema, name) = qualified(name)?;
        let kind = match schema {
            None | Some("pg_catalog") => names::function(self.topology, name),
            Some(_) => names::Function::Unknown,
        };
        match kind {
            names::Function::Pure => {}
            names::Function::PerServer => {
                self.found.tie(format!("Each shard would evaluate {name} by itself."));
            }
            names::Function::Aggregate
            | names::Function::PerRow
            | names::Function::Sequence
            | names::Function::Unknown => {
                self.found.writes = true;
                self.found.sequences |= kind == names::Function::Sequence;
                self.found
                    .tie(format!("pgherd does not know whether {name}(...) may run on several shards."));
            }
        }
        Ok(())
    }

    /// An item whose columns are not known. `name`: what it is called without an alias.
    fn unnamed(&mut self, alias: Option<&TableAlias>, names: &mut Scope<'_>, name: &ObjectName) -> Seen {
        let own = qualified(name).map_or("", |(_, name)| name);
        let called = match alias {
            Some(alias) => self.alias(alias, None)?,
            None => own.to_owned(),
        };
        names.items.push(Item {
            name: called,
            schema: None,
            sharded: None,
            reference: false,
            columns: None,
            table: None,
            kinds: Vec::new(),
            nullable: false,
        });
        Ok(())
    }

    /// A query in FROM, or a WITH query. `anchor`: the table around it that its own meet.
    fn derived(
        &mut self,
        rows: Rows,
        anchor: Option<usize>,
        alias: Option<&TableAlias>,
        own: &str,
        names: &mut Scope<'_>,
    ) -> Seen {
        if rows.sharded {
            if let (Some(reason), None) = (&rows.whole, anchor) {
                self.whole(reason.clone());
            }
        } else if let Some(reason) = &rows.arbitrary {
            self.whole(reason.clone());
        }
        let (called, renamed) = match alias {
            Some(alias) => (self.alias(alias, Some(own))?, !alias.columns.is_empty()),
            None => (own.to_owned(), false),
        };
        let mut key: Vec<String> =
            rows.key.iter().map(|export| export.name.clone().unwrap_or_default()).collect();
        if renamed || rows.whole.is_some() || rows.columns.is_none() && names.natural {
            key.clear();
        }
        if let (Some(pin), Some(around)) = (rows.pin, anchor) {
            // LATERAL: its rows are beside those of its neighbour.
            let columns = self.found.pins.get(pin).map_or(0, |pin| pin.columns.len());
            for column in 0..columns {
                self.edge((pin, column), (around, column));
            }
        }
        names.items.push(Item {
            name: called,
            schema: None,
            sharded: rows.pin.map(|pin| (pin, key)),
            reference: false,
            columns: rows.columns.filter(|_| !renamed),
            table: None,
            kinds: rows.kinds,
            nullable: false,
        });
        Ok(())
    }

    /// A mention of a WITH query: rows of its own.
    fn mention(&mut self, rows: &Rows) -> Rows {
        let mut rows = rows.clone();
        if let Some(pin) = rows.pin {
            let own = self.found.again(pin);
            rows.pin = Some(own);
        }
        rows
    }

    /// A table's alias. `table`: the name it stands for.
    fn alias(&self, alias: &TableAlias, table: Option<&str>) -> Seen<String> {
        let TableAlias { explicit, name, columns: _, at: None } = alias else {
            return unclear("an alias");
        };
        // sqlparser takes some words for a table that are keywords to PostgreSQL; then the table's name looks like an alias. (Behind AS it
        // is one: that of a view's query.)
        if !explicit && table != Some(&name.value) && names::is_spread(self.topology, &name.value) {
            return unclear("an alias that is the name of a sharded or reference table");
        }
        Ok(name.value.clone())
    }

    fn table(&mut self, name: &ObjectName, alias: Option<&TableAlias>, names: &mut Scope<'_>) -> Seen {
        let relation = self.relation(name, Some(names))?;
        if let (None, own) = qualified(name)?
            && let Some(rows) = names.cte(own)
        {
            let Some(rows) = rows.cloned() else {
                self.whole("A WITH query would be computed on each shard by itself.");
                return self.unnamed(alias, names, name);
            };
            let rows = self.mention(&rows);
            return self.derived(rows, None, alias, own, names);
        }
        if let Relation::Sharded(table) | Relation::Reference(table) = relation {
            self.behind(table, Event::Read)?;
        }
        self.item(name, relation, alias, names)?;
        if let (Relation::Sharded(table), Some(item)) = (relation, names.items.last()) {
            self.site(name, table, alias, item);
        }
        Ok(())
    }

    /// Adds a table to the scope.
    pub fn item(
        &mut self,
        name: &ObjectName,
        relation: Relation,
        alias: Option<&TableAlias>,
        names: &mut Scope<'_>,
    ) -> Seen {
        let (schema, own) = qualified(name)?;
        let (called, renamed) = match alias {
            Some(alias) => (self.alias(alias, Some(own))?, !alias.columns.is_empty()),
            None => (own.to_owned(), false),
        };
        let mut item = Item {
            name: called,
            schema: schema.filter(|_| alias.is_none()).map(str::to_owned),
            sharded: None,
            reference: matches!(relation, Relation::Reference(_)),
            columns: None,
            table: None,
            kinds: Vec::new(),
            nullable: false,
        };
        let facts = |table: usize| {
            let facts = self.topology.facts.tables.get(&table)?;
            Some(facts.columns.iter().map(|column| column.name.clone()).collect())
        };
        match relation {
            Relation::Sharded(table) => {
                let pin = self.found.pin(self.topology, table);
                let mut key = sharding(self.topology, table).map_or_else(Vec::new, |(_, key)| key.to_vec());
                // With renamed columns, the key's name may be another column's. Nondeterministic collations call values
                // equal that are not: their key is never known.
                if renamed || self.equal_is_not_same(table) {
                    key.clear();
                }
                item.sharded = Some((pin, key));
                item.columns = facts(table);
                item.table = Some(table);
            }
            Relation::Reference(table) => {
                self.found.reference_read = true;
                item.columns = facts(table);
                item.table = Some(table);
            }
            Relation::On(_) | Relation::Derived | Relation::Ambiguous => {}
        }
        if renamed {
            item.columns = None;
            item.table = None;
        }
        names.items.push(item);
        Ok(())
    }

    pub fn equal_is_not_same(&self, table: usize) -> bool {
        let (Some((_, key)), Some(facts)) =
            (sharding(self.topology, table), self.topology.facts.tables.get(&table))
        else {
            return false;
        };
        facts.columns.iter().any(|column| column.nondeterministic_collation && key.contains(&column.name))
    }
}
