//! UPDATE, DELETE and INSERT, on their own or in WITH.

use sqlparser::ast::{
    Assignment, AssignmentTarget, ConflictTarget, Delete, Expr, FromTable, FunctionArg, FunctionArgExpr,
    FunctionArguments, Insert, ObjectNamePart, OnConflict, OnConflictAction, OnInsert, SelectItem,
    TableAlias, TableFactor, TableObject, TableWithJoins, Update, UpdateTableFromKind,
};

use super::behind::behind;
use super::insert::is_default;
use super::level::Level;
use super::names::{Relation, sharding};
use super::query::{Seen, Walk, unclear};
use super::refuse::{FIRST_SHARDS, key_update};
use super::scope::Scope;
use crate::topology::Event;

impl Walk<'_> {
    pub fn update(&mut self, update: &Update, names: &mut Scope<'_>) -> Seen {
        let Update {
            update_token: _,
            optimizer_hints,
            table,
            assignments,
            from,
            selection,
            returning,
            output: None,
            or: None,
            order_by,
            limit: None,
        } = update
        else {
            return unclear("a clause of UPDATE");
        };
        if !optimizer_hints.is_empty() || !order_by.is_empty() {
            return unclear("a clause of UPDATE");
        }
        self.levels.push(Level::default());
        let target = self.target(table, Event::Update, names)?;
        match from {
            None => {}
            Some(UpdateTableFromKind::AfterSet(from)) => {
                self.found.against_copies("UPDATE ... FROM would join each shard's rows by itself.");
                self.from(from, names)?;
            }
            Some(UpdateTableFromKind::BeforeSet(_)) => return unclear("UPDATE FROM"),
        }
        self.assignments(assignments, target, names)?;
        if let Some(condition) = selection {
            self.expression(condition, names)?;
            self.condition(condition, names, None);
        }
        self.returning(returning.as_deref(), names)?;
        self.written_rows(names);
        Ok(())
    }

    /// The end of an UPDATE or DELETE: its rows meet those that it names besides.
    fn written_rows(&mut self, names: &Scope<'_>) {
        // Copies alone would be joined with all of a table that is spread.
        let target_spread = names.items.first().is_some_and(|item| item.sharded.is_some());
        let spread = names.items.iter().any(|item| item.sharded.is_some());
        self.stand(names);
        if spread && !target_spread {
            self.whole("It would join each shard's rows by itself.");
        }
        let level = self.levels.pop().unwrap_or_default();
        if let Some(reason) = level.whole.or(level.aggregates) {
            self.found.against_union(reason);
        }
    }

    pub fn delete(&mut self, delete: &Delete, names: &mut Scope<'_>) -> Seen {
        let Delete {
            delete_token: _,
            optimizer_hints,
            tables,
            from: FromTable::WithFromKeyword(from),
            using,
            selection,
            returning,
            output: None,
            order_by,
            limit: None,
        } = delete
        else {
            return unclear("a clause of DELETE");
        };
        if !optimizer_hints.is_empty() || !tables.is_empty() || !order_by.is_empty() {
            return unclear("a clause of DELETE");
        }
        let [table] = from.as_slice() else { return unclear("DELETE from several tables") };
        self.levels.push(Level::default());
        self.target(table, Event::Delete, names)?;
        if let Some(using) = using {
            self.from(using, names)?;
        }
        if let Some(condition) = selection {
            self.expression(condition, names)?;
            self.condition(condition, names, None);
        }
        self.returning(returning.as_deref(), names)?;
        self.written_rows(names);
        Ok(())
    }

    /// INSERT into a table that is not sharded. (Into a sharded one: see `insert`.)
    pub fn insert(&mut self, insert: &Insert, names: &mut Scope<'_>) -> Seen {
        let parts = InsertParts::of(insert)?;
        self.found.writes = true;
        self.found.against_gather("It writes.");
        let target = match self.relation(parts.table, None)? {
            Relation::Sharded(_) => return unclear("INSERT into a sharded table inside another statement"),
            Relation::Reference(table) => {
                self.behind(table, Event::Insert)?;
                self.found.reference_written = true;
                Some(table)
            }
            Relation::On(_) | Relation::Derived | Relation::Ambiguous => None,
        };
        if let Some(source) = &insert.source {
            let rows = self.query(source, Some(names))?;
            if let (true, Some(reason)) = (rows.sharded, rows.whole) {
                self.found.against_union(reason);
            }
        }
        self.conflict(insert.on.as_ref(), target, names)?;
        self.returning(insert.returning.as_deref(), names)
    }

    pub fn conflict(&mut self, on: Option<&OnInsert>, target: Option<usize>, names: &Scope<'_>) -> Seen {
        match on {
            None => Ok(()),
            Some(OnInsert::OnConflict(OnConflict { conflict_target, action })) => {
                match conflict_target {
                    None | Some(ConflictTarget::Columns(_) | ConflictTarget::OnConstraint(_)) => {}
                }
                match action {
                    OnConflictAction::DoNothing => Ok(()),
                    OnConflictAction::DoUpdate(update) => {
                        target.map_or(Ok(()), |table| self.behind(table, Event::Update))?;
                        self.assignments(&update.assignments, target, names)?;
                        self.expressions(update.selection.iter(), names)
                    }
                }
            }
            // ON DUPLICATE KEY, and what sqlparser may learn later (its enum is not exhaustive).
            Some(_) => unclear("a clause of INSERT"),
        }
    }

    pub fn returning(&mut self, returning: Option<&[SelectItem]>, names: &Scope<'_>) -> Seen {
        match returning {
            None => Ok(()),
            // RETURNING count(*) is an error of PostgreSQL's: never a combination.
            Some(items) => self.projection(items, names),
        }
    }

    /// The table that is written. `Some`: it is sharded, or a reference table.
    fn target(&mut self, table: &TableWithJoins, event: Event, names: &mut Scope<'_>) -> Seen<Option<usize>> {
        self.found.writes = true;
        self.found.against_gather("It writes.");
        let TableWithJoins { relation, joins } = table;
        let TableFactor::Table { name, alias, args: None, sample: None, .. } = relation else {
            return unclear("the table to write");
        };
        if !joins.is_empty() {
            return unclear("the table to write");
        }
        let written = self.relation(name, None)?;
        let read_before = self.found.reference_read;
        self.item(name, written, alias.as_ref(), names)?;
        match written {
            Relation::Sharded(table) => {
                self.behind(table, event)?;
                Ok(Some(table))
            }
            Relation::Reference(table) => {
                self.behind(table, event)?;
                self.found.reference_read = read_before;
                self.found.reference_written = true;
                Ok(Some(table))
            }
            Relation::On(_) | Relation::Derived | Relation::Ambiguous => Ok(None),
        }
    }

    /// What else the statement would do to the table, unseen.
    pub fn behind(&mut self, table: usize, event: Event) -> Seen {
        if let Some(reason) = behind(self.topology, table, event)? {
            // Rows are pulled by each shard's own reading of a policy, too.
            self.found.against_gather(reason.clone());
            self.found.against_both(reason);
        }
        Ok(())
    }

    /// SET: a key never moves.
    fn assignments(&mut self, assignments: &[Assignment], target: Option<usize>, names: &Scope<'_>) -> Seen {
        for Assignment { target: assigned, value } in assignments {
            let columns = match assigned {
                AssignmentTarget::ColumnName(column) => std::slice::from_ref(column),
                AssignmentTarget::Tuple(columns) => columns.as_slice(),
            };
            for column in columns {
                // The column comes first: what follows is a field of it.
                let Some(ObjectNamePart::Identifier(column)) = column.0.first() else {
                    return unclear("SET");
                };
                let Some(table) = target else { continue };
                if sharding(self.topology, table).is_some_and(|(_, key)| key.contains(&column.value)) {
                    return Err(key_update(&column.value, &self.topology.tables[table].name));
                }
                if has_default(value) {
                    self.default_assigned(table, &column.value);
                }
            }
            self.expression(value, names)?;
        }
        Ok(())
    }
}

