//! A look at every node of a statement's tree.
//!
//! Invariant: a node that is not positively understood is an error (`Unclear`), and so refuses any statement that names a
//! sharded or reference table. Nothing is skipped: what a struct of sqlparser gains in a new version does not compile
//! here until somebody has thought about it, or is named in the list of things PostgreSQL does not have.
//!
//! Start reading at [`Walk::query`].

use sqlparser::ast::{
    AccessExpr, Distinct, Expr, Fetch, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, GroupByExpr, Ident, LimitClause, LockClause, NamedWindowExpr, ObjectName,
    ObjectNamePart, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement, Subscript, Value, WildcardAdditionalOptions,
    WindowFrameBound, WindowSpec, WindowType, With,
};
use sqlparser::ast::{BinaryOperator, CeilFloorKind, DataType, DuplicateTreatment, Function, UnaryOperator};

use super::found::Found;
use super::names::{self, Relation};
use super::refuse::{not_proven, view};
use super::scope::{Item, Scope};
use crate::plan::{Aggregate, Literal};
use crate::refusal::Refusal;
use crate::topology::Topology;

pub(super) type Seen<T = ()> = Result<T, Refusal>;

/// Nested queries; the parser's own limit is tighter.
const NESTING_MAX: usize = 100;

pub(super) struct Walk<'a> {
    pub topology: &'a Topology,
    pub literals: &'a [Literal],
    pub found: Found,
    pub nesting: usize,
    /// How many aggregates make sense at this point: those of a plain `SELECT count(*), sum(x)`.
    combined: bool,
}

pub(super) fn unclear<T>(what: &str) -> Seen<T> {
    Err(not_proven(format!("pgherd does not understand {what}.")))
}

impl<'a> Walk<'a> {
    pub fn new(topology: &'a Topology, literals: &'a [Literal]) -> Self {
        Self { topology, literals, found: Found::new(), nesting: 0, combined: false }
    }

