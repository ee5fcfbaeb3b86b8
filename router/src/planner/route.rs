//! Template + values -> plan.

use std::ops::Range;

use super::constant::{Constant, Value, Values, any_moment, decoded};
use super::draw::DrawRoute;
use super::found::{Found, Pin};
use super::gather::GatherRoute;
use super::insert::{GenerateRoute, InsertRoute, params, row_places, source_place};
use super::merge::Combined;
use super::names::FIRST;
use super::place::{Place, is_shared, shards};
use super::refuse::{ACROSS, key_missing, key_null, no_place, not_entered, not_proven, two_places};
use crate::hash::slot_sql;
use crate::lexer::{TokenKind, tokens};
use crate::plan::{
    Answer, Combine, CopyFormat, CopyPlan, Each, Explain, Gather, Literal, Params, Part, Plan, Shown,
};
use crate::refusal::Refusal;
use crate::rule::Rule;
use crate::topology::{SLOTS, ShardId, Topology};
use crate::touch::{Touched, Unit};
use crate::value::KeyValue;

/// What a template knows before it sees the values.
#[derive(Debug)]
pub(crate) enum Route {
    Any,
    One(ShardId),
    /// Named by hand: nobody has looked what it reads.
    Named(ShardId),
    Refuse(Refusal),
    /// The same on every shard: DDL, reference tables.
    Copies {
        first_alone: bool,
        moments: bool,
    },
    /// It reads or writes sharded tables.
    Pinned(Box<PinnedRoute>),
    Insert(Box<InsertRoute>),
    Generate(Box<GenerateRoute>),
    Draw(Box<DrawRoute>),
    /// On the first shard as it is said. What DROP SEQUENCE has left on the others is as good as a new one.
    CreateSequence,
    CopyFrom(Box<CopyPlan>),
    CopyTo {
        format: CopyFormat,
        header: bool,
    },
    /// One shard, or PostgreSQL finishes it on one: DECLARE, COPY (query) TO.
    Answered {
        inner: Box<Route>,
        what: &'static str,
        answer: Answer,
        /// How each shard's own COPY begins, where it is the union of all.
        format: Option<(CopyFormat, bool)>,
    },
    /// One shard, or it is refused: EXPLAIN.
    Alone {
        inner: Box<Route>,
        what: &'static str,
        /// How a gather of it is explained; `No`: it is not.
        explain: Explain,
    },
    /// `/* pgherd: key=... distribution=... */`
    Hinted {
        distribution: usize,
        key: Vec<String>,
    },
}

impl Route {
    /// A shard that knows all relations of the statement, as far as one does.
    pub(crate) fn home(&self) -> ShardId {
        match self {
            Self::One(shard) | Self::Named(shard) => *shard,
            Self::Pinned(route) => route.fixed.unwrap_or(FIRST),
            Self::Insert(route) => route.found.fixed.first().copied().unwrap_or(FIRST),
            Self::Draw(route) => route.first().map_or(FIRST, Self::home),
            Self::Alone { inner, .. } | Self::Answered { inner, .. } => inner.home(),
            Self::Any
            | Self::Refuse(_)
            | Self::Copies { .. }
            | Self::Generate(_)
            | Self::CreateSequence
            | Self::CopyFrom(_)
            | Self::CopyTo { .. }
            | Self::Hinted { .. } => FIRST,
        }
    }
}

#[derive(Debug)]
pub(crate) struct PinnedRoute {
    pub(super) pins: Vec<Pin>,
    /// The shard of a table that is on one shard.
    pub(super) fixed: Option<ShardId>,
    /// What it does on several shards: the union, or why not.
    pub(super) several: Result<Combined, String>,
    /// Parameters used more than once, and not always as the same kind of key.
    pub(super) shared: Vec<usize>,
    /// How one server finishes the work, or why not.
    pub(super) gather: Result<GatherRoute, String>,
}

