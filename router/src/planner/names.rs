//! What a name stands for: tables by the configuration and the facts, functions by what they may do.
//!
//! Invariant: a list here says what is *known*; a name on no list is treated as the worst it could be.

use crate::topology::{Placement, ShardId, Table, Topology};

/// What a relation's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// Index into `Topology::tables`.
    Sharded(usize),
    Reference(usize),
    /// On one shard: `{ shard = ... }`, not listed (the first shard), system catalogs.
    On(ShardId),
    /// A view over sharded or reference tables.
    Derived,
    /// Two configured tables in different schemas answer to it.
    Ambiguous,
}

pub(super) const FIRST: ShardId = ShardId(0);

/// The schema a configured table is known to be in.
pub(super) fn schema_of<'a>(topology: &'a Topology, index: usize, table: &'a Table) -> &'a str {
    let found = || topology.facts.tables.get(&index).map(|facts| facts.schema.as_str());
    table.schema.as_deref().or_else(found).unwrap_or("public")
}

pub(super) fn relation(topology: &Topology, qualifier: Option<&str>, name: &str) -> Relation {
    let mut matching = topology.tables.iter().enumerate().filter(|(index, table)| {
        table.name == name
            && qualifier.is_none_or(|qualifier| qualifier == schema_of(topology, *index, table))
    });
    match (matching.next(), matching.next()) {
        (Some(_), Some(_)) => Relation::Ambiguous,
        (Some(_), None) if qualifier.is_none() && topology.facts.elsewhere.contains(name) => {
            Relation::Ambiguous
        }
        (Some((index, table)), None) => match table.placement {
            Placement::Sharded { .. } => Relation::Sharded(index),
            Placement::Reference => Relation::Reference(index),
            Placement::Single(shard) => Relation::On(shard),
        },
        (None, _) => {
            let catalog = matches!(qualifier, Some("pg_catalog" | "information_schema"));
            if !catalog && topology.facts.derived_relations.contains(name) {
                Relation::Derived
            } else {
                Relation::On(FIRST)
            }
        }
    }
}

/// A name that, wherever it stands in a statement, calls for a closer look.
pub(super) fn is_spread(topology: &Topology, name: &str) -> bool {
    let configured = |table: &Table| table.name == name && !matches!(table.placement, Placement::Single(_));
    topology.tables.iter().any(configured) || topology.facts.derived_relations.contains(name)
}

/// A name of something that is not on the first shard, or not only there.
pub(super) fn is_elsewhere(topology: &Topology, name: &str) -> bool {
    let single = |table: &Table| matches!(table.placement, Placement::Single(shard) if shard != FIRST);
    is_spread(topology, name) || topology.tables.iter().any(|table| table.name == name && single(table))
}

pub(super) fn sharding(topology: &Topology, table: usize) -> Option<(usize, &[String])> {
    match &topology.tables.get(table)?.placement {
        Placement::Sharded { distribution, key } => Some((*distribution, key)),
        Placement::Reference | Placement::Single(_) => None,
    }
}

/// What a function does when several servers run it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    /// The same result on every server, for the same arguments and settings.
    Pure,
    /// A new value for each row, whoever computes it: random().
    PerRow,
    /// The result over all rows is not the result over each shard's rows.
    Aggregate,
    /// Reads only, but what each server sees or knows: now(), current_user, pg_table_size().
    PerServer,
    /// Draws from a sequence.
    Sequence,
    /// Anything else.
    Unknown,
}

pub(super) fn function(topology: &Topology, name: &str) -> Function {
    match builtin(name) {
        Function::Unknown if topology.facts.immutable_functions.contains(name) => Function::Pure,
        found => found,
    }
}

/// What PostgreSQL's own function of this name does.
pub(super) fn builtin(name: &str) -> Function {
    let known = |list: &[&str]| list.contains(&name);
    if known(SEQUENCES) {
        Function::Sequence
    } else if known(AGGREGATES) {
        Function::Aggregate
    } else if known(PER_ROW) {
        Function::PerRow
    } else if known(PER_SERVER) {
        Function::PerServer
    } else if known(PURE) {
        Function::Pure
    } else {
        Function::Unknown
    }
}

/// A function without parentheses: the word is reserved, so it is no column's name.
pub(super) fn is_value_function(word: &str) -> bool {
    matches!(
        word,
        "current_catalog"
            | "current_date"
            | "current_role"
            | "current_schema"
            | "current_time"
            | "current_timestamp"
            | "current_user"
            | "localtime"
            | "localtimestamp"
            | "session_user"
            | "system_user"
            | "user"
    )
}

/// Written by users: it may run any SQL inside. Built-in functions that take SQL as text are such, too.
pub(super) fn is_user_function(topology: &Topology, name: &str) -> bool {
    topology.facts.user_functions.contains(name) || RUNS_SQL.contains(&name)
}

const SEQUENCES: &[&str] = &["nextval", "currval", "setval", "lastval"];

const AGGREGATES: &[&str] = &[
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
    "every",
    "bit_and",
    "bit_or",
    "bit_xor",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "json_agg_strict",
    "jsonb_agg_strict",
    "json_object_agg_strict",
    "jsonb_object_agg_strict",
    "json_object_agg_unique",
    "jsonb_object_agg_unique",
    "json_arrayagg",
    "json_objectagg",
    "xmlagg",
    "range_agg",
    "range_intersect_agg",
    "any_value",
    "corr",
    "covar_pop",
    "covar_samp",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "variance",
    "var_pop",
    "var_samp",
    "mode",
    "percentile_cont",
    "percentile_disc",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "row_number",
    "ntile",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "nth_value",
    "grouping",
];

const PER_ROW: &[&str] = &["random", "gen_random_uuid", "uuid_generate_v4", "random_normal"];

