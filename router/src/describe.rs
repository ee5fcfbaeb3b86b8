//! A plan in words: `pgherd explain`, and what the tests compare.

use crate::plan::{Combine, CopyFormat, Each, GATHER_TABLES, Merge, Place, Plan, SortKey};
use crate::refusal::Refusal;
use crate::topology::{ShardId, Topology};

/// One line, or for a split one line more for each part.
pub fn describe(plan: &Plan, topology: &Topology) -> String {
    match plan {
        Plan::Any => "any shard".to_owned(),
        Plan::One(shard) => format!("one shard: {}", name(topology, *shard)),
        Plan::Each(Each { shards, combine, first_alone }) => {
            let first = if *first_alone { ", first alone" } else { "" };
            format!("each of {}: {}{first}", names(topology, shards), combined(combine))
        }
        Plan::Split { parts, combine } => {
            let mut text = format!("split: {}", combined(combine));
            for part in parts {
                text.push_str(&format!("\n  {}: {}", name(topology, part.shard), part.sql));
                if !part.params.is_empty() {
                    let numbers: Vec<String> =
                        part.params.iter().map(|number| format!("${}", number + 1)).collect();
                    text.push_str(&format!("  [{}]", numbers.join(", ")));
                }
            }
            text
        }
        Plan::Merge(merge) => merged(merge, topology),
        Plan::Explain(shown) => format!("explain: {}", shown.line),
        Plan::Gather(gather) => {
            let place = gather.scratch.map_or("any shard", |shard| name(topology, shard));
            let mut text = format!("gather on {place}");
            for (number, pull) in gather.pulls.iter().enumerate() {
                let shards = names(topology, &pull.shards);
                text.push_str(&format!("\n  {GATHER_TABLES}{} from {shards}: {}", number + 1, pull.select()));
                if !pull.params.is_empty() {
                    let numbers: Vec<String> =
                        pull.params.iter().map(|number| format!("${}", number + 1)).collect();
                    text.push_str(&format!("  [{}]", numbers.join(", ")));
                }
            }
            text.push_str(&format!("\n  then {}", gather.sql(GATHER_TABLES)));
            text
        }
        Plan::CopyFrom(copy) => match &copy.rows {
            None => format!("copy every row to {}", names(topology, &copy.shards)),
            Some(rows) => {
                let key: Vec<String> = rows.key.iter().map(|column| (column + 1).to_string()).collect();
                format!(
                    "copy rows to {} by column {} of {} ({})",
                    names(topology, &copy.shards),
                    key.join(", "),
                    rows.columns,
                    format(rows.format),
                )
            }
        },
        Plan::Draw(draw) if draw.sources.is_empty() => {
            format!("with its views\n  {}", draw.sql(std::iter::empty::<&str>()))
        }
        Plan::Draw(draw) => {
            let sources: Vec<&str> = draw.sources.iter().map(|source| source.sql.as_str()).collect();
            let gaps = draw.gaps.iter().map(|gap| format!("<{}>", gap + 1));
            format!("draw {}, then\n  {}", sources.join(", "), draw.sql(gaps))
        }
        Plan::CopyTo { shards, format: form, header } => {
            let header = if *header { ", one header" } else { "" };
            format!("copy out of {} ({}{header})", names(topology, shards), format(*form))
        }
    }
}

/// A refusal on one line, as psql shows it on several.
pub fn describe_refusal(refusal: &Refusal) -> String {
    let detail = refusal.detail.as_ref().map(|detail| format!(" -- {detail}")).unwrap_or_default();
    format!("refused {}: {}{detail}", refusal.sqlstate, refusal.message)
}

fn merged(merge: &Merge, topology: &Topology) -> String {
    let mut text = format!("each of {}: ", names(topology, &merge.shards));
    if merge.keys.is_empty() {
        text.push_str("rows");
    } else {
        let keys: Vec<String> = merge.keys.iter().map(sort_key).collect();
        text.push_str(&format!("merge by {}", keys.join(", ")));
    }
    if merge.offset > 0 {
        text.push_str(&format!(", offset {}", merge.offset));
    }
    if let Some(limit) = merge.limit {
        text.push_str(&format!(", limit {limit}{}", if merge.ties { " with ties" } else { "" }));
    }
    if let Some(sql) = &merge.sql {
        text.push_str(&format!("\n  {sql}"));
    }
    text
}

fn sort_key(key: &SortKey) -> String {
    let place = match key.place {
        Place::Start(column) => format!("column {}", column + 1),
        Place::End(column) => format!("column {} from the last", column),
        Place::Hidden(column) => format!("hidden column {}", column + 1),
    };
    let direction = if key.descending { " desc" } else { "" };
    let nulls = match (key.nulls_first, key.descending) {
        (true, false) => " nulls first",
        (false, true) => " nulls last",
        _ => "",
    };
    format!("{place}{direction}{nulls}")
}

fn name(topology: &Topology, shard: ShardId) -> &str {
    topology.shards.get(usize::from(shard.0)).map_or("?", String::as_str)
}

fn names(topology: &Topology, shards: &[ShardId]) -> String {
    shards.iter().map(|shard| name(topology, *shard)).collect::<Vec<_>>().join(", ")
}

fn combined(combine: &Combine) -> String {
    match combine {
        Combine::Union => "union".to_owned(),
        Combine::Same => "same".to_owned(),
        Combine::Aggregate(aggregates) => {
            let columns: Vec<String> =
                aggregates.iter().map(|aggregate| format!("{aggregate:?}").to_ascii_lowercase()).collect();
            format!("aggregate ({})", columns.join(", "))
        }
        Combine::Interleave(rows) => {
            let parts: Vec<String> = rows.iter().map(u16::to_string).collect();
            format!("rows from parts {}", parts.join(" "))
        }
    }
}

fn format(format: CopyFormat) -> &'static str {
    match format {
        CopyFormat::Text => "text",
        CopyFormat::Csv => "csv",
        CopyFormat::Binary => "binary",
    }
}