pub(super) fn bind(
    route: &Route,
    topology: &Topology,
    sql: &str,
    literals: &[Literal],
    params: Params<'_>,
    touched: &Touched,
) -> Result<Plan, Refusal> {
    match route {
        Route::Any => return Ok(Plan::Any),
        Route::One(shard) => return Ok(Plan::One(*shard)),
        Route::Named(shard) => {
            touched.note(Unit::EVERYTHING);
            return Ok(Plan::One(*shard));
        }
        Route::Refuse(refusal) => return Err(refusal.clone()),
        Route::CopyFrom(plan) => {
            let rows = plan.rows.as_ref();
            touched.note(rows.map_or(Unit::EVERYTHING, |rows| Unit::whole(rows.distribution)));
            return Ok(Plan::CopyFrom(CopyPlan::clone(plan)));
        }
        Route::CopyTo { format, header } => {
            touched.note(Unit::EVERYTHING);
            return Ok(Plan::CopyTo { shards: all(topology), format: *format, header: *header });
        }
        Route::Alone { .. }
        | Route::Answered { .. }
        | Route::Hinted { .. }
        | Route::Copies { .. }
        | Route::Pinned(_)
        | Route::Insert(_)
        | Route::Draw(_)
        | Route::CreateSequence
        | Route::Generate(_) => {}
    }
    let decoded = decoded(sql, literals);
    let values = Values { sql, literals, decoded: &decoded, params, touched };
    match route {
        Route::Pinned(route) => pinned(route, topology, values),
        Route::Insert(route) => insert(route, topology, values),
        Route::Generate(route) => generate(route, topology, values),
        Route::Draw(route) => route.bind(topology, values),
        Route::CreateSequence => create_sequence(topology, values),
        Route::Copies { first_alone, moments } => {
            touched.note(Unit::EVERYTHING);
            if *moments {
                same_moment(values)?;
            }
            Ok(Plan::Each(Each { shards: all(topology), combine: Combine::Same, first_alone: *first_alone }))
        }
        Route::Alone { inner, what, explain } => match bind(inner, topology, sql, literals, params, touched)?
        {
            plan @ (Plan::Any | Plan::One(_)) => Ok(plan),
            Plan::Each(Each { shards, combine: Combine::Union, .. }) if shards.len() == 1 => {
                Ok(Plan::One(shards[0]))
            }
            Plan::Gather(gather) if *explain != Explain::No => {
                Ok(Plan::Gather(Box::new(Gather { explain: *explain, ..*gather })))
            }
            plan @ (Plan::Each(_) | Plan::Merge(_)) if *explain != Explain::No => explained(plan, topology),
            Plan::Each(_)
            | Plan::Merge(_)
            | Plan::Explain(_)
            | Plan::Split { .. }
            | Plan::CopyFrom(_)
            | Plan::CopyTo { .. }
            | Plan::Draw(_)
            | Plan::Gather(_) => Err(on_more_than_one(what)),
        },
        Route::Answered { inner, what, answer, format } => {
            let plan = bind(inner, topology, sql, literals, params, touched)?;
            match (plan, format) {
                (plan @ (Plan::Any | Plan::One(_)), _) => Ok(plan),
                (Plan::Each(Each { shards, combine: Combine::Union, .. }), _) if shards.len() == 1 => {
                    Ok(Plan::One(shards[0]))
                }
                (Plan::Each(Each { shards, combine: Combine::Union, .. }), Some((format, header))) => {
                    Ok(Plan::CopyTo { shards, format: *format, header: *header })
                }
                (Plan::Gather(gather), _) => {
                    Ok(Plan::Gather(Box::new(Gather { answer: *answer, ..*gather })))
                }
                (Plan::Each(_) | Plan::Merge(_), _) => match &**inner {
                    Route::Pinned(route) => match gathered(route, topology, values)? {
                        Some(Plan::Gather(gather)) => {
                            Ok(Plan::Gather(Box::new(Gather { answer: *answer, ..*gather })))
                        }
                        _ => Err(on_more_than_one(what)),
                    },
                    _ => Err(on_more_than_one(what)),
                },
                _ => Err(on_more_than_one(what)),
            }
        }
        Route::Hinted { distribution, key } => hinted(topology, *distribution, key, touched),
        Route::Any
        | Route::One(_)
        | Route::Named(_)
        | Route::Refuse(_)
        | Route::CopyFrom(_)
        | Route::CopyTo { .. } => Ok(Plan::Any),
    }
}

