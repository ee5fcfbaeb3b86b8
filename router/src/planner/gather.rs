//! Gather: PostgreSQL finishes the work. The rows that a statement needs of sharded tables are pulled to one shard, into
//! temporary tables, and the statement runs there with those in the tables' places.
//!
//! Invariants:
//! - Nothing of the statement is taken apart: its text is the original's, but for the names of the tables. So its answer is
//!   PostgreSQL's own, whatever it does with the rows.
//! - A row is left behind only when it cannot matter: its key is not among those that the statement asks for, or it fails a
//!   condition that is a conjunct of its query's WHERE (or of the ON of an inner join), compares one column with a constant, and is
//!   false for NULL. (So it may even stand above an outer join: a partner that is missing instead gives a row of NULLs, which fails
//!   as well.)
//! - What tells a table from its copy (whole rows and their types, ctid, tableoid, a schema before a column's table) is refused.
//!
//! Not here: running it (`proxy`).

use std::ops::Range;

use pgherd_config::KeyType;
use sqlparser::ast::{BinaryOperator, Expr, ObjectName, ObjectNamePart, TableAlias};

use super::constant::{Constant, Source, Values, any_moment, recognise};
use super::found::Found;
use super::names::{FIRST, schema_of};
use super::parse::offset;
use super::query::Walk;
use super::refuse::not_proven;
use super::scope::{Item, Scope};
use crate::lexer::{Token, TokenKind, tokens};
use crate::plan::{Answer, Explain, Gather, Plan, Pull};
use crate::refusal::Refusal;
use crate::topology::{ShardId, Topology};

/// Tables in one statement that are pulled.
const SITES_MAX: usize = 64;

/// Type OIDs from here on are given by each server by itself (access/transam.h FirstNormalObjectId): those inside an array or a
/// composite value are not the same on another server.
const FIRST_OF_USERS: u32 = 16_384;

/// A sharded table in FROM.
#[derive(Debug, Clone)]
pub(super) struct Site {
    table: usize,
    pin: usize,
    /// Where its name begins and where the last part of it begins, in the text that the template was made from.
    begin: u32,
    last: u32,
    /// What columns are qualified with.
    called: String,
    aliased: bool,
    /// Its columns have other names here.
    renamed: bool,
}

/// A condition that every row of a table that matters fulfils.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    pin: usize,
    column: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Compare(&'static str, Constant),
    In(Vec<Constant>),
    Between(Constant, Constant),
    NotNull,
}

impl Walk<'_> {
    pub(super) fn site(&mut self, name: &ObjectName, table: usize, alias: Option<&TableAlias>, item: &Item) {
        let begins = |part: Option<&ObjectNamePart>| match part {
            Some(ObjectNamePart::Identifier(name)) => offset(name.span),
            _ => u32::MAX,
        };
        self.found.sites.push(Site {
            table,
            pin: item.sharded.as_ref().map_or(usize::MAX, |(pin, _)| *pin),
            begin: begins(name.0.first()),
            last: begins(name.0.last()),
            called: item.name.clone(),
            aliased: alias.is_some(),
            renamed: alias.is_some_and(|alias| !alias.columns.is_empty()),
        });
    }

    /// Notes a conjunct that compares a column with constants. `only`: these items, for an outer join's condition.
    pub(super) fn filter(&mut self, expr: &Expr, names: &Scope<'_>, only: &Option<Range<usize>>) {
        let constant = |expr: &Expr| recognise(expr, self.literals);
        let found = match expr {
            Expr::Nested(inner) => return self.filter(inner, names, only),
            Expr::BinaryOp { left, op, right } => {
                let Some((plain, turned)) = comparison(op) else { return };
                match (names.column(left), names.column(right)) {
                    (Some(column), None) => {
                        constant(right).map(|constant| (column, Test::Compare(plain, constant)))
                    }
                    (None, Some(column)) => {
                        constant(left).map(|constant| (column, Test::Compare(turned, constant)))
                    }
                    _ => None,
                }
            }
            Expr::InList { expr, list, negated: false } => names.column(expr).and_then(|column| {
                let list: Option<Vec<_>> = list.iter().map(constant).collect();
                Some((column, Test::In(list?)))
            }),
            Expr::Between { expr, negated: false, low, high } => names
                .column(expr)
                .and_then(|column| Some((column, Test::Between(constant(low)?, constant(high)?)))),
            Expr::IsNotNull(expr) => names.column(expr).map(|column| (column, Test::NotNull)),
            _ => None,
        };
        let Some(((number, column), test)) = found else { return };
        if only.as_ref().is_some_and(|only| !only.contains(&number)) {
            return;
        }
        let item = names.items.get(number);
        // With renamed columns, the name may be another column's.
        let known = item.and_then(|item| item.columns.as_ref());
        // Of a query in FROM, the name may be another column's, too.
        if item.is_none_or(|item| item.table.is_none()) {
            return;
        }
        let Some((pin, _)) = item.and_then(|item| item.sharded.as_ref()) else { return };
        if known.is_some_and(|columns| columns.iter().any(|known| known == column)) {
            self.found.filters.push(Filter { pin: *pin, column: column.to_owned(), test });
        }
    }
}