/// Reads of what a server knows about itself, its session or its transaction. Volatile or not: they write nothing.
const PER_SERVER: &[&str] = &[
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "age",
    "current_user",
    "session_user",
    "user",
    "current_role",
    "system_user",
    "current_catalog",
    "current_schema",
    "current_schemas",
    "current_database",
    "current_query",
    "version",
    "pg_backend_pid",
    "inet_server_addr",
    "inet_server_port",
    "inet_client_addr",
    "inet_client_port",
    "current_setting",
    "pg_is_in_recovery",
    "pg_postmaster_start_time",
    "pg_conf_load_time",
    "pg_get_userbyid",
    "pg_table_is_visible",
    "pg_type_is_visible",
    "pg_function_is_visible",
    "pg_operator_is_visible",
    "pg_get_expr",
    "pg_get_indexdef",
    "pg_get_constraintdef",
    "pg_get_viewdef",
    "pg_get_ruledef",
    "pg_get_triggerdef",
    "pg_get_functiondef",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_serial_sequence",
    "pg_get_partkeydef",
    "pg_get_statisticsobjdef_columns",
    "pg_encoding_to_char",
    "pg_size_pretty",
    "pg_table_size",
    "pg_relation_size",
    "pg_total_relation_size",
    "pg_indexes_size",
    "pg_database_size",
    "pg_tablespace_location",
    "obj_description",
    "col_description",
    "shobj_description",
    "has_table_privilege",
    "has_schema_privilege",
    "has_database_privilege",
    "has_column_privilege",
    "has_function_privilege",
    "format_type",
    "to_regclass",
    "to_regtype",
    "array_to_string",
    "pg_typeof",
    "txid_current_if_assigned",
    "pg_current_wal_lsn",
    "pg_last_wal_replay_lsn",
    "pg_last_wal_receive_lsn",
];

/// Built-in functions that depend on nothing but their arguments and the session's settings (which pgherd keeps equal on
/// all servers), under every argument list that PostgreSQL knows.
const PURE: &[&str] = &[
    "abs",
    "ceil",
    "ceiling",
    "floor",
    "round",
    "trunc",
    "sign",
    "mod",
    "div",
    "power",
    "pow",
    "sqrt",
    "cbrt",
    "exp",
    "ln",
    "log",
    "log10",
    "gcd",
    "lcm",
    "degrees",
    "radians",
    "pi",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    "width_bucket",
    "factorial",
    "lower",
    "upper",
    "initcap",
    "length",
    "char_length",
    "character_length",
    "octet_length",
    "bit_length",
    "substr",
    "substring",
    "left",
    "right",
    "lpad",
    "rpad",
    "ltrim",
    "rtrim",
    "btrim",
    "trim",
    "replace",
    "translate",
    "repeat",
    "reverse",
    "position",
    "strpos",
    "split_part",
    "starts_with",
    "concat",
    "concat_ws",
    "format",
    "chr",
    "ascii",
    "md5",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "encode",
    "decode",
    "to_hex",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "regexp_replace",
    "regexp_match",
    "regexp_matches",
    "regexp_split_to_array",
    "regexp_split_to_table",
    "regexp_count",
    "regexp_like",
    "regexp_substr",
    "regexp_instr",
    "string_to_array",
    "array_length",
    "array_lower",
    "array_upper",
    "array_ndims",
    "array_append",
    "array_prepend",
    "array_cat",
    "array_remove",
    "array_replace",
    "array_position",
    "array_positions",
    "cardinality",
    "unnest",
    "generate_series",
    "generate_subscripts",
    "to_char",
    "to_number",
    "to_date",
    "to_timestamp",
    "date_trunc",
    "date_part",
    "date_bin",
    "extract",
    "make_date",
    "make_time",
    "make_timestamp",
    "make_timestamptz",
    "make_interval",
    "justify_days",
    "justify_hours",
    "justify_interval",
    "isfinite",
    "timezone",
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "overlay",
    "row",
    "num_nulls",
    "num_nonnulls",
    "json_build_object",
    "jsonb_build_object",
    "json_build_array",
    "jsonb_build_array",
    "to_json",
    "to_jsonb",
    "row_to_json",
    "array_to_json",
    "json_array_length",
    "jsonb_array_length",
    "json_extract_path",
    "jsonb_extract_path",
    "json_extract_path_text",
    "jsonb_extract_path_text",
    "json_typeof",
    "jsonb_typeof",
    "jsonb_set",
    "jsonb_insert",
    "jsonb_pretty",
    "json_strip_nulls",
    "jsonb_strip_nulls",
    "json_object_keys",
    "jsonb_object_keys",
    "json_each",
    "jsonb_each",
    "json_each_text",
    "jsonb_each_text",
    "json_array_elements",
    "jsonb_array_elements",
    "json_array_elements_text",
    "jsonb_array_elements_text",
    "jsonb_path_exists",
    "jsonb_path_query",
    "jsonb_path_query_array",
    "jsonb_path_query_first",
    "to_tsvector",
    "to_tsquery",
    "plainto_tsquery",
    "websearch_to_tsquery",
    "phraseto_tsquery",
    "ts_rank",
    "ts_rank_cd",
    "ts_headline",
    "setweight",
    "hashtext",
    "hashtextextended",
    "hashint8extended",
    "hashint4extended",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "isempty",
    "lower_inc",
    "upper_inc",
    "lower_inf",
    "upper_inf",
];

/// Built-in functions that run SQL given as text, or read whole tables by name.
const RUNS_SQL: &[&str] = &[
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xmlschema",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xmlschema",
    "database_to_xml_and_xmlschema",
    "cursor_to_xml",
    "ts_stat",
    "ts_rewrite",
    "crosstab",
    "connectby",
    "xpath_table",
];