fn create_sequence(topology: &Topology, values: Values<'_>) -> Result<Plan, Refusal> {
    values.touched.note(Unit::EVERYTHING);
    let tokens = tokens(values.sql);
    let word = |index: usize, text: &str| {
        tokens.get(index).is_some_and(|token| token.kind == TokenKind::Word && token.text == text)
    };
    let at = (0..tokens.len()).find(|index| word(*index, "sequence"));
    let Some(at) = at else { return Err(not_proven("The statement's text does not fit its plan.")) };
    let (head, tail) = values.sql.split_at(tokens[at].at.end as usize);
    let said = word(at + 1, "if") && word(at + 2, "not");
    let part = |shard: ShardId| {
        let sql = if shard == FIRST || said {
            values.sql.to_owned()
        } else {
            format!("{head} IF NOT EXISTS{tail}")
        };
        Part { shard, sql, params: Vec::new() }
    };
    Ok(Plan::Split { parts: all(topology).into_iter().map(part).collect(), combine: Combine::Union })
}

fn on_more_than_one(what: &str) -> Refusal {
    Refusal::unsupported(
        format!("cannot run {what} over several shards"),
        "Its rows are on more than one shard.",
        "Name one with a condition on the sharding key, or by hand: /* pgherd: shard=NAME */.",
    )
}

/// The plan of a statement, to be shown.
fn explained(plan: Plan, topology: &Topology) -> Result<Plan, Refusal> {
    let (shards, sql) = match &plan {
        Plan::Any | Plan::One(_) => return Ok(plan),
        Plan::Each(Each { shards, combine: Combine::Union | Combine::Aggregate(_), .. }) => {
            (shards.clone(), None)
        }
        Plan::Merge(merge) => (merge.shards.clone(), merge.sql.clone()),
        Plan::Each(_)
        | Plan::Split { .. }
        | Plan::Explain(_)
        | Plan::Gather(_)
        | Plan::Draw(_)
        | Plan::CopyFrom(_)
        | Plan::CopyTo { .. } => {
            return Err(Refusal::unsupported(
                "cannot run EXPLAIN over several shards",
                "Each shard would get a part of the statement, or do the same as the others.",
                "EXPLAIN it for one shard: /* pgherd: shard=NAME */, or ask pgherd explain.",
            ));
        }
    };
    let described = crate::describe(&plan, topology);
    // The text of a merge is EXPLAIN's own: its first line says what there is to say.
    let line = described.lines().next().unwrap_or("").to_owned();
    Ok(Plan::Explain(Shown { shards, sql, line }))
}

fn all(topology: &Topology) -> Vec<ShardId> {
    topology.all()
}

/// 'now' and 'today' are other moments on other servers.
fn same_moment(values: Values<'_>) -> Result<(), Refusal> {
    if any_moment(values) {
        return Err(not_proven("Each shard would evaluate a string such as 'now' or 'today' by itself."));
    }
    Ok(())
}

fn pinned(route: &PinnedRoute, topology: &Topology, values: Values<'_>) -> Result<Plan, Refusal> {
    let refusal = match streamed(route, topology, values) {
        Ok(plan) => return Ok(plan),
        Err(refusal) => refusal,
    };
    match gathered(route, topology, values)? {
        Some(plan) => Ok(plan),
        None => Err(refusal),
    }
}

/// PostgreSQL finishes it on one shard. `None`: it does not, and there is no more to be said of it.
fn gathered(route: &PinnedRoute, topology: &Topology, values: Values<'_>) -> Result<Option<Plan>, Refusal> {
    match &route.gather {
        Ok(gather) => {
            let pulled = |pin: usize| match route.pins.get(pin) {
                Some(pin) => match shards(pin, topology, values, &route.shared) {
                    Place::One(shard) => vec![shard],
                    Place::Some(shards) => shards,
                    Place::Anywhere => all(topology),
                },
                None => {
                    values.touched.note(Unit::EVERYTHING);
                    all(topology)
                }
            };
            gather.bind(topology, values, route.fixed, pulled).map(Some)
        }
        // What stands against a gather is the nearer reason, where one was looked for.
        Err(reason) if !reason.is_empty() => Err(not_proven(reason.clone())),
        Err(_) => Ok(None),
    }
}