    /// A query at any depth. Everything that needs rows of more than one shard at once speaks against a union.
    pub fn query(&mut self, query: &Query, outer: Option<&Scope<'_>>) -> Seen {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators,
        } = query
        else {
            return unclear("a clause after the query");
        };
        if !pipe_operators.is_empty() {
            return unclear("|>");
        }
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return unclear("queries nested that deep");
        }
        let mut names = Scope::inside(outer);
        if let Some(with) = with {
            self.with(with, &mut names)?;
        }
        if let Some(order_by) = order_by {
            // The rows of a VALUES or set operation are ordered by output columns, those of a SELECT by its own, too.
            self.found.against_union("Its rows would have to be sorted again (ORDER BY).");
            self.order_by_kind(order_by)?;
        }
        match limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                self.found.against_both("LIMIT and OFFSET would count the rows of each shard by itself.");
                self.expressions(limit.iter(), &names)?;
                self.expressions(offset.iter().map(|offset| &offset.value), &names)?;
            }
            Some(_) => return unclear("LIMIT"),
        }
        if let Some(Fetch { with_ties: _, percent: false, quantity }) = fetch {
            self.found.against_both("FETCH FIRST would count the rows of each shard by itself.");
            self.expressions(quantity.iter(), &names)?;
        } else if fetch.is_some() {
            return unclear("FETCH");
        }
        let ordered = match order_by.as_ref().map(|order_by| &order_by.kind) {
            Some(OrderByKind::Expressions(expressions)) => expressions.as_slice(),
            Some(OrderByKind::All(_)) | None => &[],
        };
        self.body(body, &mut names, ordered, locks)?;
        self.nesting -= 1;
        Ok(())
    }

    fn order_by_kind(&mut self, order_by: &OrderBy) -> Seen {
        match (&order_by.kind, &order_by.interpolate) {
            (OrderByKind::Expressions(_), None) => Ok(()),
            (OrderByKind::Expressions(_), Some(_)) | (OrderByKind::All(_), _) => unclear("ORDER BY"),
        }
    }

    fn with(&mut self, with: &With, names: &mut Scope<'_>) -> Seen {
        self.found.against_both("A WITH query would be computed on each shard by itself.");
        if with.recursive {
            names.ctes.extend(with.cte_tables.iter().map(|cte| cte.alias.name.value.clone()));
        }
        for cte in &with.cte_tables {
            if cte.from.is_some() || cte.alias.columns.iter().any(|column| column.data_type.is_some()) {
                return unclear("a WITH query");
            }
            let inside = Scope::inside(Some(names));
            self.query(&cte.query, Some(&inside))?;
            if !with.recursive {
                names.ctes.push(cte.alias.name.value.clone());
            }
        }
        Ok(())
    }

    fn body(
        &mut self,
        body: &SetExpr,
        names: &mut Scope<'_>,
        order_by: &[OrderByExpr],
        locks: &[LockClause],
    ) -> Seen {
        match body {
            SetExpr::Select(select) => self.select(select, names, order_by, locks),
            SetExpr::Query(query) => {
                self.order(order_by, names)?;
                self.found.against_union("A query in parentheses is not taken apart.");
                self.query(query, Some(names))
            }
            SetExpr::SetOperation { left, op: _, set_quantifier: _, right } => {
                self.found
                    .against_both("UNION, INTERSECT and EXCEPT would be computed on each shard by itself.");
                self.order(order_by, names)?;
                for side in [left, right] {
                    let mut inside = Scope::inside(Some(names));
                    self.body(side, &mut inside, &[], locks)?;
                }
                Ok(())
            }
            SetExpr::Values(values) => {
                self.found.against_union("VALUES would give its rows once for each shard.");
                self.order(order_by, names)?;
                values.rows.iter().try_for_each(|row| self.expressions(row.iter(), names))
            }
            SetExpr::Insert(Statement::Insert(insert)) => self.insert(insert, names),
            SetExpr::Update(Statement::Update(update)) => self.update(update, names),
            SetExpr::Delete(Statement::Delete(delete)) => self.delete(delete, names),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) => unclear("a statement in WITH"),
            SetExpr::Merge(_) => unclear("MERGE"),
            SetExpr::Table(_) => unclear("TABLE inside a query"),
        }
    }

    fn select(
        &mut self,
        select: &Select,
        names: &mut Scope<'_>,
        order: &[OrderByExpr],
        locks: &[LockClause],
    ) -> Seen {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers: None,
            top: None,
            top_before_distinct: false,
            projection,
            exclude: None,
            into,
            from,
            lateral_views,
            prewhere: None,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify: None,
            window_before_qualify: false,
            value_table_mode: None,
            flavor: SelectFlavor::Standard,
        } = select
        else {
            return unclear("a clause of SELECT");
        };
        let foreign = !optimizer_hints.is_empty()
            || !lateral_views.is_empty()
            || !connect_by.is_empty()
            || !cluster_by.is_empty()
            || !distribute_by.is_empty()
            || !sort_by.is_empty();
        if foreign {
            return unclear("a clause of SELECT");
        }
        if into.is_some() {
            return unclear("SELECT INTO");
        }
        self.from(from, names)?;
        self.locks(locks, names)?;
        if let Some(condition) = selection {
            self.expression(condition, names)?;
            self.condition(condition, names, None);
        }
        self.projection(projection, names, distinct.is_none() && having.is_none())?;
        match distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::Distinct) => {
                self.found.against_union("DISTINCT would compare the rows of each shard only.")
            }
            Some(Distinct::On(expressions)) => {
                self.found.against_both("DISTINCT ON would compare the rows of each shard only.");
                self.expressions(expressions.iter(), names)?;
            }
        }
        match group_by {
            GroupByExpr::Expressions(expressions, modifiers) if modifiers.is_empty() => {
                if !expressions.is_empty() {
                    self.found
                        .against_union("Groups would have to be combined from several shards (GROUP BY).");
                }
                self.expressions(expressions.iter(), names)?;
            }
            GroupByExpr::Expressions(..) | GroupByExpr::All(_) => return unclear("GROUP BY"),
        }
        if let Some(having) = having {
            self.found.against_union("HAVING would see each shard's rows only.");
            self.expression(having, names)?;
        }
        for window in named_window {
            self.found.against_both("A window function would see each shard's rows only.");
            match &window.1 {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(spec) => self.window(spec, names)?,
            }
        }
        self.order(order, names)
    }

    /// FOR UPDATE and its kin. A lock on one copy of a reference table keeps nobody from another copy.
    fn locks(&mut self, locks: &[LockClause], names: &Scope<'_>) -> Seen {
        for lock in locks {
            self.found.writes = true;
            self.found
                .against_gather("Rows pulled from other shards cannot be locked (FOR UPDATE, FOR SHARE).");
            let locked = |item: &&Item| match &lock.of {
                None => true,
                Some(of) => of.0.last().is_some_and(
                    |part| matches!(part, ObjectNamePart::Identifier(name) if name.value == item.name),
                ),
            };
            if names.items.iter().filter(locked).any(|item| item.reference) {
                self.found.locks = true;
            }
        }
        Ok(())
    }

    pub fn projection(&mut self, items: &[SelectItem], names: &Scope<'_>, plain: bool) -> Seen {
        let simple: Vec<Option<Aggregate>> = items.iter().map(simple_aggregate).collect();
        // SELECT count(*), sum(x): one row from each shard, if nothing else is selected.
        let all = plain && self.nesting == 1 && !items.is_empty() && simple.iter().all(Option::is_some);
        if all {
            self.found.aggregates = Some(simple.into_iter().flatten().collect());
        }
        for item in items {
            self.combined = all;
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => {
                    self.expression(expr, names)?;
                }
                SelectItem::ExprWithAliases { .. } => return unclear("several aliases for one expression"),
                SelectItem::Wildcard(options) => {
                    self.found.all_columns = true;
                    plain_wildcard(options)?;
                }
                SelectItem::QualifiedWildcard(kind, options) => {
                    self.found.all_columns = true;
                    plain_wildcard(options)?;
                    match kind {
                        SelectItemQualifiedWildcardKind::ObjectName(name) if name.0.len() > 1 => {
                            self.schema_and_column();
                        }
                        SelectItemQualifiedWildcardKind::ObjectName(_) => {}
                        SelectItemQualifiedWildcardKind::Expr(expr) => self.expression(expr, names)?,
                    }
                }
            }
            self.combined = false;
        }
        Ok(())
    }

    fn order(&mut self, order: &[OrderByExpr], names: &Scope<'_>) -> Seen {
        for OrderByExpr { expr, options: _, with_fill } in order {
            if with_fill.is_some() {
                return unclear("ORDER BY");
            }
            self.expression(expr, names)?;
        }
        Ok(())
    }

    fn window(&mut self, spec: &WindowSpec, names: &Scope<'_>) -> Seen {
        let WindowSpec { window_name: _, partition_by, order_by, window_frame } = spec;
        self.expressions(partition_by.iter(), names)?;
        self.order(order_by, names)?;
        if let Some(frame) = window_frame {
            for bound in std::iter::once(&frame.start_bound).chain(&frame.end_bound) {
                match bound {
                    WindowFrameBound::CurrentRow => {}
                    WindowFrameBound::Preceding(expr) | WindowFrameBound::Following(expr) => {
                        self.expressions(expr.iter().map(|expr| &**expr), names)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A query inside an expression or FROM.
    pub fn subquery(&mut self, query: &Query, names: &Scope<'_>) -> Seen {
        self.found.against_union("A query inside it would see each shard's rows only.");
        self.query(query, Some(names))
    }

    pub fn expressions<'e>(&mut self, list: impl Iterator<Item = &'e Expr>, names: &Scope<'_>) -> Seen {
        for expr in list {
            self.expression(expr, names)?;
        }
        Ok(())
    }

    pub fn expression(&mut self, expr: &Expr, names: &Scope<'_>) -> Seen {
        let combined = std::mem::take(&mut self.combined);
        match expr {
            Expr::Identifier(name) => {
                self.column(name);
                Ok(())
            }
            Expr::CompoundIdentifier(parts) => {
                self.found.pure = false;
                if parts.len() > 2 {
                    self.schema_and_column();
                }
                if let Some(name) = parts.last() {
                    self.system_column(name);
                }
                Ok(())
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expression(root, names)?;
                for access in access_chain {
                    match access {
                        AccessExpr::Dot(expr) => self.expression(expr, names)?,
                        AccessExpr::Subscript(Subscript::Index { index }) => self.expression(index, names)?,
                        AccessExpr::Subscript(Subscript::Slice {
                            lower_bound,
                            upper_bound,
                            stride: None,
                        }) => {
                            self.expressions(lower_bound.iter().chain(upper_bound), names)?;
                        }
                        AccessExpr::Subscript(Subscript::Slice { .. }) => return unclear("a subscript"),
                    }
                }
                Ok(())
            }
            Expr::IsFalse(expr)
            | Expr::IsNotFalse(expr)
            | Expr::IsTrue(expr)
            | Expr::IsNotTrue(expr)
            | Expr::IsNull(expr)
            | Expr::IsNotNull(expr)
            | Expr::IsUnknown(expr)
            | Expr::IsNotUnknown(expr)
            | Expr::Nested(expr)
            | Expr::IsNormalized { expr, form: _, negated: _ }
            | Expr::IsJson { expr, kind: _, unique_keys: _, negated: _ }
            | Expr::Extract { field: _, syntax: _, expr }
            | Expr::Collate { expr, collation: _ } => self.expression(expr, names),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                self.expressions([&**left, &**right].into_iter(), names)
            }
            Expr::InList { expr, list, negated: _ } => {
                self.expression(expr, names)?;
                self.expressions(list.iter(), names)
            }
            Expr::InSubquery { expr, subquery, negated: _ } => {
                self.expression(expr, names)?;
                self.subquery(subquery, names)
            }
            Expr::Exists { subquery, negated: _ } | Expr::Subquery(subquery) => {
                self.subquery(subquery, names)
            }
            Expr::Between { expr, negated: _, low, high } => {
                self.expressions([&**expr, &**low, &**high].into_iter(), names)
            }
            Expr::BinaryOp { left, op, right } => {
                self.operator(op);
                self.expressions([&**left, &**right].into_iter(), names)
            }
            Expr::Like { negated: _, any: false, expr, pattern, escape_char }
            | Expr::ILike { negated: _, any: false, expr, pattern, escape_char }
            | Expr::SimilarTo { negated: _, expr, pattern, escape_char } => {
                self.expressions([&**expr, &**pattern].into_iter(), names)?;
                self.expressions(escape_char.iter().map(|expr| &**expr), names)
            }
            Expr::AnyOp { left, compare_op, right, is_some: _ } | Expr::AllOp { left, compare_op, right } => {
                self.operator(compare_op);
                self.expressions([&**left, &**right].into_iter(), names)
            }
            Expr::UnaryOp { op, expr } => {
                match op {
                    UnaryOperator::Plus
                    | UnaryOperator::Minus
                    | UnaryOperator::Not
                    | UnaryOperator::BitwiseNot => {}
                    UnaryOperator::PGAbs | UnaryOperator::PGSquareRoot | UnaryOperator::PGCubeRoot => {}
                    _ => self.unknown_operator(),
                }
                self.expression(expr, names)
            }
            Expr::Cast { kind: _, expr, data_type, format: None } => {
                self.data_type(data_type);
                self.expression(expr, names)
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                self.expressions([&**timestamp, &**time_zone].into_iter(), names)
            }
            Expr::Ceil {
                expr,
                field: CeilFloorKind::DateTimeField(sqlparser::ast::DateTimeField::NoDateTime),
            }
            | Expr::Floor {
                expr,
                field: CeilFloorKind::DateTimeField(sqlparser::ast::DateTimeField::NoDateTime),
            } => self.expression(expr, names),
            Expr::Position { expr, r#in } => self.expressions([&**expr, &**r#in].into_iter(), names),
            Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                self.expression(expr, names)?;
                self.expressions(substring_from.iter().chain(substring_for).map(|expr| &**expr), names)
            }
            Expr::Trim { trim_where: _, trim_what, expr, trim_characters } => {
                self.expression(expr, names)?;
                self.expressions(trim_what.iter().map(|expr| &**expr), names)?;
                self.expressions(trim_characters.iter().flatten(), names)
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.expressions([&**expr, &**overlay_what, &**overlay_from].into_iter(), names)?;
                self.expressions(overlay_for.iter().map(|expr| &**expr), names)
            }
            Expr::Value(value) => match &value.value {
                Value::Placeholder(_)
                | Value::Number(..)
                | Value::SingleQuotedString(_)
                | Value::DollarQuotedString(_)
                | Value::EscapedStringLiteral(_)
                | Value::NationalStringLiteral(_)
                | Value::Boolean(_)
                | Value::Null => Ok(()),
                _ => unclear("a constant"),
            },
            Expr::TypedString(typed) => {
                self.data_type(&typed.data_type);
                Ok(())
            }
            Expr::Function(function) => self.function(function, names, combined),
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.expressions(operand.iter().chain(else_result).map(|expr| &**expr), names)?;
                self.expressions(conditions.iter().flat_map(|when| [&when.condition, &when.result]), names)
            }
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                self.expressions(sets.iter().flatten(), names)
            }
            Expr::Tuple(list) => self.expressions(list.iter(), names),
            Expr::Array(array) => self.expressions(array.elem.iter(), names),
            Expr::Interval(interval) => self.expression(&interval.value, names),
            Expr::Wildcard(_) => Ok(()),
            Expr::QualifiedWildcard(..) => {
                self.whole_row();
                Ok(())
            }
            // Other databases' expressions, and what PostgreSQL has but nobody has thought through here.
            Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::Cast { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::JsonAccess { .. }
            | Expr::InUnnest { .. }
            | Expr::RLike { .. }
            | Expr::Convert { .. }
            | Expr::Prefixed { .. }
            | Expr::Struct { .. }
            | Expr::Named { .. }
            | Expr::Dictionary(_)
            | Expr::Map(_)
            | Expr::MatchAgainst { .. }
            | Expr::OuterJoin(_)
            | Expr::Prior(_)
            | Expr::Lambda(_)
            | Expr::MemberOf(_) => unclear("an expression in it"),
        }
    }

    fn column(&mut self, name: &Ident) {
        if name.quote_style.is_none() && names::is_value_function(&name.value) {
            self.per_server(&name.value);
        }
        self.found.pure = false;
        self.system_column(name);
    }

    fn system_column(&mut self, name: &Ident) {
        if matches!(name.value.as_str(), "ctid" | "xmin" | "xmax" | "cmin" | "cmax" | "tableoid") {
            self.found.tie(format!("{} is the name of a place on one server.", name.value));
            self.found.against_gather(format!("{} is the name of a place on one server.", name.value));
        }
    }

    /// schema.table.column: the table's rows may come to be in a table of another schema.
    fn schema_and_column(&mut self) {
        self.found.against_gather("It names a column with its table's schema.");
    }

    fn whole_row(&mut self) {
        self.found.all_columns = true;
        self.found.against_gather("It uses a whole row as a value.");
    }

    fn operator(&mut self, op: &BinaryOperator) {
        match op {
            BinaryOperator::Custom(_)
            | BinaryOperator::PGCustomBinaryOperator(_)
            | BinaryOperator::Assignment => {
                self.unknown_operator();
            }
            _ => {}
        }
    }

    fn unknown_operator(&mut self) {
        self.found.tie("pgherd does not know an operator in it.");
    }

    fn data_type(&mut self, data_type: &DataType) {
        let name = data_type.to_string().to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or("");
        // The OID of a table or function is another one on each server.
        if last.starts_with("reg") {
            self.found.tie(format!("{last} is looked up on each server by itself."));
            self.found.against_gather(format!("{last} is looked up on each server by itself."));
        }
        // date 'now' is read by each server; see constant::names_a_moment.
        if !matches!(
            data_type,
            DataType::Int(_) | DataType::Integer(_) | DataType::BigInt(_) | DataType::Text
        ) {
            self.found.pure = false;
        }
    }

    fn per_server(&mut self, name: &str) {
        self.found.tie(format!("Each shard would evaluate {name} by itself."));
    }

    fn function(&mut self, function: &Function, names: &Scope<'_>, combined: bool) -> Seen {
        let Function {
            name,
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args,
            within_group,
            filter,
            null_treatment: None,
            over,
        } = function
        else {
            return unclear("a function call");
        };
        let (schema, name) = qualified(name)?;
        let kind = match schema {
            None | Some("pg_catalog") => names::function(self.topology, name),
            Some(_) if self.topology.facts.immutable_functions.contains(name) => names::Function::Pure,
            Some(_) => names::Function::Unknown,
        };
        match kind {
            names::Function::Pure => {}
            names::Function::Aggregate if combined => self.found.pure = false,
            names::Function::Aggregate => {
                self.found.pure = false;
                let apart = "would have to be computed from the rows of all shards";
                self.found.against_union(format!("{name}(...) {apart}."));
                if !matches!(name, "count" | "sum" | "min" | "max" | "bool_and" | "bool_or" | "every") {
                    self.found.against_copies(format!("{name}(...) may depend on the order of rows."));
                }
            }
            names::Function::PerRow => {
                self.found.pure = false;
                self.found.against_copies(format!("{name}() gives every copy another value."));
            }
            names::Function::PerServer => self.per_server(name),
            names::Function::Sequence => {
                self.found.writes = true;
                self.found.sequences = true;
                self.found.tie("Sequences are not global yet.");
            }
            names::Function::Unknown => {
                self.found.writes = true;
                self.found
                    .tie(format!("pgherd does not know whether {name}(...) may run on several shards."));
            }
        }
        if over.is_some() || !within_group.is_empty() {
            self.found.pure = false;
            self.found.against_both("A window or ordered-set function would see each shard's rows only.");
        }
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => self.subquery(query, names)?,
            FunctionArguments::List(list) => {
                self.arguments(&list.args, names)?;
                for clause in &list.clauses {
                    match clause {
                        FunctionArgumentClause::OrderBy(order) => {
                            self.found.against_union(
                                "An aggregate with ORDER BY would see each shard's rows only.",
                            );
                            self.order(order, names)?;
                        }
                        _ => return unclear("a clause of a function call"),
                    }
                }
            }
        }
        self.order(within_group, names)?;
        self.expressions(filter.iter().map(|expr| &**expr), names)?;
        match over {
            None | Some(WindowType::NamedWindow(_)) => Ok(()),
            Some(WindowType::WindowSpec(spec)) => self.window(spec, names),
        }
    }

    pub fn arguments(&mut self, arguments: &[FunctionArg], names: &Scope<'_>) -> Seen {
        for argument in arguments {
            let value = match argument {
                FunctionArg::Named { name: _, arg, operator: _ } | FunctionArg::Unnamed(arg) => arg,
                FunctionArg::ExprNamed { name, arg, operator: _ } => {
                    self.expression(name, names)?;
                    arg
                }
            };
            match value {
                FunctionArgExpr::Expr(expr) => self.expression(expr, names)?,
                FunctionArgExpr::QualifiedWildcard(_) => self.whole_row(),
                FunctionArgExpr::Wildcard => {}
                FunctionArgExpr::WildcardWithOptions(options) => plain_wildcard(options)?,
            }
        }
        Ok(())
    }

    /// Notes a relation and says what it is.
    pub fn relation(&mut self, name: &ObjectName, names: Option<&Scope<'_>>) -> Seen<Relation> {
        let (schema, name) = qualified(name)?;
        self.found.pure = false;
        self.found.relations += 1;
        self.found.names.push(name.to_owned());
        let relation = names::relation(self.topology, schema, name);
        match relation {
            _ if schema.is_none() && names.is_some_and(|names| names.has_cte(name)) => {
                Ok(Relation::On(names::FIRST))
            }
            Relation::Sharded(_) | Relation::Reference(_) => Ok(relation),
            Relation::On(shard) => {
                if !self.found.fixed.contains(&shard) {
                    self.found.fixed.push(shard);
                }
                Ok(relation)
            }
            Relation::Derived => Err(view(name)),
            Relation::Ambiguous => Err(not_proven(format!(
                "Several schemas have a table \"{name}\", and it depends on the search_path which one is meant. Name the schema."
            ))),
        }
    }
}