/// As it is, and with its sides changed.
fn comparison(op: &BinaryOperator) -> Option<(&'static str, &'static str)> {
    match op {
        BinaryOperator::Eq => Some(("=", "=")),
        BinaryOperator::NotEq => Some(("<>", "<>")),
        BinaryOperator::Lt => Some(("<", ">")),
        BinaryOperator::LtEq => Some(("<=", ">=")),
        BinaryOperator::Gt => Some((">", "<")),
        BinaryOperator::GtEq => Some((">=", "<=")),
        _ => None,
    }
}

/// What a template knows of a gather before it sees the values.
#[derive(Debug)]
pub(crate) struct GatherRoute {
    places: Vec<SitePlace>,
    /// It asks a server about itself: always the same one.
    tied: bool,
    /// Tokens behind the statement, where it is a part of another one.
    behind: usize,
}

#[derive(Debug)]
struct SitePlace {
    table: usize,
    pin: usize,
    /// Of its name, counted from the end: another text of the same fingerprint has as many tokens, and EXPLAIN may stand before it.
    begin: usize,
    end: usize,
    /// The alias to give it; `None`: it has one.
    alias: Option<String>,
    /// Columns by their numbers among the facts.
    columns: Vec<usize>,
    filters: Vec<Filter>,
    needs_primary_key: bool,
}

impl GatherRoute {
    /// # Errors
    /// Why one server could not finish the work. Empty: nothing is to be said of it.
    pub(super) fn of(topology: &Topology, found: &mut Found, tokens: &[Token]) -> Result<Self, String> {
        if let Some(reason) = found.against_gather.take() {
            return Err(reason);
        }
        let sites = std::mem::take(&mut found.sites);
        if sites.is_empty()
            || sites.len() > SITES_MAX
            || sites.len() != found.pins.iter().filter(|pin| !pin.again).count()
        {
            return Err(String::new());
        }
        let filters = std::mem::take(&mut found.filters);
        let at = |begin: u32| tokens.binary_search_by_key(&begin, |token| token.at.start).ok();
        let grouped = tokens.iter().any(|token| token.kind == TokenKind::Word && token.text == "group");
        let named = |column: &str| tokens.iter().any(|token| is_name(token) && token.text == column);
        let mut places = Vec::with_capacity(sites.len());
        for site in &sites {
            let (Some(first), Some(last)) = (at(site.begin), at(site.last)) else {
                return Err(String::new());
            };
            let Some(facts) = topology.facts.tables.get(&site.table) else { return Err(String::new()) };
            let own = topology.tables.get(site.table).map_or("", |table| table.name.as_str());
            if tokens[last].text != own || !is_name(&tokens[last]) {
                return Err(String::new());
            }
            let word = |index: usize, word: &str| {
                tokens.get(index).is_some_and(|token| token.kind == TokenKind::Word && token.text == word)
            };
            if first > 0 && word(first - 1, "only") {
                return Err("ONLY leaves out rows that a copy of the table could not tell apart.".to_owned());
            }
            let has = |name: &str| facts.columns.iter().any(|column| column.name == name);
            if !has(&site.called) && names_whole_row(tokens, &site.called, &sites, &at) {
                return Err("It uses a whole row as a value.".to_owned());
            }
            let all = found.all_columns || site.renamed;
            let mut columns: Vec<usize> =
                (0..facts.columns.len()).filter(|index| all || named(&facts.columns[*index].name)).collect();
            if columns.is_empty() {
                columns.push(0);
            }
            if facts.columns.is_empty() {
                return Err(String::new());
            }
            let key = &facts.primary_key;
            let filters = filters.iter().filter(|filter| filter.pin == site.pin);
            let comparable = |filter: &&Filter| {
                let mut columns = facts.columns.iter();
                // Operators of users' types may be anything.
                columns.any(|column| column.name == filter.column && column.type_oid < FIRST_OF_USERS)
            };
            places.push(SitePlace {
                table: site.table,
                pin: site.pin,
                begin: tokens.len() - first,
                end: tokens.len() - (last + 1),
                alias: (!site.aliased).then(|| site.called.clone()),
                columns,
                filters: filters.filter(comparable).cloned().collect(),
                needs_primary_key: grouped
                    && !key.is_empty()
                    && key.iter().all(|column| all || named(column)),
            });
        }
        places.sort_by_key(|place| std::cmp::Reverse(place.begin));
        Ok(Self { places, tied: found.tied, behind: 0 })
    }