fn streamed(route: &PinnedRoute, topology: &Topology, values: Values<'_>) -> Result<Plan, Refusal> {
    let mut one = route.fixed;
    let mut together = true;
    // Every shard that has rows of any mention: a UNION has one part here and another there. The first stays out of the list as
    // long as it is the only one: nearly every statement has one shard, and allocates nothing for it.
    let mut places: Vec<ShardId> = Vec::new();
    let mut first = None;
    for pin in &route.pins {
        match shards(pin, topology, values, &route.shared) {
            Place::One(found) => {
                match one {
                    None => one = Some(found),
                    Some(shard) => together &= shard == found,
                }
                if *first.get_or_insert(found) != found {
                    places.push(found);
                }
            }
            // No row has such a key: any shard says so.
            Place::Some(found) if found.is_empty() => {}
            Place::Some(found) => {
                together = false;
                places.extend(found);
            }
            Place::Anywhere => {
                together = false;
                places = all(topology);
            }
        }
    }
    if together {
        return Ok(Plan::One(one.unwrap_or(FIRST)));
    }
    let combined = match &route.several {
        Ok(combined) => combined,
        Err(reason) => return Err(not_proven(reason.clone())),
    };
    places.extend(first);
    places.sort_unstable();
    places.dedup();
    same_moment(values)?;
    let combine = match combined {
        Combined::Union => Combine::Union,
        Combined::Aggregates(aggregates) => Combine::Aggregate(aggregates.clone()),
        Combined::Merge(route) => return route.plan(places, values),
    };
    Ok(Plan::Each(Each { shards: places, combine, first_alone: false }))
}

/// The one shard on which everything that a statement reads besides its target must be.
fn elsewhere(
    found: &Found,
    topology: &Topology,
    values: Values<'_>,
    shared: &[usize],
    shard: ShardId,
) -> Result<(), Refusal> {
    let fixed = found.fixed.iter().all(|fixed| *fixed == shard);
    let there = |pin: &Pin| match shards(pin, topology, values, shared) {
        Place::One(found) => found == shard,
        Place::Some(found) => found.is_empty(),
        Place::Anywhere => false,
    };
    let pins = found.pins.iter().all(there);
    if fixed && pins {
        return Ok(());
    }
    Err(two_places("The rows it reads are not on the shard that it writes."))
}

fn insert(route: &InsertRoute, topology: &Topology, values: Values<'_>) -> Result<Plan, Refusal> {
    // The hot path: one row, and no list of places.
    if let [row] = route.rows.as_slice() {
        let Some(shard) = place(route, row, topology, values)? else { return Ok(Plan::One(FIRST)) };
        elsewhere(&route.found, topology, values, &route.shared, shard)?;
        return Ok(Plan::One(shard));
    }
    let mut places = Vec::with_capacity(route.rows.len());
    for row in &route.rows {
        let Some(shard) = place(route, row, topology, values)? else { return Ok(Plan::One(FIRST)) };
        places.push(shard);
    }
    let Some(first) = places.first().copied() else { return Err(not_proven("It inserts no row.")) };
    if places.iter().all(|shard| *shard == first) {
        elsewhere(&route.found, topology, values, &route.shared, first)?;
        return Ok(Plan::One(first));
    }
    may_split(route, values)?;
    split(route, values, &places)
}

/// Whether its rows may go to several shards.
fn may_split(route: &InsertRoute, values: Values<'_>) -> Result<(), Refusal> {
    if !route.found.pins.is_empty() || !route.found.fixed.is_empty() {
        return Err(two_places("Its rows belong to several shards, and it reads other tables."));
    }
    if let Some(reason) = &route.found.against_union {
        return Err(not_proven(reason.clone()));
    }
    if route.returning && route.on_conflict {
        return Err(not_proven("ON CONFLICT with RETURNING does not say which rows it returns."));
    }
    same_moment(values)?;
    let undeclared = |number: usize| values.params.types.get(number).copied().unwrap_or(0) == 0;
    if route.shared.iter().any(|number| undeclared(*number)) {
        return Err(not_proven(
            "A parameter without a type is used twice: its type comes from its first use.",
        ));
    }
    Ok(())
}

/// See [`crate::plan::Template::against_several`].
pub(super) fn against_several(
    route: &Route,
    sql: &str,
    literals: &[Literal],
    params: Params<'_>,
) -> Option<Refusal> {
    let Route::Insert(route) = route else { return None };
    let decoded = decoded(sql, literals);
    let nobody = Touched::default();
    may_split(route, Values { sql, literals, decoded: &decoded, params, touched: &nobody })
        .err()
        .filter(|_| route.rows.len() > 1)
}

