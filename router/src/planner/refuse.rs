//! The refusals of planning, worded in one place.

use crate::refusal::Refusal;

/// How to say by hand where a statement belongs.
const BY_HAND: &str =
    "If it only reads, and one shard has all the rows it needs, name that shard: /* pgherd: shard=NAME */.";

pub(super) const ACROSS: &str = "cannot run this statement over several shards";

/// It names a sharded or reference table, and no plan is proven to give PostgreSQL's answer.
pub(super) fn not_proven(reason: impl Into<String>) -> Refusal {
    Refusal::unsupported(ACROSS, reason, BY_HAND)
}

pub(super) fn view(name: &str) -> Refusal {
    Refusal::unsupported(
        format!("cannot use \"{name}\" over several shards"),
        "It is a view, parent or partition of sharded or reference tables, and pgherd does not look inside it.",
        "Name the table itself, or write the view's query instead of its name.",
    )
}

pub(super) fn user_function(name: &str) -> Refusal {
    Refusal::unsupported(
        format!("cannot call function \"{name}\" in a sharded database"),
        "It may read or write sharded tables inside, where pgherd cannot see them.",
        BY_HAND,
    )
}

pub(super) fn user_code(what: &str) -> Refusal {
    Refusal::unsupported(
        format!("cannot run {what} in a sharded database"),
        "It may read or write sharded tables inside, where pgherd cannot see them.",
        BY_HAND,
    )
}

/// `kind`: trigger, rule, policy.
pub(super) fn behind(kind: &str, name: &str, table: &str, reason: &str) -> Refusal {
    Refusal::unsupported(
        format!("cannot use table \"{table}\" with {kind} \"{name}\" in a sharded database"),
        reason,
        format!("Drop the {kind}, or do its work in statements of the application's own."),
    )
}

pub(super) fn key_update(column: &str, table: &str) -> Refusal {
    Refusal::unsupported(
        format!("cannot update sharding key \"{column}\" of table \"{table}\""),
        "The row could belong to another shard.",
        "Delete the row and insert it with the new key.",
    )
}

pub(super) fn key_missing(column: &str, table: &str, reason: &str) -> Refusal {
    Refusal::unsupported(
        format!("sharding key \"{column}\" of table \"{table}\" must be a constant or a parameter"),
        reason,
        "Insert the key's value itself.",
    )
}

pub(super) fn key_null(column: &str, table: &str) -> Refusal {
    Refusal::unsupported(
        format!("sharding key \"{column}\" of table \"{table}\" must not be NULL"),
        "A row without a key belongs to no shard.",
        "",
    )
}

/// 23514, as of a row that no partition takes.
pub(super) fn no_place(distribution: &str, table: &str) -> Refusal {
    Refusal {
        detail: Some(format!("No range or list takes the sharding key of the row for table \"{table}\".")),
        hint: Some("See SHOW PLACEMENT in the console.".to_owned()),
        ..crate::refusal::no_shard(distribution)
    }
}

/// 23514: nobody has said where this key belongs.
pub(super) fn not_entered(distribution: &str) -> Refusal {
    Refusal {
        detail: Some("The directory does not have its sharding key.".to_owned()),
        hint: Some("Enter it in pgherd.directory on the catalog shard, or set new_keys.".to_owned()),
        ..crate::refusal::no_shard(distribution)
    }
}

/// Why what calls nextval cannot run wherever the rows are.
pub(super) const FIRST_SHARDS: &str =
    "Sequences are the first shard's: another one would give the same number twice.";

pub(super) fn sequence(column: &str, table: &str) -> Refusal {
    Refusal::unsupported(
        format!("cannot draw column \"{column}\" of table \"{table}\" from a sequence"),
        "Only INSERT ... VALUES draws from the first shard's sequence, for a number whose default is nextval and nothing else.",
        "Insert the column's value itself: SELECT nextval(...) gives the first shard's.",
    )
}

pub(super) fn two_places(detail: &str) -> Refusal {
    Refusal::unsupported(ACROSS, detail, "Read one table first, then use its rows in a second statement.")
}

pub(super) fn no_such_relation(name: &str) -> Refusal {
    Refusal {
        sqlstate: "42P01",
        message: format!("relation \"{name}\" does not exist"),
        detail: Some(
            "pgherd has no facts about this table from the servers, so it cannot place its rows.".into(),
        ),
        hint: Some(
            "If it was created past pgherd, wait a minute: the servers' schema is read again every 60 seconds.".into(),
        ),
    }
}

pub(super) fn ddl(reason: impl Into<String>) -> Refusal {
    Refusal::unsupported("cannot run this command in a sharded database", reason, BY_HAND)
}

pub(super) fn syntax(near: &str) -> Refusal {
    Refusal {
        sqlstate: "42601",
        message: format!("syntax error at or near \"{near}\""),
        detail: None,
        hint: None,
    }
}

/// In PostgreSQL's words.
pub(super) fn uneven_values() -> Refusal {
    Refusal {
        sqlstate: "42601",
        message: "VALUES lists must all be the same length".into(),
        detail: None,
        hint: None,
    }
}

pub(super) fn unknown_shard(name: &str) -> Refusal {
    Refusal {
        sqlstate: "42704",
        message: format!("shard \"{name}\" does not exist"),
        detail: None,
        hint: Some("The shards are those of pgherd's configuration file.".into()),
    }
}
