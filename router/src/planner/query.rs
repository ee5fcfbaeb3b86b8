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
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Statement, Subscript, Value,
    WildcardAdditionalOptions, WindowFrameBound, WindowSpec, WindowType, With,
};
use sqlparser::ast::{BinaryOperator, CeilFloorKind, DataType, Function, UnaryOperator};

use super::constant;
use super::found::Found;
use super::level::{Level, Rows};
use super::merge::{self, Combined};
use super::names::{self, Relation};
use super::refuse::{FIRST_SHARDS, not_proven, view};
use super::scope::{Item, Scope};
use crate::lexer::Token;
use crate::plan::Literal;
use crate::refusal::Refusal;
use crate::topology::Topology;

pub(super) type Seen<T = ()> = Result<T, Refusal>;

/// Nested queries; the parser's own limit is tighter.
const NESTING_MAX: usize = 100;

pub(super) struct Walk<'a> {
    pub topology: &'a Topology,
    pub literals: &'a [Literal],
    pub tokens: &'a [Token],
    pub found: Found,
    pub nesting: usize,
    /// The SELECT under way is the last.
    pub levels: Vec<Level>,
    /// Tables of a finished SELECT, and tables around it that they meet.
    pub anchors: Vec<(usize, usize)>,
    /// Columns named so far: at which nesting, and whether they are certainly of the query there.
    named: Vec<(usize, bool)>,
}

pub(super) fn unclear<T>(what: &str) -> Seen<T> {
    Err(not_proven(format!("pgherd does not understand {what}.")))
}

impl<'a> Walk<'a> {
    pub fn new(topology: &'a Topology, literals: &'a [Literal], tokens: &'a [Token]) -> Self {
        Self {
            topology,
            literals,
            tokens,
            found: Found::new(),
            nesting: 0,
            levels: Vec::new(),
            anchors: Vec::new(),
            named: Vec::new(),
        }
    }