    /// The statement stands inside another one, which has so many tokens behind it.
    pub(super) fn before(&mut self, tokens: usize) {
        self.behind += tokens;
    }

    /// `pulled`: the shards that have the rows of a pin.
    pub(super) fn bind(
        &self,
        topology: &Topology,
        values: Values<'_>,
        fixed: Option<ShardId>,
        pulled: impl Fn(usize) -> Vec<ShardId>,
    ) -> Result<Plan, Refusal> {
        let unfit = || not_proven("The statement's text does not fit its plan.");
        let tokens = tokens(values.sql);
        // 'now' is another moment on every shard; where the statement runs, it is read once.
        let moments = any_moment(values);
        let mut pulls: Vec<Pull> = Vec::new();
        let (mut pieces, mut gaps, mut copied) = (Vec::new(), Vec::new(), 0);
        let mut sql = String::with_capacity(values.sql.len() + 64);
        for place in &self.places {
            let facts = topology.facts.tables.get(&place.table).ok_or_else(unfit)?;
            let table = topology.tables.get(place.table).ok_or_else(unfit)?;
            let at = |behind: usize| tokens.len().checked_sub(behind + self.behind).ok_or_else(unfit);
            let name = tokens.get(at(place.begin)?..at(place.end)?).ok_or_else(unfit)?;
            let (Some(first), Some(last)) = (name.first(), name.last()) else { return Err(unfit()) };
            if last.text != table.name {
                return Err(unfit());
            }
            let columns: Vec<_> =
                place.columns.iter().filter_map(|index| facts.columns.get(*index)).collect();
            let mut params = Vec::new();
            let mut conditions = Vec::new();
            if !moments {
                for filter in &place.filters {
                    let before = params.len();
                    match filter.sql(values, &mut params) {
                        Some(condition) if !conditions.contains(&condition) => conditions.push(condition),
                        Some(_) => {}
                        None => params.truncate(before),
                    }
                }
            }
            let quoted_columns: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
            let key: Vec<String> = facts.primary_key.iter().map(|column| quoted(column)).collect();
            let pull = Pull {
                table: format!("{}.{}", quoted(schema_of(topology, place.table, table)), quoted(&table.name)),
                columns: quoted_columns.join(", "),
                condition: conditions.join(" AND "),
                params,
                shards: pulled(place.pin),
                primary_key: place.needs_primary_key.then(|| key.join(", ")),
                binary: columns
                    .iter()
                    .all(|column| column.type_oid < FIRST_OF_USERS && !is_text_only(column.type_oid)),
                floats: columns
                    .iter()
                    .any(|column| column.type_oid >= FIRST_OF_USERS || is_float(column.type_oid)),
            };
            gaps.push(pulls.iter().position(|known| *known == pull).unwrap_or(pulls.len()));
            if gaps.last() == Some(&pulls.len()) {
                pulls.push(pull);
            }
            sql.push_str(values.sql.get(copied..first.at.start as usize).ok_or_else(unfit)?);
            pieces.push(std::mem::take(&mut sql));
            if let Some(alias) = &place.alias {
                sql.push_str(" AS ");
                sql.push_str(&quoted(alias));
            }
            copied = last.at.end as usize;
        }
        sql.push_str(values.sql.get(copied..).ok_or_else(unfit)?);
        pieces.push(sql);
        let scratch = fixed.or(self.tied.then_some(FIRST));
        let (explain, answer) = (Explain::No, Answer::Rows);
        Ok(Plan::Gather(Box::new(Gather { scratch, pulls, pieces, gaps, explain, answer })))
    }
}

