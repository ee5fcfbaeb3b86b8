//! What PostgreSQL does for a table besides what the statement says: triggers, rules, policies, code in defaults and checks.
//!
//! Invariant: what stands behind a table is harmless only when its text was read and has nothing in it that sees more than
//! the row, moves it to another shard, or differs from server to server where all must agree.

use super::classify::{calls_user_code, is_syntax, string};
use super::constant::names_a_moment;
use super::names::{self, Function, is_user_function, sharding};
use super::refuse;
use crate::lexer::{Token, TokenKind, tokens};
use crate::refusal::Refusal;
use crate::topology::{Behind, Event, Topology, TriggerFacts};

/// Whether a statement that does `event` to a sharded or reference table may run. `Some`: not over several shards, and why.
///
/// # Errors
/// Not on any shard.
pub(super) fn behind(topology: &Topology, table: usize, event: Event) -> Result<Option<String>, Refusal> {
    let Some(facts) = topology.facts.tables.get(&table).filter(|facts| !facts.behind.is_empty()) else {
        return Ok(None);
    };
    debug_assert!(facts.behind.len() < usize::from(u16::MAX));
    let mut seen = Vec::new();
    look(topology, table, event, &mut seen)
}

fn look(
    topology: &Topology,
    table: usize,
    event: Event,
    seen: &mut Vec<(usize, Event)>,
) -> Result<Option<String>, Refusal> {
    if seen.contains(&(table, event)) {
        return Ok(None);
    }
    seen.push((table, event));
    let (Some(facts), Some(known)) = (topology.facts.tables.get(&table), topology.tables.get(table)) else {
        return Ok(None);
    };
    let mut alone = None;
    for found in &facts.behind {
        let reason = match found {
            Behind::Trigger(of) if of.on.contains(&event) => trigger(topology, table, of, event)?,
            Behind::Rule { name, on } if on.contains(&event) => {
                return Err(refuse::behind(
                    "rule",
                    name,
                    &known.name,
                    "It would run on each shard by itself.",
                ));
            }
            Behind::Policy { name, text, beyond } => {
                let tokens = tokens(text);
                if *beyond || calls_user_code(topology, &tokens).is_some() {
                    let reason = "It looks at other rows, and may need those of other shards.";
                    return Err(refuse::behind("policy", name, &known.name, reason));
                }
                (agreement(topology, &tokens) == Agreement::None)
                    .then(|| format!("Each shard would evaluate policy \"{name}\" by itself."))
            }
            Behind::Calls { function } if matches!(event, Event::Insert | Event::Update) => {
                if is_user_function(topology, function) {
                    return Err(refuse::user_function(function));
                }
                None
            }
            Behind::Cascade { table, acts } => {
                let events: &[Event] = match event {
                    Event::Update | Event::Delete if *acts => &[Event::Update, Event::Delete],
                    Event::Truncate => &[Event::Truncate],
                    _ => &[],
                };
                let mut found = None;
                for event in events {
                    found = found.or(look(topology, *table, *event, seen)?);
                }
                found
            }
            Behind::Trigger(_) | Behind::Rule { .. } | Behind::Calls { .. } => None,
        };
        alone = alone.or(reason);
    }
    Ok(alone)
}

fn trigger(
    topology: &Topology,
    table: usize,
    of: &TriggerFacts,
    event: Event,
) -> Result<Option<String>, Refusal> {
    let name = topology.tables.get(table).map_or("", |table| table.name.as_str());
    let refused = |reason: &str| Err(refuse::behind("trigger", &of.name, name, reason));
    let condition = tokens(&of.condition);
    if is_user_function(topology, &of.function) || calls_user_code(topology, &condition).is_some() {
        return refused(
            "Its function may read or write other rows inside, and may need those of other shards.",
        );
    }
    let Some(source) = &of.source else {
        return refused("Its function is not written in PL/pgSQL: pgherd cannot see what it does.");
    };
    if !of.before_row {
        return Ok(None);
    }
    let source = tokens(source);
    let key = sharding(topology, table).map(|(_, key)| key);
    if let Some(key) = key
        && matches!(event, Event::Insert | Event::Update)
        && !leaves_alone(&source, key)
    {
        return refused("It may change the sharding key: the row would belong to another shard.");
    }
    let agreement = agreement(topology, &source).min(agreement(topology, &condition));
    match (key, agreement) {
        (_, Agreement::Same) | (Some(_), Agreement::PerRow) => Ok(None),
        (Some(_), Agreement::None) => {
            Ok(Some(format!("Each shard would evaluate trigger \"{}\" by itself.", of.name)))
        }
        (None, Agreement::PerRow | Agreement::None) => {
            refused("It may give every copy of a reference table another row.")
        }
    }
}

/// NEW is changed column by column only, and the key's columns are not even named.
fn leaves_alone(source: &[Token], key: &[String]) -> bool {
    source.iter().enumerate().all(|(index, token)| {
        if !is_name(token) {
            return !matches!(token.kind, TokenKind::Invalid);
        }
        let before = index.checked_sub(1).and_then(|before| source.get(before));
        let after = source.get(index + 1);
        let word = |token: Option<&Token>, text: &str| {
            token.is_some_and(|token| token.kind == TokenKind::Word && token.text == text)
        };
        let column_follows =
            after.is_some_and(|token| token.text == ".") && source.get(index + 2).is_some_and(is_name);
        let ends = after.is_none_or(|token| token.text == ";");
        match token.text.as_str() {
            "new" => column_follows || word(before, "return") && ends,
            // Another record than NEW.
            "return" if token.kind == TokenKind::Word => {
                (word(after, "new") || word(after, "old") || word(after, "null"))
                    && source.get(index + 2).is_none_or(|token| token.text == ";")
            }
            name => !key.iter().any(|key| key == name),
        }
    })
}

/// Whether servers that run the same code for the same row get the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Agreement {
    None,
    /// Another value for each row, wherever it is: random().
    PerRow,
    Same,
}

fn agreement(topology: &Topology, code: &[Token]) -> Agreement {
    let of = |(index, token): (usize, &Token)| {
        let after = |ahead: usize| code.get(index + ahead);
        if let Some(text) = string(token) {
            return if names_a_moment(&text) { Agreement::None } else { Agreement::Same };
        }
        match token.kind {
            TokenKind::Invalid => return Agreement::None,
            TokenKind::Word | TokenKind::Quoted => {}
            _ => return Agreement::Same,
        }
        let name = token.text.as_str();
        let bare = token.kind == TokenKind::Word;
        if !after(1).is_some_and(|token| token.text == "(" && token.kind == TokenKind::Punctuation) {
            let who = matches!(name, "current_user" | "session_user" | "current_role" | "user");
            let differs = bare && (names::is_value_function(name) && !who || name.starts_with("reg"));
            return if differs { Agreement::None } else { Agreement::Same };
        }
        if bare && (is_syntax(name) || matches!(name, "if" | "elsif" | "elseif" | "while" | "return")) {
            return Agreement::Same;
        }
        // A client's own setting is on every server what the client said.
        let own_setting = name == "current_setting"
            && after(2).and_then(string).is_some_and(|setting| setting.contains(&b'.'));
        match names::function(topology, name) {
            _ if own_setting => Agreement::Same,
            Function::Pure | Function::Aggregate => Agreement::Same,
            Function::PerRow => Agreement::PerRow,
            Function::PerServer | Function::Sequence | Function::Unknown => Agreement::None,
        }
    };
    code.iter().enumerate().map(of).min().unwrap_or(Agreement::Same)
}

fn is_name(token: &Token) -> bool {
    matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
}
