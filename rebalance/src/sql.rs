//! Where a row belongs, in SQL: so that a server can find the rows of a unit, and check its own.
//!
//! Invariant: a condition made here holds for exactly the rows whose key [`pgherd_router::rule::Rule`] puts there. Only built-in
//! immutable functions and operators stand in it.
//!
//! Start reading at [`Keyed`].

use pgherd_config::KeyType;
use pgherd_router::hash::slot_sql;
use pgherd_router::topology::SLOTS;
use pgherd_router::value::type_name;

use crate::placement::{Part, Record};
use crate::plan::Unit;

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Escapes stand in a string of the escaping kind only, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// A distribution, seen from one of its tables.
#[derive(Debug, Clone, Copy)]
pub struct Keyed<'a> {
    pub record: &'a Record,
    pub types: &'a [KeyType],
    /// The columns of the key as SQL has them: `"id"`, or `NEW."id"`.
    pub columns: &'a [String],
}

const NO_SLOT: &str = "the slot of its key cannot be computed in SQL";

impl Keyed<'_> {
    /// Of the whole key (`part` 0), or of what of it the slots of a list are made of.
    ///
    /// # Errors
    /// A key of bytea, or of too many columns.
    pub fn slot(&self, part: u32) -> Result<String, String> {
        let skipped = usize::from(part > 0);
        let (Some(types), Some(columns)) = (self.types.get(skipped..), self.columns.get(skipped..)) else {
            return Err(NO_SLOT.into());
        };
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        slot_sql(types, &columns).ok_or_else(|| NO_SLOT.into())
    }

    /// The first column, compared by bytes.
    fn first(&self) -> Result<(&str, KeyType, &'static str), String> {
        let (Some(column), Some(ty)) = (self.columns.first(), self.types.first()) else {
            return Err("a key without columns".into());
        };
        let collate = match ty {
            KeyType::Text | KeyType::Varchar | KeyType::Char => " COLLATE pg_catalog.\"C\"",
            _ => "",
        };
        Ok((column, *ty, collate))
    }

    fn part(&self, number: u32) -> Result<&Part, String> {
        let part = self.record.parts.iter().find(|part| part.number == number);
        part.ok_or_else(|| format!("part {number} is not recorded"))
    }

    fn of_part(&self, number: u32) -> Result<String, String> {
        let (column, ty, collate) = self.first()?;
        let part = self.part(number)?;
        let constant = |text: &String| format!("{}::{}", literal(text), type_name(ty));
        let among = |values: Vec<String>| match values.is_empty() {
            true => "false".to_owned(),
            false => format!("{column}{collate} IN ({})", values.join(", ")),
        };
        if self.record.method == "range" {
            let from = part.from.as_ref().map(|from| format!("{column}{collate} >= {}", constant(from)));
            let to = part.to.as_ref().map(|to| format!("{column}{collate} < {}", constant(to)));
            let ends: Vec<String> = from.into_iter().chain(to).collect();
            return Ok(match ends.is_empty() {
                true => format!("{column} IS NOT NULL"),
                false => ends.join(" AND "),
            });
        }
        let mut any = vec![among(part.values.iter().map(constant).collect())];
        let null_is_listed = self.record.parts.iter().any(|part| part.null);
        if part.null || part.default && !null_is_listed {
            any.push(format!("{column} IS NULL"));
        }
        if part.default {
            let all = self.record.parts.iter().flat_map(|part| part.values.iter().map(constant)).collect();
            any.push(format!("{column} IS NOT NULL AND NOT {}", among(all)));
        }
        Ok(format!("({})", any.join(" OR ")))
    }

    /// Holds for the rows of a unit.
    ///
    /// # Errors
    /// The unit is none of this distribution's, or cannot be told in SQL.
    pub fn condition(&self, unit: &Unit) -> Result<String, String> {
        match unit {
            Unit::Slots { part, from, to } => {
                let slots = format!("{} BETWEEN {from} AND {to}", self.slot(*part)?);
                match part {
                    0 => Ok(slots),
                    part => Ok(format!("{} AND {slots}", self.of_part(*part)?)),
                }
            }
            Unit::Part(part) => self.of_part(*part),
            Unit::Key(key) => {
                let (column, ty, _) = self.first()?;
                Ok(format!("{column} = {}::{}", literal(key), type_name(ty)))
            }
        }
    }

    /// The expressions of an index by which the rows of any unit are found.
    ///
    /// # Errors
    /// See [`Keyed::slot`].
    pub fn index(&self) -> Result<String, String> {
        let (column, _, collate) = self.first()?;
        let by_slot = !self.record.slots.is_empty();
        match (self.record.method.as_str(), by_slot) {
            ("hash", _) => Ok(format!("({})", self.slot(0)?)),
            ("directory", _) => Ok(column.to_owned()),
            (_, false) => Ok(format!("({column}{collate})")),
            (_, true) => Ok(format!("({column}{collate}), ({})", self.slot(1)?)),
        }
    }

    /// `(part, slot)` of a row as two expressions; NULL: of no part. Slots of parts that have none are 0.
    ///
    /// # Errors
    /// See [`Keyed::slot`].
    pub fn place(&self) -> Result<(String, String), String> {
        if self.record.parts.is_empty() {
            return Ok(("0".into(), self.slot(0)?));
        }
        let mut part = String::from("CASE");
        let mut by_slot = Vec::new();
        for of in &self.record.parts {
            part.push_str(&format!(" WHEN {} THEN {}", self.of_part(of.number)?, of.number));
            if of.shard.is_none() {
                by_slot.push(self.of_part(of.number)?);
            }
        }
        part.push_str(" END");
        let slot = match by_slot.is_empty() {
            true => "0".to_owned(),
            false => format!("CASE WHEN {} THEN {} ELSE 0 END", by_slot.join(" OR "), self.slot(1)?),
        };
        Ok((part, slot))
    }

    /// Holds for the rows that belong to a shard; NULL or false for others.
    ///
    /// # Errors
    /// See [`Keyed::slot`].
    pub fn belongs(&self, shard: &str) -> Result<String, String> {
        let of_slots = |part: u32| -> Result<Option<String>, String> {
            let mut bits = [0u8; SLOTS / 8];
            for run in self.record.slots.iter().filter(|run| run.part == part && run.shard == shard) {
                for slot in run.from..=run.to.min(SLOTS - 1) {
                    // get_bit counts from the lowest bit of the first byte.
                    bits[slot / 8] |= 1 << (slot % 8);
                }
            }
            if bits.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let hex: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
            let slot = self.slot(part)?;
            Ok(Some(format!(
                "pg_catalog.get_bit('\\x{hex}'::pg_catalog.bytea, ({slot})::pg_catalog.int4) = 1"
            )))
        };
        if self.record.parts.is_empty() {
            return Ok(of_slots(0)?.unwrap_or_else(|| "false".into()));
        }
        let mut any = Vec::new();
        for part in &self.record.parts {
            match &part.shard {
                Some(owner) if owner == shard => any.push(format!("({})", self.of_part(part.number)?)),
                Some(_) => {}
                None => {
                    if let Some(slots) = of_slots(part.number)? {
                        any.push(format!("({} AND {slots})", self.of_part(part.number)?));
                    }
                }
            }
        }
        Ok(if any.is_empty() { "false".into() } else { any.join(" OR ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Slots;

    fn part(number: u32, values: &[&str], null: bool, default: bool, shard: Option<&str>) -> Part {
        Part {
            number,
            from: None,
            to: None,
            values: values.iter().map(|value| value.to_string()).collect(),
            null,
            default,
            shard: shard.map(str::to_owned),
            epoch: 1,
        }
    }

    #[test]
    fn the_rows_of_a_unit_are_found_by_their_key() {
        let columns = [quoted("na\"me"), quoted("id")];
        let lists = Record {
            method: "list".into(),
            types: "text,bigint".into(),
            parts: vec![
                part(1, &["de", "o'b"], false, false, Some("s0")),
                part(2, &[], true, false, Some("s1")),
                part(3, &[], false, true, None),
            ],
            slots: vec![Slots { part: 3, from: 0, to: SLOTS - 1, shard: "s2".into(), epoch: 1 }],
        };
        let keyed = Keyed { record: &lists, types: &[KeyType::Text, KeyType::BigInt], columns: &columns };
        let first = "\"na\"\"me\"";
        let c = "COLLATE pg_catalog.\"C\"";
        assert_eq!(
            keyed.condition(&Unit::Part(1)).unwrap(),
            format!("({first} {c} IN ('de'::text, 'o''b'::text))")
        );
        assert_eq!(keyed.condition(&Unit::Part(2)).unwrap(), format!("(false OR {first} IS NULL)"));
        let rest = keyed.condition(&Unit::Slots { part: 3, from: 1, to: 2 }).unwrap();
        let of_slots = slot_sql(&[KeyType::BigInt], &["\"id\""]).unwrap();
        assert_eq!(
            rest,
            format!(
                "(false OR {first} IS NOT NULL AND NOT {first} {c} IN ('de'::text, 'o''b'::text)) AND {of_slots} BETWEEN 1 AND 2"
            )
        );
        assert!(keyed.belongs("s2").unwrap().contains("get_bit"));
        assert_eq!(keyed.belongs("s9").unwrap(), "false");
        assert!(keyed.index().unwrap().ends_with(&format!("({of_slots})")));

        let range = Record {
            method: "range".into(),
            types: "date".into(),
            parts: vec![
                Part {
                    from: Some("2024-01-01".into()),
                    to: Some("2025-01-01".into()),
                    ..part(1, &[], false, false, Some("s0"))
                },
                part(2, &[], false, false, Some("s1")),
            ],
            slots: Vec::new(),
        };
        let columns = [quoted("day")];
        let keyed = Keyed { record: &range, types: &[KeyType::Date], columns: &columns };
        assert_eq!(
            keyed.condition(&Unit::Part(1)).unwrap(),
            "\"day\" >= '2024-01-01'::date AND \"day\" < '2025-01-01'::date"
        );
        assert_eq!(keyed.condition(&Unit::Part(2)).unwrap(), "\"day\" IS NOT NULL");
        assert_eq!(keyed.place().unwrap().1, "0");
        assert!(keyed.condition(&Unit::Part(3)).is_err());
    }

    #[test]
    fn a_key_without_a_slot_in_sql_is_refused() {
        let record =
            Record { method: "hash".into(), types: "bytea".into(), parts: Vec::new(), slots: Vec::new() };
        let columns = [quoted("k")];
        let keyed = Keyed { record: &record, types: &[KeyType::Bytea], columns: &columns };
        assert_eq!(keyed.slot(0), Err(NO_SLOT.to_owned()));
        assert!(keyed.index().is_err());
    }
}