/// DEFAULT, or ROW(..., DEFAULT, ...): then any of the columns may get it.
fn has_default(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(expr) => has_default(expr),
        Expr::Tuple(list) => list.iter().any(is_default),
        Expr::Function(function) => match &function.args {
            FunctionArguments::List(list) => list.args.iter().any(|argument| {
                matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if is_default(expr))
            }),
            FunctionArguments::None | FunctionArguments::Subquery(_) => false,
        },
        expr => is_default(expr),
    }
}

impl Walk<'_> {
    /// SET column = DEFAULT
    fn default_assigned(&mut self, table: usize, column: &str) {
        let facts = self.topology.facts.tables.get(&table);
        let facts = facts.and_then(|facts| facts.columns.iter().find(|facts| facts.name == column));
        match facts {
            Some(facts) if facts.from_sequence => {
                self.found.sequences = true;
                self.found.draws = true;
                self.found.against_both(FIRST_SHARDS);
            }
            Some(facts) if !facts.default_not_immutable => {}
            Some(_) | None => {
                self.found.against_both(format!(
                    "Each shard would evaluate the default of column \"{column}\" by itself."
                ));
            }
        }
    }
}

/// An INSERT without what only other databases have.
pub(super) struct InsertParts<'a> {
    pub table: &'a sqlparser::ast::ObjectName,
    /// Column names as written; empty: all.
    pub columns: Vec<&'a str>,
    pub alias: Option<TableAlias>,
}

impl<'a> InsertParts<'a> {
    pub fn of(insert: &'a Insert) -> Seen<Self> {
        let Insert {
            insert_token: _,
            optimizer_hints,
            or: None,
            ignore: false,
            into: true,
            table: TableObject::TableName(table),
            table_alias,
            columns,
            overwrite: false,
            source: _,
            assignments,
            partitioned: None,
            after_columns,
            has_table_keyword: false,
            on: _,
            returning: _,
            output: None,
            replace_into: false,
            priority: None,
            insert_alias: None,
            settings: None,
            format_clause: None,
            multi_table_insert_type: None,
            multi_table_into_clauses,
            multi_table_when_clauses,
            multi_table_else_clause: None,
        } = insert
        else {
            return unclear("a clause of INSERT");
        };
        let foreign = !optimizer_hints.is_empty()
            || !assignments.is_empty()
            || !after_columns.is_empty()
            || !multi_table_into_clauses.is_empty()
            || !multi_table_when_clauses.is_empty();
        if foreign {
            return unclear("a clause of INSERT");
        }
        let mut names = Vec::with_capacity(columns.len());
        for column in columns {
            match column.0.as_slice() {
                [ObjectNamePart::Identifier(name)] => names.push(name.value.as_str()),
                // A field of a composite column, or a table's name before it, which PostgreSQL does not allow.
                _ => return unclear("a column of INSERT"),
            }
        }
        let alias = table_alias.as_ref().map(|alias| TableAlias {
            explicit: alias.explicit,
            name: alias.alias.clone(),
            columns: Vec::new(),
            at: None,
        });
        Ok(Self { table, columns: names, alias })
    }
}