/// `schema.name`; a database before it is the current one.
pub(super) fn qualified(name: &ObjectName) -> Seen<(Option<&str>, &str)> {
    let mut parts = Vec::with_capacity(2);
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(name) => parts.push(name.value.as_str()),
            ObjectNamePart::Function(_) => return unclear("a name"),
        }
    }
    match parts[..] {
        [name] => Ok((None, name)),
        [schema, name] | [_, schema, name] => Ok((Some(schema), name)),
        _ => unclear("a name"),
    }
}

/// `*` with nothing that other databases may add to it.
fn plain_wildcard(options: &WildcardAdditionalOptions) -> Seen {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike: None,
        opt_exclude: None,
        opt_except: None,
        opt_replace: None,
        opt_rename: None,
        opt_alias: None,
    } = options
    else {
        return unclear("what follows *");
    };
    Ok(())
}

/// count(*), count(x), sum(x), min(x), max(x): what one row from each shard can be combined from.
fn simple_aggregate(item: &SelectItem) -> Option<Aggregate> {
    let (SelectItem::UnnamedExpr(Expr::Function(function))
    | SelectItem::ExprWithAlias { expr: Expr::Function(function), alias: _ }) = item
    else {
        return None;
    };
    let Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        within_group,
        filter: _,
        null_treatment: None,
        over: None,
    } = function
    else {
        return None;
    };
    let aggregate = match qualified(name).ok()? {
        (None | Some("pg_catalog"), name) => match name {
            "count" => Aggregate::Count,
            "sum" => Aggregate::Sum,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            _ => return None,
        },
        (Some(_), _) => return None,
    };
    let one_argument = match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(_))] => true,
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => aggregate == Aggregate::Count,
        _ => false,
    };
    let over_all = match list.duplicate_treatment {
        None | Some(DuplicateTreatment::All) => true,
        Some(DuplicateTreatment::Distinct) => matches!(aggregate, Aggregate::Min | Aggregate::Max),
    };
    (one_argument && over_all && list.clauses.is_empty() && within_group.is_empty()).then_some(aggregate)
}