/// Where a row goes. `None`: the server refuses it in its own words, and inserts nothing.
fn place(
    route: &InsertRoute,
    row: &[Constant],
    topology: &Topology,
    values: Values<'_>,
) -> Result<Option<ShardId>, Refusal> {
    let table = topology.tables.get(route.table);
    let name = table.map_or("", |table| table.name.as_str());
    let key_name = |position: usize| match table.map(|table| &table.placement) {
        Some(crate::topology::Placement::Sharded { key, .. }) => key.get(position).map_or("", String::as_str),
        _ => "",
    };
    let Some(distribution) = topology.distributions.get(route.distribution) else {
        return Err(not_proven("Its distribution is not known."));
    };
    let mut finder = distribution.rule.find();
    for (position, (constant, column)) in row.iter().zip(&route.key).enumerate() {
        match constant.stored(*column, values, is_shared(constant, &route.shared)) {
            Value::Key(value) => finder.add(Some(&value)),
            Value::Null if position == 0 && distribution.rule.takes_null() => finder.add(None),
            Value::Null => return Err(key_null(key_name(position), name)),
            Value::Invalid => return Ok(None),
            Value::Unknown => {
                return Err(key_missing(
                    key_name(position),
                    name,
                    "pgherd cannot tell what the server would store.",
                ));
            }
        }
    }
    values.touched.note(Unit::of(route.distribution, finder.slot()));
    finder.shard().map(Some).ok_or_else(|| match &*distribution.rule {
        Rule::Directory(_) => not_entered(&distribution.name),
        Rule::Hash(_) | Rule::Range(_) | Rule::List(_) => no_place(&distribution.name, name),
    })
}

/// The keys of an INSERT that its directory does not know, and the distribution.
pub(super) fn not_known(
    route: &Route,
    topology: &Topology,
    sql: &str,
    literals: &[Literal],
    params: Params<'_>,
) -> Option<(usize, Vec<KeyValue<'static>>)> {
    let route = match route {
        Route::Insert(route) => route,
        Route::Draw(route) => {
            return route.first().and_then(|first| not_known(first, topology, sql, literals, params));
        }
        _ => return None,
    };
    let distribution = topology.distributions.get(route.distribution)?;
    let Rule::Directory(directory) = &*distribution.rule else { return None };
    let decoded = decoded(sql, literals);
    let nobody = Touched::default();
    let values = Values { sql, literals, decoded: &decoded, params, touched: &nobody };
    let column = *route.key.first()?;
    let mut keys = Vec::new();
    for row in &route.rows {
        let constant = row.first()?;
        let Value::Key(value) = constant.stored(column, values, is_shared(constant, &route.shared)) else {
            return None;
        };
        if directory.get(&value).is_none() {
            keys.push(value.into_owned());
        }
    }
    Some((route.distribution, keys))
}

fn split(route: &InsertRoute, values: Values<'_>, places: &[ShardId]) -> Result<Plan, Refusal> {
    let tokens = tokens(values.sql);
    let rows = row_places(&tokens).filter(|rows| rows.len() == places.len());
    let Some(rows) = rows else { return Err(not_proven("The statement's text does not fit its plan.")) };
    let params = params(&tokens);
    let mut shards: Vec<ShardId> = places.to_vec();
    shards.sort_unstable();
    shards.dedup();
    let numbers = params.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
    let mut parts: Vec<Splice> = shards.iter().map(|shard| Splice::new(*shard, numbers)).collect();
    let mut empty = vec![true; parts.len()];
    let mut indexes = Vec::with_capacity(places.len());
    let start = rows.first().map_or(0, |row| row.start);
    let end = rows.last().map_or(0, |row| row.end);
    for part in &mut parts {
        part.append(&params, values.sql, 0..start);
    }
    for (row, shard) in rows.into_iter().zip(places) {
        let index = shards.binary_search(shard).unwrap_or(0);
        if !std::mem::replace(&mut empty[index], false) {
            parts[index].part.sql.push_str(", ");
        }
        parts[index].append(&params, values.sql, row);
        indexes.push(index as u16);
    }
    for part in &mut parts {
        part.append(&params, values.sql, end..values.sql.len() as u32);
    }
    let combine = if route.returning { Combine::Interleave(indexes) } else { Combine::Union };
    Ok(Plan::Split { parts: parts.into_iter().map(|splice| splice.part).collect(), combine })
}

/// A part being put together.
struct Splice {
    part: Part,
    /// For each parameter of the original: its new number, or 0.
    renumbered: Vec<u16>,
}

impl Splice {
    fn new(shard: ShardId, numbers: usize) -> Self {
        Self { part: Part { shard, sql: String::new(), params: Vec::new() }, renumbered: vec![0; numbers] }
    }

