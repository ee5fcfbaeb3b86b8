//! Column facts, views and functions, from the first shard's own catalogs.
//!
//! Invariant: what is not found is absent, and the router refuses what would depend on it.

use std::collections::{BTreeMap, HashMap, HashSet};

use pgherd_router::topology::{
    Behind, ColumnFacts, Event, Facts, Identity, Placement, Table, TableFacts, TriggerFacts, ViewFacts,
};

use super::Problem;
use crate::database::Database;
use crate::session::settings::literal;

/// The first shard: unlisted tables, views and functions live there, and every sharded or reference table does too.
pub const FIRST: usize = 0;

/// Answers statements from the first shard's catalogs: by a control connection, or inside a client's transaction.
pub trait Catalogs {
    fn rows(&mut self, sql: &str) -> impl Future<Output = Result<Rows, Problem>>;

    /// Transactions of its own may be begun there.
    fn is_own(&self) -> bool {
        false
    }
}

/// As text; `None`: NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// # Errors
/// What the first shard said, or that it could not be asked.
pub async fn load(db: &Database, catalogs: &mut impl Catalogs) -> Result<Facts, Problem> {
    let tables = db.tables();
    let mut facts = Facts::default();
    let wanted: Vec<String> = tables
        .iter()
        .enumerate()
        .filter(|(_, t)| !matches!(t.placement, Placement::Single(shard) if shard.0 as usize != FIRST))
        .map(|(i, t)| {
            let schema = t.schema.as_ref().map_or("NULL".into(), |s| literal(s));
            let spread = !matches!(t.placement, Placement::Single(_));
            let copied = matches!(t.placement, Placement::Reference);
            format!("({i}, {schema}::text, {}::text, {spread}, {copied})", literal(&t.name))
        })
        .collect();
    if wanted.is_empty() {
        return Ok(facts);
    }
    // A table without a configured schema may stand in any schema of the application; "public" comes first.
    let wanted = format!(
        "WITH wanted (i, schema, name, spread, copied) AS (VALUES {}),
         found AS (SELECT DISTINCT ON (w.i) w.i, w.spread, w.copied, c.oid, n.nspname
                   FROM wanted w JOIN pg_catalog.pg_class c ON c.relname = w.name AND c.relkind IN ('r', 'p')
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                   WHERE (w.schema IS NULL AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgherd') AND n.nspname !~ '^pg_')
                      OR n.nspname = w.schema
                   ORDER BY w.i, n.nspname <> 'public', n.nspname)",
        wanted.join(", ")
    );

    let columns = format!(
        "{wanted}
         SELECT f.i, f.nspname, a.attname,
                CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END,
                pg_catalog.format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL),
                CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
                a.attnotnull,
                a.attidentity <> '' OR COALESCE(d.adbin::text ~ 'NEXTVALUEEXPR' OR used.sequence, false),
                COALESCE(d.adbin::text ~ 'SQLVALUEFUNCTION' OR used.volatile, false),
                a.attgenerated <> '',
                COALESCE(NOT l.collisdeterministic, false),
                COALESCE(l.collnamespace = 'pg_catalog'::pg_catalog.regnamespace AND l.collname IN ('C', 'POSIX')
                         OR l.collname = 'default' AND own.datcollate IN ('C', 'POSIX')
                            AND COALESCE(pg_catalog.to_jsonb(own) ->> 'datlocprovider', 'c') = 'c', false),
                a.attidentity, drawn.name,
                CASE WHEN a.attgenerated = '' AND a.atttypmod = -1 AND t.typtype = 'b'
                       AND t.oid IN (16, 20, 21, 23, 25, 1043, 1082, 1114, 1184, 1700, 2950, 3802)
                       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d3
                                       WHERE d3.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d3.objid = d.oid AND d3.refobjid <> a.attrelid)
                     THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END
         FROM found f JOIN pg_catalog.pg_attribute a ON a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         JOIN pg_catalog.pg_database own ON own.datname = pg_catalog.current_database()
         LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
         LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         LEFT JOIN LATERAL (SELECT bool_or(p.proname = 'nextval') AS sequence, bool_or(p.provolatile <> 'i' AND p.proname <> 'nextval') AS volatile
                            FROM regexp_matches(d.adbin::text, ':(?:funcid|opfuncid) (\\d+)', 'g') AS m (id)
                            JOIN pg_catalog.pg_proc p ON p.oid = m.id[1]::oid) used ON true
         LEFT JOIN LATERAL (SELECT pg_catalog.quote_ident(sn.nspname) || '.' || pg_catalog.quote_ident(s.relname) AS name
                            FROM pg_catalog.pg_class s JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
                            WHERE s.relkind = 'S' AND CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END IN (20, 21, 23, 1700)
                              AND s.oid IN (
                                  SELECT d1.objid FROM pg_catalog.pg_depend d1
                                  WHERE a.attidentity <> '' AND d1.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d1.refobjid = a.attrelid
                                    AND d1.refobjsubid = a.attnum AND d1.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d1.deptype = 'i'
                                  UNION ALL
                                  SELECT d2.refobjid FROM pg_catalog.pg_depend d2
                                  WHERE a.attidentity = '' AND d2.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d2.objid = d.oid
                                    AND d2.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                                    AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~ '^nextval\\(''([^'']|'''')*''::regclass\\)$')
                            LIMIT 1) drawn ON true
         ORDER BY f.i, a.attnum"
    );
    for row in catalogs.rows(&columns).await? {
        let [Some(i), Some(schema), Some(name), Some(oid), Some(type_name), Some(modifier), flags @ ..] =
            &row[..]
        else {
            return Err("a column's facts cannot be read".into());
        };
        let flag = |n: usize| flags.get(n).and_then(|f| f.as_deref()) == Some("t");
        let table = facts
            .tables
            .entry(i.parse()?)
            .or_insert_with(|| TableFacts { schema: schema.clone(), ..TableFacts::default() });
        table.columns.push(ColumnFacts {
            name: name.clone(),
            type_oid: oid.parse()?,
            type_name: type_name.clone(),
            type_modifier: modifier.parse()?,
            not_null: flag(0),
            from_sequence: flag(1),
            sequence: flags.get(7).cloned().flatten(),
            identity: match flags.get(6).and_then(|identity| identity.as_deref()) {
                Some("a") => Identity::Always,
                Some("d") => Identity::ByDefault,
                _ => Identity::No,
            },
            default_not_immutable: flag(2),
            default: flags.get(8).cloned().flatten(),
            generated: flag(3),
            nondeterministic_collation: flag(4),
            c_collation: flag(5),
        });
    }

    let elsewhere = format!(
        "{wanted}
         SELECT DISTINCT c.relname, '' FROM found f JOIN pg_catalog.pg_class own ON own.oid = f.oid
         JOIN pg_catalog.pg_class c ON c.relname = own.relname AND c.oid <> own.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgherd') AND n.nspname !~ '^pg_'"
    );
    for (name, _) in pairs(catalogs.rows(&elsewhere).await?)? {
        facts.elsewhere.insert(name);
    }

    let keys = format!(
        "{wanted}
         SELECT f.i, a.attname FROM found f JOIN pg_catalog.pg_constraint k ON k.conrelid = f.oid AND k.contype = 'p'
         CROSS JOIN LATERAL unnest(k.conkey) WITH ORDINALITY AS c (attnum, place)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = f.oid AND a.attnum = c.attnum ORDER BY f.i, c.place"
    );
    for (i, column) in pairs(catalogs.rows(&keys).await?)? {
        if let Some(table) = facts.tables.get_mut(&i.parse()?) {
            table.primary_key.push(column);
        }
    }

    let indexes = format!(
        "{wanted}
         SELECT c.relname, f.i FROM found f JOIN pg_catalog.pg_index x ON x.indrelid = f.oid
         JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid AND NOT pg_catalog.starts_with(c.relname::text, '{}')",
        crate::moves::INDEX
    );
    let mut by_name = HashMap::new();
    for (name, i) in pairs(catalogs.rows(&indexes).await?)? {
        by_name.insert(name, i.parse()?);
    }
    facts.indexes = by_name;

    let derived = format!(
        "WITH RECURSIVE {},
         reads (oid) AS (
             SELECT oid FROM found WHERE spread
             UNION
             SELECT r.ev_class FROM reads
             JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = reads.oid
                                        AND d.classid = 'pg_catalog.pg_rewrite'::regclass
             JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid)
         SELECT c.relname, '' FROM reads JOIN pg_catalog.pg_class c ON c.oid = reads.oid AND c.relkind IN ('v', 'm')",
        wanted.trim_start_matches("WITH ")
    );
    for (name, _) in pairs(catalogs.rows(&derived).await?)? {
        facts.derived_relations.insert(name);
    }

    if catalogs.is_own() {
        views(&wanted, &mut facts, catalogs).await?;
    }

    // A parent has its children's rows, on every shard; a child is a part of its parent.
    let relatives = format!(
        "{wanted}
         SELECT DISTINCT c.relname, '' FROM found f
         JOIN pg_catalog.pg_inherits i ON f.spread AND f.oid IN (i.inhrelid, i.inhparent)
         JOIN pg_catalog.pg_class c ON c.oid IN (i.inhrelid, i.inhparent) AND c.oid <> f.oid AND c.relkind IN ('r', 'p', 'f')"
    );
    for (name, _) in pairs(catalogs.rows(&relatives).await?)? {
        facts.derived_relations.insert(name);
    }

    behind(&wanted, &mut facts, catalogs).await?;
    by_shard(&wanted, &tables, &mut facts, catalogs).await?;

    // An aggregate is what its functions are; a body in SQL-standard form has no source.
    let functions = "
         SELECT p.proname, concat_ws(' ',
                CASE WHEN p.prokind <> 'a' AND l.lanname NOT IN ('sql', 'plpgsql') THEN 'execute' END,
                CASE WHEN p.prokind <> 'a' AND to_jsonb(p) ->> 'prosqlbody' IS NOT NULL THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END,
                a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
         JOIN pg_catalog.pg_language l ON l.oid = p.prolang LEFT JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid
         WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgherd')
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                           WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')";
    facts.user_functions = opaque(pairs(catalogs.rows(functions).await?)?);

    let immutable = "SELECT proname, '' FROM pg_catalog.pg_proc GROUP BY proname HAVING bool_and(provolatile = 'i' AND prokind = 'f')";
    for (name, _) in pairs(catalogs.rows(immutable).await?)? {
        // Called immutable, and reads a table all the same: over one server's rows it would even be right.
        if !facts.user_functions.contains(&name) {
            facts.immutable_functions.insert(name);
        }
    }
    Ok(facts)
}

/// The queries of views. A name is printed in full only where the search path does not have it.
async fn views(wanted: &str, facts: &mut Facts, catalogs: &mut impl Catalogs) -> Result<(), Problem> {
    if facts.derived_relations.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "BEGIN READ ONLY; SET LOCAL search_path = '';
         WITH RECURSIVE {},
         reads (oid) AS (
             SELECT oid FROM found WHERE spread
             UNION
             SELECT r.ev_class FROM reads
             JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = reads.oid
                                        AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
             JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid)
         SELECT c.relname, n.nspname, pg_catalog.pg_get_viewdef(c.oid)
         FROM reads JOIN pg_catalog.pg_class c ON c.oid = reads.oid AND c.relkind = 'v' JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class o JOIN pg_catalog.pg_namespace m ON m.oid = o.relnamespace
                           WHERE o.relname = c.relname AND o.oid <> c.oid AND o.relkind IN ('r', 'p', 'v', 'm', 'f')
                             AND m.nspname NOT IN ('pg_catalog', 'information_schema') AND m.nspname !~ '^pg_')
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d
                               ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                           JOIN pg_catalog.pg_class t ON t.oid = d.refobjid WHERE r.ev_class = c.oid AND t.relrowsecurity);
         COMMIT",
        wanted.trim_start_matches("WITH ")
    );
    let rows = match catalogs.rows(&sql).await {
        Ok(rows) => rows,
        Err(problem) => {
            // Its transaction is not over.
            let _ = catalogs.rows("ROLLBACK").await;
            return Err(problem);
        }
    };
    for row in rows {
        let Ok([Some(name), Some(schema), Some(text)]) = <[Option<String>; 3]>::try_from(row) else {
            return Err("a row of the servers' catalogs cannot be read".into());
        };
        let text = text.trim().trim_end_matches(';').to_owned();
        facts.views.insert(name, ViewFacts { schema, text });
    }
    Ok(())
}

/// What PostgreSQL does for sharded and reference tables unseen. Internal triggers are those of foreign keys; PostgreSQL's own
/// trigger functions (tsvector_update_trigger, suppress_redundant_updates_trigger) see nothing but their row.
async fn behind(wanted: &str, facts: &mut Facts, catalogs: &mut impl Catalogs) -> Result<(), Problem> {
    let members = format!(
        "WITH RECURSIVE {},
         members (i, oid) AS (
             SELECT i, oid FROM found WHERE spread
             UNION SELECT m.i, h.inhrelid FROM members m JOIN pg_catalog.pg_inherits h ON h.inhparent = m.oid)",
        wanted.trim_start_matches("WITH ")
    );
    let mut add = |i: &str, found: Behind| -> Result<(), Problem> {
        if let Some(table) = facts.tables.get_mut(&i.parse()?) {
            table.behind.push(found);
        }
        Ok(())
    };
    let unread = || Problem::from("a row of the servers' catalogs cannot be read");

    let triggers = format!(
        "{members}
         SELECT DISTINCT m.i, t.tgname, t.tgtype, p.proname, CASE l.lanname WHEN 'plpgsql' THEN p.prosrc END,
                COALESCE(substring(pg_catalog.pg_get_triggerdef(t.oid) FROM ' WHEN \\((.*)\\) EXECUTE (?:FUNCTION|PROCEDURE) '), '')
         FROM members m JOIN pg_catalog.pg_trigger t ON t.tgrelid = m.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgname <> '{}'
         JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_language l ON l.oid = p.prolang
         WHERE p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace OR t.tgqual IS NOT NULL
         ORDER BY m.i, t.tgname",
        crate::moves::TRIGGER
    );
    for row in catalogs.rows(&triggers).await? {
        let Ok([Some(i), Some(name), Some(bits), Some(function), source, Some(condition)]) =
            <[Option<String>; 6]>::try_from(row)
        else {
            return Err(unread());
        };
        // pg_trigger.h, TRIGGER_TYPE_*
        let bits: u16 = bits.parse()?;
        let events = [(4, Event::Insert), (8, Event::Delete), (16, Event::Update), (32, Event::Truncate)];
        let on = events.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, event)| event).collect();
        let before_row = bits & 1 != 0 && bits & 2 != 0;
        add(&i, Behind::Trigger(TriggerFacts { name, on, before_row, function, source, condition }))?;
    }

    let rules = format!(
        "{members}
         SELECT DISTINCT m.i, r.rulename, r.ev_type FROM members m
         JOIN pg_catalog.pg_rewrite r ON r.ev_class = m.oid AND r.ev_type <> '1' AND r.ev_enabled <> 'D' ORDER BY m.i, r.rulename"
    );
    for row in catalogs.rows(&rules).await? {
        let Ok([Some(i), Some(name), Some(event)]) = <[Option<String>; 3]>::try_from(row) else {
            return Err(unread());
        };
        let on = match event.as_str() {
            "2" => Event::Update,
            "3" => Event::Insert,
            _ => Event::Delete,
        };
        add(&i, Behind::Rule { name, on: vec![on] })?;
    }

    let policies = format!(
        "{members}
         SELECT f.i, p.polname,
                concat_ws(' AND ', pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)),
                EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.objid = p.oid
                          AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> p.polrelid
                          AND d.refobjid NOT IN (SELECT oid FROM found WHERE copied))
         FROM found f JOIN pg_catalog.pg_class c ON c.oid = f.oid AND c.relrowsecurity AND f.spread
         JOIN pg_catalog.pg_policy p ON p.polrelid = f.oid ORDER BY f.i, p.polname"
    );
    for row in catalogs.rows(&policies).await? {
        let Ok([Some(i), Some(name), Some(text), Some(beyond)]) = <[Option<String>; 4]>::try_from(row) else {
            return Err(unread());
        };
        add(&i, Behind::Policy { name, text, beyond: beyond == "t" })?;
    }

    let calls = format!(
        "{members},
         code (rel, class, oid) AS (
             SELECT adrelid, 'pg_catalog.pg_attrdef'::regclass, oid FROM pg_catalog.pg_attrdef
             UNION ALL SELECT conrelid, 'pg_catalog.pg_constraint'::regclass, oid FROM pg_catalog.pg_constraint WHERE contype = 'c'
             UNION ALL SELECT a.attrelid, 'pg_catalog.pg_constraint'::regclass, k.oid
                       FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_constraint k ON k.contypid = a.atttypid
             UNION ALL SELECT indrelid, 'pg_catalog.pg_class'::regclass, indexrelid FROM pg_catalog.pg_index)
         SELECT DISTINCT m.i, p.proname FROM members m JOIN code c ON c.rel = m.oid
         JOIN pg_catalog.pg_depend d ON d.classid = c.class AND d.objid = c.oid AND d.refclassid = 'pg_catalog.pg_proc'::regclass
         JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid ORDER BY m.i, p.proname"
    );
    for (i, function) in pairs(catalogs.rows(&calls).await?)? {
        add(&i, Behind::Calls { function })?;
    }

    let cascades = format!(
        "{members}
         SELECT own.i, other.i, bool_or(k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
         FROM pg_catalog.pg_constraint k JOIN members own ON own.oid = k.confrelid JOIN members other ON other.oid = k.conrelid
         WHERE k.contype = 'f' GROUP BY own.i, other.i ORDER BY own.i, other.i"
    );
    for row in catalogs.rows(&cascades).await? {
        let Ok([Some(i), Some(table), Some(acts)]) = <[Option<String>; 3]>::try_from(row) else {
            return Err(unread());
        };
        add(&i, Behind::Cascade { table: table.parse()?, acts: acts == "t" })?;
    }
    Ok(())
}

/// Constraints of sharded tables that no shard can keep for the others.
async fn by_shard(
    wanted: &str,
    tables: &[Table],
    facts: &mut Facts,
    catalogs: &mut impl Catalogs,
) -> Result<(), Problem> {
    // A row for each column that is compared for equality; an expression has no column.
    let sql = format!(
        "{wanted}
         SELECT f.i, CASE WHEN x.indisexclusion THEN 'exclusion' ELSE 'unique' END, c.relname,
                CASE WHEN o.oprname IS NULL OR o.oprname = '=' THEN a.attname END
         FROM found f JOIN pg_catalog.pg_index x ON x.indrelid = f.oid AND (x.indisunique OR x.indisexclusion) AND f.spread AND NOT f.copied
         JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
         LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = x.indexrelid AND k.contype = 'x'
         CROSS JOIN LATERAL unnest(x.indkey::pg_catalog.int2[]) WITH ORDINALITY AS n (attnum, place)
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = f.oid AND a.attnum = n.attnum AND n.attnum > 0
         LEFT JOIN pg_catalog.pg_operator o ON o.oid = k.conexclop[n.place]
         WHERE n.place <= x.indnkeyatts ORDER BY f.i, c.relname"
    );
    let mut found: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
    for row in catalogs.rows(&sql).await? {
        let Ok([Some(i), Some(kind), Some(name), column]) = <[Option<String>; 4]>::try_from(row) else {
            return Err("a row of the servers' catalogs cannot be read".into());
        };
        found.entry((i.parse()?, format!("{kind} constraint \"{name}\""))).or_default().extend(column);
    }
    for ((i, name), columns) in found {
        let kept = match tables.get(i).map(|table| &table.placement) {
            Some(Placement::Sharded { key, .. }) => key.iter().all(|key| columns.contains(key)),
            _ => true,
        };
        if let (false, Some(table)) = (kept, facts.tables.get_mut(&i)) {
            table.by_shard.push(name);
        }
    }
    Ok(())
}

/// Says once what the operator may not expect: the constraints of `new` that were not in `old`.
pub fn warn(db: &Database, old: &Facts, new: &Facts) {
    let tables = db.tables();
    for (i, table) in new.tables.iter().filter(|(_, table)| !table.by_shard.is_empty()) {
        if old.tables.get(i).is_some_and(|old| old.by_shard == table.by_shard) {
            continue;
        }
        let name = tables.get(*i).map_or("", |table| table.name.as_str());
        tracing::warn!(
            database = %db.name,
            table = name,
            constraints = %table.by_shard.join(", "),
            "holds on each shard by itself: the sharding key is not in it"
        );
    }
}

fn pairs(rows: Vec<Vec<Option<String>>>) -> Result<Vec<(String, String)>, Problem> {
    rows.into_iter()
        .map(|row| match <[Option<String>; 2]>::try_from(row) {
            Ok([Some(a), Some(b)]) => Ok((a, b)),
            _ => Err("a row of the servers' catalogs cannot be read".into()),
        })
        .collect()
}

/// Words of a function's source with which it may reach beyond its arguments: tables, sequences, the session, other SQL.
const REACHES: &[&str] = &[
    "call",
    "copy",
    "currval",
    "cursor_to_xml",
    "delete",
    "execute",
    "from",
    "insert",
    "join",
    "lastval",
    "listen",
    "lock",
    "merge",
    "nextval",
    "notify",
    "pg_notify",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "set_config",
    "setval",
    "table",
    "truncate",
    "ts_rewrite",
    "ts_stat",
    "update",
];

/// Prefixes of such words.
const REACHING: &[&str] =
    &["database_to_xml", "dblink", "lo_", "pg_advisory", "pg_try_advisory", "schema_to_xml", "table_to_xml"];

/// Names of the functions (name, source) that may reach beyond their arguments, by themselves or through each other. A word in
/// a comment or string counts, too: rather too many than too few.
fn opaque(functions: Vec<(String, String)>) -> HashSet<String> {
    let reaches =
        |word: &str| REACHES.contains(&word) || REACHING.iter().any(|start| word.starts_with(start));
    let mut left: Vec<(String, HashSet<String>)> = functions
        .into_iter()
        .map(|(name, source)| {
            let words = source.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
            (name, words.map(str::to_lowercase).collect())
        })
        .collect();
    let mut found: HashSet<String> = HashSet::new();
    // As words of a source; a name with anything else in it may stand in any source.
    let mut called: HashSet<String> = HashSet::new();
    let mut anywhere = false;
    loop {
        let before = found.len();
        left.retain(|(name, words)| {
            let opaque = anywhere
                || found.contains(name)
                || words.iter().any(|word| reaches(word) || called.contains(word));
            if opaque {
                anywhere |= !name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
                called.insert(name.to_lowercase());
                found.insert(name.clone());
            }
            !opaque
        });
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_may_reach_a_table_is_opaque_and_so_are_its_callers() {
        let functions = [
            ("twice", "SELECT $1 * 2"),
            ("stamp", "BEGIN NEW.at := now(); RETURN NEW; END"),
            ("counts", "SELECT count(*) FROM orders"),
            ("calls_counts", "BEGIN RETURN counts() + 1; END"),
            ("calls_the_caller", "SELECT Calls_Counts()"),
            ("draws", "SELECT nextval('s')"),
            ("dynamic", "BEGIN EXECUTE 'x'; END"),
            ("in_python", "execute plpy.execute(...)"),
            ("sums", " int4pl"),
            ("sums_counts", " counts"),
            ("locks", "SELECT pg_advisory_xact_lock($1)"),
            ("overloaded", "SELECT 1"),
            ("overloaded", "TABLE orders"),
        ];
        let found = opaque(functions.map(|(name, source)| (name.into(), source.into())).to_vec());
        let mut found: Vec<&str> = found.iter().map(String::as_str).collect();
        found.sort_unstable();
        let expected = [
            "calls_counts",
            "calls_the_caller",
            "counts",
            "draws",
            "dynamic",
            "in_python",
            "locks",
            "overloaded",
            "sums_counts",
        ];
        assert_eq!(found, expected);
    }
}