impl Filter {
    /// `None`: a constant of it has no text.
    fn sql(&self, values: Values<'_>, params: &mut Vec<u16>) -> Option<String> {
        let column = quoted(&self.column);
        let mut constant = |constant: &Constant| constant_sql(constant, values, params);
        Some(match &self.test {
            Test::Compare(operator, value) => format!("{column} {operator} {}", constant(value)?),
            Test::In(list) => {
                let list: Option<Vec<String>> = list.iter().map(constant).collect();
                format!("{column} IN ({})", list?.join(", "))
            }
            Test::Between(low, high) => {
                format!("{column} BETWEEN {} AND {}", constant(low)?, constant(high)?)
            }
            Test::NotNull => format!("{column} IS NOT NULL"),
        })
    }
}

fn constant_sql(constant: &Constant, values: Values<'_>, params: &mut Vec<u16>) -> Option<String> {
    let text = match constant.source {
        Source::Literal { index, negative } => {
            let at = &values.literals.get(index)?.at;
            let text = values.sql.get(at.start as usize..at.end as usize)?;
            // A number's cast may fail when it is evaluated, and where PostgreSQL never comes to evaluate it, it must not. (That of a
            // string fails when the statement is read, and that was before.)
            if constant.cast.is_some() && text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
                return None;
            }
            if negative { format!("(- {text})") } else { text.to_owned() }
        }
        Source::Param(number) => {
            let number = u16::try_from(number).ok()?;
            let known = params.iter().position(|param| *param == number);
            let place = known.unwrap_or_else(|| {
                params.push(number);
                params.len() - 1
            });
            format!("${}", place + 1)
        }
        Source::Boolean(value) => value.to_string(),
        Source::Null => "NULL".to_owned(),
    };
    Some(match constant.cast {
        Some(ty) => format!("CAST({text} AS {})", type_sql(ty)?),
        None => text,
    })
}

fn type_sql(ty: KeyType) -> Option<&'static str> {
    Some(match ty {
        KeyType::SmallInt => "pg_catalog.int2",
        KeyType::Integer => "pg_catalog.int4",
        KeyType::BigInt => "pg_catalog.int8",
        KeyType::Text => "pg_catalog.text",
        KeyType::Varchar => "pg_catalog.varchar",
        KeyType::Uuid => "pg_catalog.uuid",
        KeyType::Bytea => "pg_catalog.bytea",
        KeyType::Boolean => "pg_catalog.bool",
        KeyType::Date => "pg_catalog.date",
        KeyType::Timestamp => "pg_catalog.timestamp",
        KeyType::TimestampTz => "pg_catalog.timestamptz",
        KeyType::Numeric => "pg_catalog.numeric",
        // CAST(x AS char) is char(1).
        KeyType::Char => return None,
    })
}

/// The name of a FROM item stands somewhere as a value. It is none before a point (a qualifier), behind one (a column of that
/// name), where an item is named, and where it is given (as an alias, to an item or to a column).
fn names_whole_row(
    tokens: &[Token],
    called: &str,
    sites: &[Site],
    at: &impl Fn(u32) -> Option<usize>,
) -> bool {
    let symbol = |token: Option<&Token>, symbol: &str| {
        token.is_some_and(|token| token.kind == TokenKind::Punctuation && token.text == symbol)
    };
    let word = |index: usize, word: &str| {
        tokens.get(index).is_some_and(|token| token.kind == TokenKind::Word && token.text == word)
    };
    let names: Vec<usize> = sites.iter().filter_map(|site| at(site.last)).collect();
    tokens.iter().enumerate().any(|(index, token)| {
        if !is_name(token) || token.text != called {
            return false;
        }
        let before = index.checked_sub(1);
        let qualifier = symbol(tokens.get(index + 1), ".");
        let column = before.is_some_and(|before| symbol(tokens.get(before), "."));
        let item = names.contains(&index);
        // orders o, orders AS o
        let behind = |index: usize| names.contains(&index);
        let alias = before.is_some_and(|before| behind(before) || word(before, "as"));
        !(qualifier || column || item || alias)
    })
}

fn is_name(token: &Token) -> bool {
    matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
}

fn is_float(oid: u32) -> bool {
    matches!(oid, 700 | 701 | 1021 | 1022 | 600..=604 | 628 | 718 | 1017..=1020 | 1027 | 629 | 719)
}

/// Built-in types without a binary form: aclitem and its array.
fn is_text_only(oid: u32) -> bool {
    matches!(oid, 1033 | 1034)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