    /// A query at any depth: what its rows are to whatever stands around it.
    pub fn query(&mut self, query: &Query, outer: Option<&Scope<'_>>) -> Seen<Rows> {
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
            self.order_by_kind(order_by)?;
        }
        let mut limited = None;
        match limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                if limit.is_some() || offset.is_some() {
                    limited = Some("LIMIT and OFFSET would count the rows of each shard by itself.");
                }
                self.expressions(limit.iter(), &names)?;
                self.expressions(offset.iter().map(|offset| &offset.value), &names)?;
            }
            Some(_) => return unclear("LIMIT"),
        }
        if let Some(Fetch { with_ties: _, percent: false, quantity }) = fetch {
            limited = Some("FETCH FIRST would count the rows of each shard by itself.");
            self.expressions(quantity.iter(), &names)?;
        } else if fetch.is_some() {
            return unclear("FETCH");
        }
        if let Some(reason) = limited {
            self.found.against_copies(reason);
        }
        let ordered = match order_by.as_ref().map(|order_by| &order_by.kind) {
            Some(OrderByKind::Expressions(expressions)) => expressions.as_slice(),
            Some(OrderByKind::All(_)) | None => &[],
        };
        let top = self.nesting == 1;
        let mut rows = self.body(body, &mut names, ordered, locks)?;
        self.nesting -= 1;
        if top {
            self.finish(query, &rows, &names);
        } else if let Some(reason) = limited {
            rows = rows.because(reason);
        }
        Ok(rows)
    }

    /// What is done with the rows of several shards.
    fn finish(&mut self, query: &Query, rows: &Rows, names: &Scope<'_>) {
        if let Some(reason) = &rows.whole {
            self.found.against_union(reason.clone());
        } else if !rows.sharded && !self.found.pins.is_empty() {
            self.found.against_union("A query inside it would see each shard's rows only.");
        } else if rows.sharded
            && let Err(reason) = merge::finish(query, rows, self, names)
        {
            self.found.against_union(reason);
        }
    }

    fn order_by_kind(&mut self, order_by: &OrderBy) -> Seen {
        match (&order_by.kind, &order_by.interpolate) {
            (OrderByKind::Expressions(_), None) => Ok(()),
            (OrderByKind::Expressions(_), Some(_)) | (OrderByKind::All(_), _) => unclear("ORDER BY"),
        }
    }

    fn with(&mut self, with: &With, names: &mut Scope<'_>) -> Seen {
        let apart = "A WITH query would be computed on each shard by itself.";
        if with.recursive {
            self.found.against_both(apart);
            names.ctes.extend(with.cte_tables.iter().map(|cte| (cte.alias.name.value.clone(), None)));
        }
        for cte in &with.cte_tables {
            if cte.from.is_some() || cte.alias.columns.iter().any(|column| column.data_type.is_some()) {
                return unclear("a WITH query");
            }
            let inside = Scope::inside(Some(names));
            let writes =
                matches!(*cte.query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_));
            if writes {
                self.found.against_both(apart);
            }
            let before = self.found.against_copies.take();
            let mut rows = self.query(&cte.query, Some(&inside))?;
            let own = std::mem::replace(&mut self.found.against_copies, before);
            if let Some(reason) = own {
                self.found.against_copies(reason.clone());
                rows.arbitrary = rows.arbitrary.or(Some(reason));
            }
            if !cte.alias.columns.is_empty() {
                rows.columns = None;
                rows.kinds.clear();
                rows.key.clear();
            }
            if !with.recursive {
                names.ctes.push((cte.alias.name.value.clone(), (!writes).then_some(rows)));
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
    ) -> Seen<Rows> {
        match body {
            SetExpr::Select(select) => self.select(select, names, order_by, locks),
            SetExpr::Query(query) => {
                self.order(order_by, names)?;
                let rows = self.query(query, Some(names))?;
                Ok(if self.nesting == 1 && rows.sharded {
                    rows.because("A query in parentheses is not taken apart.")
                } else {
                    rows
                })
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let kept = *op == SetOperator::Union && *set_quantifier == SetQuantifier::All;
                if !matches!(
                    set_quantifier,
                    SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None
                ) {
                    return unclear("a set operation");
                }
                self.order(order_by, names)?;
                let mut sides = Vec::with_capacity(2);
                // What is combined over shards is the whole, not one side of it.
                self.nesting += 1;
                for side in [left, right] {
                    let mut inside = Scope::inside(Some(names));
                    sides.push(self.body(side, &mut inside, &[], locks)?);
                }
                self.nesting -= 1;
                let [left, right] = <[Rows; 2]>::try_from(sides).unwrap_or_default();
                Ok(self.united(left, right, kept))
            }
            SetExpr::Values(values) => {
                self.order(order_by, names)?;
                values.rows.iter().try_for_each(|row| self.expressions(row.iter(), names))?;
                Ok(Rows::default())
            }
            SetExpr::Insert(Statement::Insert(insert)) => self.insert(insert, names).map(|()| self.written()),
            SetExpr::Update(Statement::Update(update)) => self.update(update, names).map(|()| self.written()),
            SetExpr::Delete(Statement::Delete(delete)) => self.delete(delete, names).map(|()| self.written()),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) => unclear("a statement in WITH"),
            SetExpr::Merge(_) => unclear("MERGE"),
            SetExpr::Table(_) => unclear("TABLE inside a query"),
        }
    }

    /// Rows of RETURNING.
    fn written(&self) -> Rows {
        Rows { sharded: !self.found.pins.is_empty(), ..Rows::default() }
            .because("A WITH query would be computed on each shard by itself.")
    }

    fn select(
        &mut self,
        select: &Select,
        names: &mut Scope<'_>,
        order: &[OrderByExpr],
        locks: &[LockClause],
    ) -> Seen<Rows> {
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
            // Where QUALIFY would stand, if there was one.
            window_before_qualify: _,
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
        self.levels.push(Level::default());
        self.from(from, names)?;
        self.locks(locks, names)?;
        if let Some(condition) = selection {
            self.condition(condition, names, None);
            self.expression(condition, names)?;
        }
        let pin = self.stand(names);
        let sharded = names.items.iter().any(|item| item.sharded.is_some());
        for window in named_window {
            let covered = match &window.1 {
                NamedWindowExpr::NamedWindow(other) => {
                    let windows = self.level().map_or(&[][..], |level| level.windows.as_slice());
                    windows.iter().any(|(name, covered)| *name == other.value && *covered)
                }
                NamedWindowExpr::WindowSpec(spec) => {
                    self.window(spec, names)?;
                    self.window_covers(spec, names)
                }
            };
            let name = window.0.value.clone();
            if let Some(level) = self.level() {
                level.windows.push((name, covered));
            }
        }
        self.projection(projection, names)?;
        let mut grouped = None;
        match group_by {
            GroupByExpr::Expressions(expressions, modifiers) if modifiers.is_empty() => {
                if !expressions.is_empty() {
                    grouped =
                        Some("Groups would have to be combined from several shards (GROUP BY).".to_owned());
                }
                self.expressions(expressions.iter(), names)?;
                if let Some(having) = having {
                    grouped.get_or_insert_with(|| "HAVING would see each shard's rows only.".to_owned());
                    self.expression(having, names)?;
                }
                self.order(order, names)?;
                let meant: Vec<&Expr> =
                    expressions.iter().map(|expr| self.meant(expr, projection, names)).collect();
                if pin.is_some_and(|pin| self.covers(pin, meant.iter().copied(), names)) {
                    grouped = None;
                    if let Some(level) = self.level() {
                        level.aggregates = None;
                    }
                }
            }
            GroupByExpr::Expressions(..) | GroupByExpr::All(_) => return unclear("GROUP BY"),
        }
        let exports = pin.map_or_else(Vec::new, |pin| self.exports(pin, projection, names));
        let mut distinguished = None;
        match distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::Distinct) => {
                let covered = !exports.is_empty()
                    && exports.iter().all(|export| export.name.is_some() || export.position.is_some());
                if !covered {
                    distinguished = Some("DISTINCT would compare the rows of each shard only.".to_owned());
                }
            }
            Some(Distinct::On(expressions)) => {
                self.expressions(expressions.iter(), names)?;
                let reason = "DISTINCT ON would compare the rows of each shard only.";
                self.found.against_copies(reason);
                let meant: Vec<&Expr> =
                    expressions.iter().map(|expr| self.meant_first(expr, projection, names)).collect();
                if !pin.is_some_and(|pin| self.covers(pin, meant.iter().copied(), names)) {
                    self.whole(reason);
                }
            }
        }
        if let Some(pin) = pin {
            for outer in names.outer_pins() {
                if self.meet(pin, outer) {
                    self.anchors.push((pin, outer));
                }
            }
        }
        let level = self.levels.pop().unwrap_or_default();
        let kinds = merge::kinds(projection, self, names);
        let mut rows = Rows {
            sharded,
            pin,
            key: exports,
            columns: columns_of(projection, names),
            kinds,
            ..Rows::default()
        };
        if self.nesting == 1 && rows.sharded && level.whole.is_none() {
            let merged = grouped.is_some() || level.aggregates.is_some() || distinguished.is_some();
            self.found.combined = match merged {
                false => Combined::Union,
                true => merge::two_phase(select, order, self, names),
            };
            if merged && !matches!(self.found.combined, Combined::Union) {
                return Ok(rows);
            }
        }
        rows.whole = level.whole.or(grouped).or(level.aggregates).or(distinguished);
        Ok(rows)
    }

    /// The sharded items of the level, when all of them meet: one stands for all.
    pub fn stand(&mut self, names: &Scope<'_>) -> Option<usize> {
        match self.together(names, 0..names.items.len()) {
            Ok(pin) => pin,
            Err(reason) => {
                self.whole(reason);
                None
            }
        }
    }

    /// PARTITION BY contains the key.
    fn window_covers(&mut self, spec: &WindowSpec, names: &Scope<'_>) -> bool {
        if let Some(base) = &spec.window_name {
            let windows = self.level().map_or(&[][..], |level| level.windows.as_slice());
            if windows.iter().any(|(name, covered)| *name == base.value && *covered) {
                return true;
            }
        }
        match self.together(names, 0..names.items.len()) {
            Ok(Some(pin)) => self.covers(pin, spec.partition_by.iter(), names),
            // Rows of a copy: see `against_copies`.
            Ok(None) => true,
            Err(_) => false,
        }
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

    pub fn projection(&mut self, items: &[SelectItem], names: &Scope<'_>) -> Seen {
        for item in items {
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

    /// A query inside an expression.
    pub fn subquery(&mut self, query: &Query, names: &Scope<'_>) -> Seen {
        let (rows, anchor) = self.inside(query, names)?;
        self.judge(&rows, anchor);
        Ok(())
    }

    /// Whether a query inside an expression sees on its shard what it would see on one server.
    fn judge(&mut self, rows: &Rows, anchor: Option<usize>) {
        if !rows.sharded {
            if let Some(reason) = &rows.arbitrary {
                self.whole(reason.clone());
            }
        } else if anchor.is_none() {
            self.whole("A query inside it would see each shard's rows only.");
        }
    }

    /// expr IN (SELECT key ...): equal keys are on one shard.
    fn in_subquery(&mut self, expr: &Expr, query: &Query, names: &Scope<'_>) -> Seen {
        let (rows, mut anchor) = self.inside(query, names)?;
        if let (Some((node, _)), Some(pin), None, [export]) =
            (names.key(expr), rows.pin, &rows.whole, rows.key.as_slice())
            && export.position == Some(0)
            && let (Some(outer), Some(inner)) = (self.found.pins.get(node.0), self.found.pins.get(pin))
            && outer.distribution == inner.distribution
            && outer.columns.len() == 1
            && constant::same_family(outer.columns[0].column.ty, inner.columns[0].column.ty)
            // A NULL on one shard is in no other shard's list.
            && !self.topology.distributions[inner.distribution].rule.takes_null()
        {
            anchor = Some(node.0);
        }
        self.judge(&rows, anchor);
        Ok(())
    }

    /// A query at a deeper level, and the table around it that its own tables meet.
    pub fn inside(&mut self, query: &Query, names: &Scope<'_>) -> Seen<(Rows, Option<usize>)> {
        let before = self.found.against_copies.take();
        let edges = std::mem::take(&mut self.anchors);
        let mut rows = self.query(query, Some(names))?;
        let anchors = std::mem::replace(&mut self.anchors, edges);
        let own = std::mem::replace(&mut self.found.against_copies, before);
        if let Some(reason) = own {
            self.found.against_copies(reason.clone());
            rows.arbitrary = rows.arbitrary.or(Some(reason));
        }
        let around = names.pins();
        let anchor = rows.pin.and_then(|pin| {
            let met = anchors.iter().find(|(own, outer)| *own == pin && around.contains(outer));
            met.map(|(_, outer)| *outer)
        });
        Ok((rows, anchor))
    }

    pub fn expressions<'e>(&mut self, list: impl Iterator<Item = &'e Expr>, names: &Scope<'_>) -> Seen {
        for expr in list {
            self.expression(expr, names)?;
        }
        Ok(())
    }

    pub fn expression(&mut self, expr: &Expr, names: &Scope<'_>) -> Seen {
        match expr {
            Expr::Identifier(name) => {
                self.named.push((self.nesting, names.certainly_has(expr)));
                self.column(name);
                Ok(())
            }
            Expr::CompoundIdentifier(parts) => {
                self.named.push((self.nesting, names.certainly_has(expr)));
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
                self.in_subquery(expr, subquery, names)
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
            Expr::Function(function) => self.function(function, names),
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

    fn function(&mut self, function: &Function, names: &Scope<'_>) -> Seen {
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
            names::Function::Aggregate => {
                self.found.pure = false;
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
                self.found.draws |= name != "setval";
                self.found.tie(FIRST_SHARDS);
            }
            names::Function::Unknown => {
                self.found.writes = true;
                self.found
                    .tie(format!("pgherd does not know whether {name}(...) may run on several shards."));
            }
        }
        if over.is_some() || !within_group.is_empty() {
            self.found.pure = false;
            let reason = "A window or ordered-set function would see each shard's rows only.";
            self.found.against_copies(reason);
            let covered = match over {
                Some(WindowType::WindowSpec(spec)) => self.window_covers(spec, names),
                Some(WindowType::NamedWindow(window)) => {
                    let windows = self.level().map_or(&[][..], |level| level.windows.as_slice());
                    windows.iter().any(|(name, covered)| *name == window.value && *covered)
                }
                // An aggregate like any other.
                None => kind == names::Function::Aggregate,
            };
            if !covered {
                self.whole(reason);
            }
        }
        let before = self.named.len();
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => self.subquery(query, names)?,
            FunctionArguments::List(list) => {
                self.arguments(&list.args, names)?;
                for clause in &list.clauses {
                    match clause {
                        FunctionArgumentClause::OrderBy(order) => {
                            self.order(order, names)?;
                        }
                        _ => return unclear("a clause of a function call"),
                    }
                }
            }
        }
        self.order(within_group, names)?;
        self.expressions(filter.iter().map(|expr| &**expr), names)?;
        if kind == names::Function::Aggregate && over.is_none() {
            let named = self.named[before..].to_vec();
            self.aggregate(name, &named);
        }
        match over {
            None | Some(WindowType::NamedWindow(_)) => Ok(()),
            Some(WindowType::WindowSpec(spec)) => self.window(spec, names),
        }
    }

    /// An aggregate belongs to the innermost query whose columns it names.
    fn aggregate(&mut self, name: &str, named: &[(usize, bool)]) {
        let own = named.is_empty() || named.iter().any(|(nesting, own)| *nesting == self.nesting && *own);
        if !own && self.levels.len() > 1 {
            self.found.against_both(format!("pgherd does not know which query {name}(...) belongs to."));
        }
        let reason = format!("{name}(...) would have to be computed from the rows of all shards.");
        match self.level() {
            Some(level) => {
                level.aggregates.get_or_insert(reason);
            }
            None => self.found.against_union(reason),
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

/// The names of a query's columns, where they are all written.
fn columns_of(items: &[SelectItem], names: &Scope<'_>) -> Option<Vec<String>> {
    let mut columns = Vec::with_capacity(items.len());
    for item in items {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => columns.push(alias.value.clone()),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => columns.push(name.value.clone()),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                columns.push(parts.last()?.value.clone())
            }
            SelectItem::Wildcard(_) => {
                for item in &names.items {
                    columns.extend(item.columns.clone()?);
                }
            }
            _ => return None,
        }
    }
    Some(columns)
}