    /// Copies a piece of the text; parameters get the numbers they have in this part.
    fn append(&mut self, params: &[(usize, Range<u32>)], sql: &str, piece: Range<u32>) {
        let text = |from: u32, to: u32| sql.get(from as usize..to as usize).unwrap_or("");
        let mut at = piece.start;
        let first = params.partition_point(|(_, place)| place.start < piece.start);
        for (number, place) in params[first..].iter().take_while(|(_, place)| place.end <= piece.end) {
            self.part.sql.push_str(text(at, place.start));
            if self.renumbered[*number] == 0 {
                self.part.params.push(*number as u16);
                self.renumbered[*number] = self.part.params.len() as u16;
            }
            self.part.sql.push('$');
            self.part.sql.push_str(&self.renumbered[*number].to_string());
            at = place.end;
        }
        self.part.sql.push_str(text(at, piece.end));
    }
}

/// Ranges of slots in one condition; with more, a list is shorter work for the server.
const RANGES_MAX: usize = 24;

fn generate(route: &GenerateRoute, topology: &Topology, values: Values<'_>) -> Result<Plan, Refusal> {
    same_moment(values)?;
    // What it reads and what it writes.
    values.touched.note(Unit::EVERYTHING);
    let distribution = topology.distributions.get(route.distribution);
    let slot = distribution
        .and_then(|distribution| slot_sql(&distribution.types, &[&format!("c{}", route.key + 1)]));
    let owners = distribution.and_then(|distribution| match &*distribution.rule {
        Rule::Hash(owners) => Some(owners),
        Rule::Range(_) | Rule::List(_) | Rule::Directory(_) => None,
    });
    let (Some(owners), Some(slot)) = (owners, slot) else {
        return Err(not_proven(
            "INSERT ... SELECT is taken apart only where rows are placed by the hash of one column.",
        ));
    };
    let source = source_place(&tokens(values.sql)).map(|place| place.start as usize..place.end as usize);
    let texts = source.and_then(|place| Some((values.sql.get(..place.start)?, values.sql.get(place)?)));
    let Some((head, source)) = texts else {
        return Err(not_proven("The statement's text does not fit its plan."));
    };
    let columns: Vec<String> = (1..=route.columns).map(|number| format!("c{number}")).collect();
    let columns = columns.join(", ");
    let mut parts = Vec::new();
    for shard in all(topology) {
        let owned = ranges(owners, shard);
        let mine = match owned.len() {
            0 => continue,
            1..=RANGES_MAX => {
                let ranges: Vec<String> =
                    owned.iter().map(|(first, last)| format!("{slot} BETWEEN {first} AND {last}")).collect();
                ranges.join(" OR ")
            }
            _ => {
                let slots: Vec<String> = owned
                    .iter()
                    .flat_map(|(first, last)| *first..=*last)
                    .map(|slot| slot.to_string())
                    .collect();
                format!("{slot} = ANY ('{{{}}}'::pg_catalog.int8[])", slots.join(","))
            }
        };
        let sql = format!("{head}SELECT * FROM ({source}) AS pgherd_rows ({columns}) WHERE {mine}");
        parts.push(Part { shard, sql, params: Vec::new() });
    }
    Ok(Plan::Split { parts, combine: Combine::Union })
}

/// The slots of a shard, as inclusive ranges.
fn ranges(owners: &[ShardId], shard: ShardId) -> Vec<(usize, usize)> {
    debug_assert_eq!(owners.len(), SLOTS);
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (slot, _) in owners.iter().enumerate().filter(|(_, owner)| **owner == shard) {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => found.push((slot, slot)),
        }
    }
    found
}

fn hinted(
    topology: &Topology,
    distribution: usize,
    key: &[String],
    touched: &Touched,
) -> Result<Plan, Refusal> {
    // Nobody has looked which tables it names.
    touched.note(Unit::EVERYTHING);
    let types = topology.distributions.get(distribution).map_or(&[][..], |distribution| &distribution.types);
    let invalid =
        || Refusal::unsupported(ACROSS, "The key in the hint is not a value of the distribution's type.", "");
    if types.len() != key.len() {
        return Err(invalid());
    }
    let mut values = Vec::with_capacity(key.len());
    for (ty, text) in types.iter().zip(key) {
        values.push(KeyValue::from_text(*ty, text.as_bytes()).map_err(|_| invalid())?);
    }
    let rule = topology.distributions.get(distribution).map(|distribution| &distribution.rule);
    rule.and_then(|rule| rule.owner(&values)).map(Plan::One).ok_or_else(invalid)
}
