//! Question: does `router` read, hash, cut and add up values exactly as PostgreSQL does?
//!
//! A real server answers: for every key type the slot of values (edges and random ones) from their text and binary forms;
//! texts mutated at random, which must be read as the server reads them under any DateStyle and TimeZone, or not be
//! understood; COPY streams of random characters; partial aggregates.
//!
//! The seed of the random values is printed; `PGHERD_TEST_SEED` sets it.

use std::error::Error;
use std::fmt::Write as _;

use pgherd_config::KeyType;
use pgherd_router::combine::Aggregator;
use pgherd_router::copy::{Splitter, Target};
use pgherd_router::hash::{slot, slot_sql};
use pgherd_router::plan::{Aggregate, CopyFormat, CopyRows};
use pgherd_router::rule::Rule;
use pgherd_router::topology::{Distribution, SLOTS, ShardId};
use pgherd_router::value::{KeyValue, ValueError, oid};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, Type};

use server::Server;

/// Random values of each type, besides its edges.
const RANDOM_VALUES: usize = 4_000;
/// Mutated texts of each type.
const MUTATED_TEXTS: usize = 4_000;

struct Case {
    ty: KeyType,
    sql_type: &'static str,
    oid: u32,
    edges: Vec<String>,
    random: fn(&mut StdRng) -> String,
    /// What mutations insert.
    alphabet: &'static str,
}

fn cases() -> Vec<Case> {
    let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let integers = |bits: u32| {
        let mut texts = list(&["0", "-0", "+7", "  12\t", "0009"]);
        for power in 0..bits {
            for delta in [-1, 0, 1] {
                for sign in [-1, 1] {
                    texts.push((sign * (1_i128 << power) + delta).to_string());
                }
            }
        }
        texts
    };
    let texts = || {
        let mut texts = list(&[
            "",
            " ",
            "a",
            "a ",
            "a  ",
            " a",
            "a\t",
            "a \t ",
            "é",
            "日本語",
            "🦀",
            "\u{1}",
            "ß ",
            "'",
            "\\",
        ]);
        for len in 0..40 {
            texts.push("x".repeat(len));
            texts.push("é".repeat(len));
        }
        texts.push("long ".repeat(20_000));
        texts
    };
    let dates = list(&[
        "2000-01-01",
        "1999-12-31",
        "2024-02-29",
        "2023-02-29",
        "0001-01-01",
        "0001-01-01 BC",
        "0001-12-31 BC",
        "4714-11-24 BC",
        "4714-11-23 BC",
        "4713-01-01 BC",
        "9999-12-31",
        "10000-01-01",
        "99999-06-15",
        "294276-12-31",
        "5874897-12-31",
        "5874898-05-31",
        "5874898-06-01",
        "infinity",
        "-infinity",
        " INFINITY ",
        "2024-2-9",
        "0000-01-01",
        "2024-02-29 +01",
        "2024-02-29 -08:30",
        "1900-02-29",
        "2024-04-31",
    ]);
    let times = |zone: &str| {
        let mut texts = Vec::new();
        for date in &dates {
            texts.push(date.clone());
            let (date, bc) = date.strip_suffix(" BC").map_or((date.as_str(), ""), |date| (date, " BC"));
            for time in [
                "00:00:00",
                "23:59:59.999999",
                "12:34",
                "12:34:56.1",
                "12:34:56.123456",
                "1:02:03",
                "24:00:00",
                "24:00:00.1",
                "23:59:60",
                "23:59:60.5",
                "23:60:00",
                "25:00:00",
                "00:00:00.0000005",
                "00:00:00.0000015",
                "00:00:00.4999995",
                "10:00:59.9999995",
                "10:00:59.99999949",
                "12:00:00.1234565",
                "12:00:00.1234575",
            ] {
                texts.push(format!("{date} {time}{zone}{bc}"));
            }
            texts.push(format!("{date}T10:20:30{zone}{bc}"));
            for zone in [
                "Z",
                "z",
                " Z",
                "+00",
                "-15:59:59",
                "+15:59:59",
                "+16",
                "+0530",
                " +05:30",
                "-00:00:01",
                "+5",
                "+05:60",
            ] {
                texts.push(format!("{date} 10:20:30.5{zone}{bc}"));
            }
        }
        texts.extend(list(&[
            "294276-12-31 23:59:59.999999",
            "294277-01-01 00:00:00",
            "294276-12-31 23:59:59.999999+00",
        ]));
        texts.extend(list(&[
            "294276-12-31 23:59:59.999999-01",
            "294277-01-01 00:00:00+01",
            "4714-11-24 00:00:00+00 BC",
        ]));
        texts.extend(list(&[
            "4714-11-24 00:00:00+01 BC",
            "4714-11-23 23:00:00-01 BC",
            "epoch",
            "now",
            "today",
            "Jan 5 2024",
        ]));
        texts
    };
    let uuids = list(&[
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        "00000000-0000-0000-0000-000000000000",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ]);
    let byteas = list(&[
        "",
        "\\x",
        "\\x00",
        "\\xDEadBEEF",
        "\\x de ad\n",
        "abc",
        "a\\\\b",
        "a\\000b",
        "\\377\\001",
        "é",
        " ",
    ]);
    let mut numerics = list(&[
        "0",
        "-0",
        "0.000",
        "-0.00",
        "1",
        "-1",
        "1.0",
        "1.000000",
        "10000",
        "9999",
        "99999999",
        "0.0001",
        "0.00010",
        "0.00001",
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "+inf",
        "-inf",
        "1e131071",
        "-9.99e131071",
        "1e131072",
        "1e-16383",
        "1e-16384",
        "0e-16384",
        "1e5",
        "1E+5",
        "1.5e-7",
        "123456789012345678901234567890.123456789",
        ".5",
        "5.",
        "+.5e1",
        "  7 ",
        "1e1000000",
        "0e1000000000",
        "0e10",
        "00000000000000000001.10",
        "1e-4096",
        "12e-5",
        "100e-4",
    ]);
    numerics.push("9".repeat(5000));
    numerics.push(format!("0.{}1", "0".repeat(5000)));
    let booleans = list(&[
        "t", "f", "true", "FALSE", "yes", "no", "on", "off", "of", "1", "0", " tru ", "y", "N", "o", "truex",
        "11",
    ]);

    const NUMBER: &str = "0123456789+-. eE_xob";
    const TIME: &str = "0123456789:+-./ TZBCbcz";
    let case =
        |ty, sql_type, oid, edges, random, alphabet| Case { ty, sql_type, oid, edges, random, alphabet };
    vec![
        case(
            KeyType::SmallInt,
            "int2",
            oid::INT2,
            integers(16),
            |rng| rng.random::<i16>().to_string(),
            NUMBER,
        ),
        case(
            KeyType::Integer,
            "int4",
            oid::INT4,
            integers(32),
            |rng| rng.random::<i32>().to_string(),
            NUMBER,
        ),
        case(KeyType::BigInt, "int8", oid::INT8, integers(64), random_int8, NUMBER),
        case(KeyType::Text, "text", oid::TEXT, texts(), random_text, "ab é"),
        case(KeyType::Varchar, "varchar", oid::VARCHAR, texts(), random_text, "ab é"),
        case(KeyType::Char, "bpchar", oid::BPCHAR, texts(), random_text, "ab é"),
        case(KeyType::Uuid, "uuid", oid::UUID, uuids, random_uuid, "0aF-{} "),
        case(KeyType::Bytea, "bytea", oid::BYTEA, byteas, random_bytea, "\\x019a \n'é"),
        case(
            KeyType::Boolean,
            "bool",
            oid::BOOL,
            booleans,
            |rng| rng.random::<bool>().to_string(),
            "tfyn01o ",
        ),
        case(KeyType::Date, "date", oid::DATE, dates.clone(), random_date, TIME),
        case(KeyType::Timestamp, "timestamp", oid::TIMESTAMP, times(""), random_timestamp, TIME),
        case(KeyType::TimestampTz, "timestamptz", oid::TIMESTAMPTZ, times("+00"), random_timestamptz, TIME),
        case(KeyType::Numeric, "numeric", oid::NUMERIC, numerics, random_numeric, NUMBER),
    ]
}

fn random_int8(rng: &mut StdRng) -> String {
    (rng.random::<i64>() >> rng.random_range(0..64)).to_string()
}

fn random_text(rng: &mut StdRng) -> String {
    let len = rng.random_range(0..60);
    (0..len)
        .map(|_| {
            if rng.random_bool(0.7) {
                rng.random_range(' '..='~')
            } else {
                rng.random_range('\u{80}'..='\u{2fff}')
            }
        })
        .collect()
}

fn random_uuid(rng: &mut StdRng) -> String {
    format!("{:032x}", rng.random::<u128>())
}

fn random_bytea(rng: &mut StdRng) -> String {
    let len = rng.random_range(0..50);
    (0..len).fold("\\x".to_string(), |text, _| text + &format!("{:02x}", rng.random::<u8>()))
}

fn random_date(rng: &mut StdRng) -> String {
    let year_max = [2100, 9999, 5_874_897][rng.random_range(0..3)];
    let bc = if rng.random_bool(0.1) { " BC" } else { "" };
    let year = rng.random_range(1..=if bc.is_empty() { year_max } else { 4713 });
    format!("{year:04}-{:02}-{:02}{bc}", rng.random_range(1..=12), rng.random_range(1..=28))
}

fn random_time(rng: &mut StdRng, zone: bool) -> String {
    let bc = if rng.random_bool(0.1) { " BC" } else { "" };
    let year_max = [2100, 9999, 294_276][rng.random_range(0..3)];
    let year = rng.random_range(1..=year_max);
    let year = if bc.is_empty() { year } else { year % 4713 + 1 };
    let mut text = format!("{year:04}-{:02}-{:02}", rng.random_range(1..=12), rng.random_range(1..=28));
    let _ = write!(
        text,
        " {:02}:{:02}:{:02}",
        rng.random_range(0..24),
        rng.random_range(0..60),
        rng.random_range(0..60)
    );
    match rng.random_range(0..3) {
        0 => {}
        1 => text += &format!(".{:06}", rng.random_range(0..1_000_000)),
        // Longer than a microsecond: rounded.
        _ => {
            text.push('.');
            for _ in 0..rng.random_range(1..12) {
                text.push(rng.random_range('0'..='9'));
            }
        }
    }
    if zone {
        let _ = write!(
            text,
            "{}{:02}:{:02}",
            if rng.random() { '+' } else { '-' },
            rng.random_range(0..16),
            rng.random_range(0..60)
        );
    }
    text + bc
}

fn random_timestamp(rng: &mut StdRng) -> String {
    random_time(rng, false)
}

fn random_timestamptz(rng: &mut StdRng) -> String {
    random_time(rng, true)
}

fn random_numeric(rng: &mut StdRng) -> String {
    let mut text = if rng.random() { "-".to_string() } else { String::new() };
    for _ in 0..rng.random_range(1..30) {
        text.push(if rng.random_bool(0.3) { '0' } else { rng.random_range('0'..='9') });
    }
    if rng.random() {
        text.push('.');
        for _ in 0..rng.random_range(0..30) {
            text.push(if rng.random_bool(0.4) { '0' } else { rng.random_range('0'..='9') });
        }
    }
    if rng.random_bool(0.2) {
        let _ = write!(text, "e{}", rng.random_range(-60..60));
    }
    text
}

fn mutated(text: &str, alphabet: &str, rng: &mut StdRng) -> String {
    let mut chars: Vec<char> = text.chars().take(200).collect();
    let alphabet: Vec<char> = alphabet.chars().collect();
    for _ in 0..rng.random_range(1..=3) {
        let at = rng.random_range(0..=chars.len());
        let new = alphabet[rng.random_range(0..alphabet.len())];
        match rng.random_range(0..4) {
            0 => chars.insert(at, new),
            1 if at < chars.len() => chars[at] = new,
            2 if at < chars.len() => drop(chars.remove(at)),
            _ if at + 1 < chars.len() => chars.swap(at, at + 1),
            _ => chars.push(new),
        }
    }
    chars.into_iter().collect()
}

fn seeded() -> StdRng {
    let seed = match std::env::var("PGHERD_TEST_SEED") {
        Ok(seed) => seed.parse().expect("PGHERD_TEST_SEED is a number"),
        Err(_) => rand::rng().random(),
    };
    println!("PGHERD_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A value's binary form as the server sends it.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// With `accepts_TYPE(text, slot)`, which is NULL when the server cannot read the text.
async fn create_table(client: &Client, sql_type: &str) {
    client
        .batch_execute(&format!(
            "CREATE TABLE t_{sql_type} (k {sql_type}) PARTITION BY HASH (k);
             CREATE FUNCTION accepts_{sql_type}(v text, slot int4) RETURNS bool LANGUAGE plpgsql AS $$
             BEGIN
                 RETURN satisfies_hash_partition('t_{sql_type}'::regclass, 16384, slot, v::{sql_type});
             EXCEPTION WHEN data_exception THEN
                 RETURN NULL;
             END $$"
        ))
        .await
        .unwrap();
}

#[tokio::test]
async fn every_slot_is_the_one_that_the_server_accepts() {
    let mut rng = seeded();
    let server = Server::start();
    let client = server.connect().await;

    for case in cases() {
        let Case { ty, sql_type, .. } = case;
        create_table(&client, sql_type).await;
        let mut texts = case.edges;
        texts.extend((0..RANDOM_VALUES).map(|_| (case.random)(&mut rng)));

        // From the text form.
        let understood: Vec<(String, i32)> = texts
            .iter()
            .filter_map(|text| {
                let value = KeyValue::from_text(ty, text.as_bytes()).ok()?;
                Some((text.clone(), slot(&[value]).into()))
            })
            .collect();
        assert!(
            understood.len() >= RANDOM_VALUES.min(texts.len()) * 9 / 10,
            "{sql_type}: {} understood",
            understood.len()
        );
        let (values, slots): (Vec<_>, Vec<_>) = understood.into_iter().unzip();
        let rows = client
            .query(
                &format!("SELECT v, slot, accepts_{sql_type}(v, slot) FROM unnest($1::text[], $2::int4[]) u(v, slot)"),
                &[&values, &slots],
            )
            .await
            .unwrap();
        for row in &rows {
            let (text, slot, accepted): (&str, i32, Option<bool>) = (row.get(0), row.get(1), row.get(2));
            assert_eq!(accepted, Some(true), "{sql_type} from text {text:?}: slot {slot}");
        }

        // From the binary form, and in SQL.
        let sql = slot_sql(&[ty], &["k"]);
        assert_eq!(sql.is_none(), ty == KeyType::Bytea, "{sql_type}");
        let sql = sql.unwrap_or_else(|| "NULL::int8".into());
        let rows = client
            .query(
                &format!(
                    "WITH keys AS MATERIALIZED (SELECT v::{sql_type} AS k, slot FROM unnest($1::text[], $2::int4[]) u(v, slot))
                     SELECT k, slot, {sql} FROM keys"
                ),
                &[&values, &slots],
            )
            .await
            .unwrap();
        for row in &rows {
            let (Raw(bytes), expected, in_sql): (Raw, i32, Option<i64>) =
                (row.get(0), row.get(1), row.get(2));
            let value = KeyValue::from_binary(ty, case.oid, &bytes)
                .unwrap_or_else(|error| panic!("{sql_type} {bytes:?}: {error:?}"));
            assert_eq!(i32::from(slot(&[value])), expected, "{sql_type} from binary {bytes:?}");
            assert_eq!(in_sql.unwrap_or(expected.into()), i64::from(expected), "{sql_type} in SQL {bytes:?}");
        }
        println!("{sql_type}: {} values", rows.len());

        // It can be indexed: all functions in it are immutable.
        if ty != KeyType::Bytea {
            client
                .batch_execute(&format!(
                    "CREATE TABLE i_{sql_type} (k {sql_type}); CREATE INDEX ON i_{sql_type} (({sql}))"
                ))
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn a_mutated_text_is_read_as_the_server_reads_it_or_is_not_understood() {
    let mut rng = seeded();
    let server = Server::start();
    let client = server.connect().await;

    for case in cases() {
        let Case { ty, sql_type, .. } = case;
        create_table(&client, sql_type).await;
        let mut seeds: Vec<String> = case.edges.iter().filter(|text| text.len() < 200).cloned().collect();
        seeds.extend((0..500).map(|_| (case.random)(&mut rng)));
        let mut texts = seeds.clone();
        texts.extend(
            (0..MUTATED_TEXTS)
                .map(|_| mutated(&seeds[rng.random_range(0..seeds.len())], case.alphabet, &mut rng)),
        );

        let results: Vec<_> = texts
            .iter()
            .map(|text| KeyValue::from_text(ty, text.as_bytes()).map(|value| i32::from(slot(&[value]))))
            .collect();
        let slots: Vec<i32> = results.iter().map(|result| result.unwrap_or(0)).collect();
        let timed = matches!(ty, KeyType::Date | KeyType::Timestamp | KeyType::TimestampTz);
        let settings: &[(&str, &str)] = if timed {
            &[
                ("ISO, MDY", "UTC"),
                ("SQL, DMY", "America/New_York"),
                ("German, YMD", "Asia/Kolkata"),
                ("Postgres, DMY", "UTC"),
            ]
        } else {
            &[("ISO, MDY", "UTC")]
        };
        let mut understood = 0;
        for (date_style, time_zone) in settings {
            client
                .batch_execute(&format!("SET datestyle = '{date_style}'; SET timezone = '{time_zone}'"))
                .await
                .unwrap();
            let rows = client
                .query(
                    &format!(
                        "SELECT accepts_{sql_type}(v, slot) FROM unnest($1::text[], $2::int4[]) WITH ORDINALITY u(v, slot, at) ORDER BY at"
                    ),
                    &[&texts, &slots],
                )
                .await
                .unwrap();
            for ((row, text), result) in rows.iter().zip(&texts).zip(&results) {
                let accepted: Option<bool> = row.get(0);
                match result {
                    Ok(slot) => {
                        assert_eq!(accepted, Some(true), "{sql_type} {text:?}: slot {slot} ({date_style})")
                    }
                    Err(ValueError::Invalid | ValueError::OutOfRange) => {
                        assert_eq!(accepted, None, "{sql_type} {text:?}: {result:?} ({date_style})");
                    }
                    Err(ValueError::NotUnderstood) => {}
                }
                understood += usize::from(result.is_ok());
            }
        }
        println!("{sql_type}: {} of {} understood", understood / settings.len(), texts.len());
    }
}

#[tokio::test]
async fn the_slot_of_a_composite_key_is_the_one_that_the_server_accepts() {
    let mut rng = seeded();
    let server = Server::start();
    let client = server.connect().await;
    let all = cases();

    for types in [
        &[KeyType::Text, KeyType::BigInt][..],
        &[KeyType::BigInt, KeyType::Text],
        &[KeyType::Uuid, KeyType::Date, KeyType::Numeric],
        &[KeyType::Integer, KeyType::Boolean, KeyType::TimestampTz, KeyType::Char],
        &[KeyType::Bytea, KeyType::SmallInt],
    ] {
        let parts: Vec<&Case> =
            types.iter().map(|ty| all.iter().find(|case| case.ty == *ty).unwrap()).collect();
        let columns = |template: &dyn Fn(usize, &str) -> String| {
            let columns: Vec<String> =
                parts.iter().enumerate().map(|(at, part)| template(at, part.sql_type)).collect();
            columns.join(", ")
        };
        client
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS composite; CREATE TABLE composite ({}) PARTITION BY HASH ({})",
                columns(&|at, ty| format!("k{at} {ty}")),
                columns(&|at, _| format!("k{at}")),
            ))
            .await
            .unwrap();

        // Row by row in one flat array: arrays of arrays would have to be rectangular in SQL as well.
        let (mut texts, mut slots) = (Vec::new(), Vec::new());
        while slots.len() < 1000 {
            let row: Vec<String> = parts
                .iter()
                .map(|part| match rng.random_range(0..4) {
                    0 => part.edges[rng.random_range(0..part.edges.len())].chars().take(200).collect(),
                    _ => (part.random)(&mut rng),
                })
                .collect();
            let values: Result<Vec<_>, _> =
                row.iter().zip(types).map(|(text, ty)| KeyValue::from_text(*ty, text.as_bytes())).collect();
            if let Ok(values) = values {
                slots.push(i32::from(slot(&values)));
                texts.extend(row);
            }
        }
        let names: Vec<String> = (0..types.len()).map(|at| format!("k{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let sql = slot_sql(types, &names);
        assert_eq!(sql.is_none(), types.contains(&KeyType::Bytea));
        let rows = client
            .query(
                &format!(
                    "WITH keys AS MATERIALIZED (
                         SELECT slot, {} FROM unnest($2::int4[]) WITH ORDINALITY u(slot, at))
                     SELECT slot, satisfies_hash_partition('composite'::regclass, 16384, slot, {}), {} FROM keys",
                    columns(&|at, ty| format!("($1::text[])[(at - 1) * {} + {}]::{ty} AS k{at}", types.len(), at + 1)),
                    names.join(", "),
                    sql.unwrap_or_else(|| "NULL::int8".into()),
                ),
                &[&texts, &slots],
            )
            .await
            .unwrap();
        for (at, row) in rows.iter().enumerate() {
            let (expected, accepted, in_sql): (i32, bool, Option<i64>) = (row.get(0), row.get(1), row.get(2));
            let key = &texts[at * types.len()..(at + 1) * types.len()];
            assert!(accepted, "{types:?} {key:?}: slot {expected}");
            assert_eq!(in_sql.unwrap_or(expected.into()), i64::from(expected), "{types:?} {key:?} in SQL");
        }
    }
}

/// COPY streams of random characters, each read by a server and by the splitter.
const COPY_STREAMS: usize = 600;

#[tokio::test]
async fn a_copy_stream_is_cut_into_the_rows_and_keys_that_the_server_reads() {
    let mut rng = seeded();
    let server = Server::start();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE c (at serial, k text, v text)").await.unwrap();

    let text = CopyRows {
        format: CopyFormat::Text,
        delimiter: b'\t',
        null: b"\\N".to_vec(),
        quote: b'"',
        escape: b'"',
        header: false,
        force_not_null: Vec::new(),
        force_null: Vec::new(),
        distribution: 0,
        key: vec![0],
        columns: 2,
        key_types: vec![oid::TEXT],
        key_chars: vec![None],
    };
    let csv = CopyRows { format: CopyFormat::Csv, delimiter: b',', null: Vec::new(), ..text.clone() };
    let formats = [
        ("(k)", "FORMAT text", CopyRows { columns: 1, ..text.clone() }),
        (
            "(v, k)",
            "FORMAT text, DELIMITER ',', NULL '\\.a'",
            CopyRows { key: vec![1], delimiter: b',', null: b"\\.a".to_vec(), ..text.clone() },
        ),
        ("(k, v)", "FORMAT text, NULL 'a', HEADER", CopyRows { null: b"a".to_vec(), header: true, ..text }),
        ("(k)", "FORMAT csv", CopyRows { columns: 1, ..csv.clone() }),
        ("(v, k)", "FORMAT csv, HEADER", CopyRows { key: vec![1], header: true, ..csv.clone() }),
        (
            "(k, v)",
            "FORMAT csv, ESCAPE '\\', FORCE_NOT_NULL (k)",
            CopyRows { escape: b'\\', force_not_null: vec![0], ..csv.clone() },
        ),
        (
            "(k)",
            "FORMAT csv, QUOTE '\\', NULL 'a', FORCE_NULL (k)",
            CopyRows {
                quote: b'\\',
                escape: b'\\',
                null: b"a".to_vec(),
                force_null: vec![0],
                columns: 1,
                ..csv
            },
        ),
    ];
    // Every slot is a shard of its own: a target tells the key.
    let distribution = Distribution {
        name: "d".into(),
        types: vec![KeyType::Text],
        rule: std::sync::Arc::new(Rule::hash((0..SLOTS as u16).map(ShardId).collect()).unwrap()),
        shown: Default::default(),
    };
    let pieces =
        ["a", "b", "1", "7", "x4", ",", ",", "\t", "\t", "\"", "\"", "\\", "\\", "\\.", "\\N", "\n\\.\n"];
    let line_ends = ["\n", "\n", "\n", "\r\n", "\r"];
    let path = server.directory().join("copy.data");

    for (columns, options, rows) in formats {
        let (mut read, mut placed) = (0, 0);
        for _ in 0..COPY_STREAMS {
            // Mostly one kind of line end: a mixture is an error at once.
            let line_end = line_ends[rng.random_range(0..line_ends.len())];
            let mut stream = String::new();
            if rng.random() {
                // Rows of the right number of columns, mostly.
                for _ in 0..rng.random_range(0..6) {
                    for column in 0..rows.columns {
                        if column > 0 {
                            stream.push(rows.delimiter.into());
                        }
                        let quoted = rng.random_bool(0.3);
                        let piece_max = if quoted { pieces.len() } else { 5 };
                        let quote = if quoted { char::from(rows.quote).to_string() } else { String::new() };
                        stream += &quote;
                        for _ in 0..rng.random_range(0..4) {
                            stream += pieces[rng.random_range(0..piece_max)];
                        }
                        stream += &quote;
                    }
                    stream += line_end;
                }
            } else {
                for _ in 0..rng.random_range(0..30) {
                    stream += match rng.random_range(0..20) {
                        0..5 => line_end,
                        5 if rng.random_bool(0.2) => line_ends[rng.random_range(0..line_ends.len())],
                        _ => pieces[rng.random_range(0..pieces.len())],
                    };
                }
            }
            std::fs::write(&path, &stream).unwrap();

            let mut targets = Vec::new();
            let mut splitter = Splitter::over(&rows, &distribution);
            let mut out = |target: Target, bytes: &[u8]| {
                if let Target::Shard(ShardId(slot)) = target {
                    targets.push((slot, bytes.to_vec()));
                }
            };
            // Byte by byte, so that neighbours of one target are not joined.
            let result = stream
                .as_bytes()
                .chunks(1)
                .try_for_each(|chunk| splitter.push(chunk, &mut out))
                .and_then(|()| splitter.finish(&mut out));

            client.batch_execute("TRUNCATE c RESTART IDENTITY").await.unwrap();
            let copied = client
                .execute(&format!("COPY c {columns} FROM '{}' ({options})", path.display()), &[])
                .await
                .map_err(|error| error.as_db_error().unwrap().message().to_string());
            let context = || format!("{options} {}: {copied:?}, {result:?}", stream.escape_debug());
            match (&result, &copied) {
                (Ok(()), Ok(_)) => {
                    let rows = client.query("SELECT k FROM c ORDER BY at", &[]).await.unwrap();
                    let expected: Vec<u16> = rows
                        .iter()
                        .map(|row| slot(&[KeyValue::Text(row.get::<_, &str>(0).as_bytes().into())]))
                        .collect();
                    let slots: Vec<u16> = targets.iter().map(|(slot, _)| *slot).collect();
                    assert_eq!(slots, expected, "{}", context());
                    placed += rows.len();
                }
                // What concerns one row only is for its shard to find out.
                (Ok(()), Err(message)) => assert!(
                    ["missing data", "extra data", "invalid byte sequence", "unterminated CSV"]
                        .iter()
                        .any(|start| message.starts_with(start)),
                    "{}",
                    context()
                ),
                (Err(refusal), Ok(_)) => assert!(
                    refusal.sqlstate == "0A000" || refusal.message.contains("not alone on its line"),
                    "{}",
                    context()
                ),
                (Err(_), Err(_)) => {}
            }
            read += usize::from(copied.is_ok() && result.is_ok());
        }
        println!("{options}: {read} of {COPY_STREAMS} streams read, {placed} rows");
    }
}

/// Groups of values, each merged from three shards' partial aggregates.
const AGGREGATED_GROUPS: usize = 300;

#[tokio::test]
async fn partial_aggregates_merge_to_what_the_server_says_of_all_rows() {
    let mut rng = seeded();
    let server = Server::start();
    let client = server.connect().await;

    let numeric = |rng: &mut StdRng| match rng.random_range(0..40) {
        0 => "NaN".into(),
        1 => "Infinity".into(),
        2 => "-Infinity".into(),
        _ => random_numeric(rng),
    };
    type Case = (&'static str, &'static [(Aggregate, u32)], fn(&mut StdRng) -> String);
    let cases: [Case; 9] = [
        ("int2", &[(Aggregate::Sum, oid::INT8), (Aggregate::Min, oid::INT2)], |rng| {
            rng.random::<i16>().to_string()
        }),
        ("int4", &[(Aggregate::Sum, oid::INT8), (Aggregate::Max, oid::INT4)], |rng| {
            rng.random::<i32>().to_string()
        }),
        ("int8", &[(Aggregate::Sum, oid::NUMERIC), (Aggregate::Max, oid::INT8)], random_int8),
        ("numeric", &[(Aggregate::Sum, oid::NUMERIC)], numeric),
        ("float4", &[(Aggregate::Min, oid::FLOAT4), (Aggregate::Max, oid::FLOAT4)], |rng| {
            f32::from_bits(rng.random()).to_string()
        }),
        ("float8", &[(Aggregate::Min, oid::FLOAT8), (Aggregate::Max, oid::FLOAT8)], |rng| {
            f64::from_bits(rng.random()).to_string()
        }),
        ("date", &[(Aggregate::Min, oid::DATE), (Aggregate::Max, oid::DATE)], random_date),
        (
            "timestamp",
            &[(Aggregate::Min, oid::TIMESTAMP), (Aggregate::Max, oid::TIMESTAMP)],
            random_timestamp,
        ),
        (
            "timestamptz",
            &[(Aggregate::Min, oid::TIMESTAMPTZ), (Aggregate::Max, oid::TIMESTAMPTZ)],
            random_timestamptz,
        ),
    ];
    // Offsets with seconds.
    client.batch_execute("SET timezone = 'Europe/Amsterdam'").await.unwrap();
    for (sql_type, aggregates, random) in cases {
        let (mut groups, mut values) = (Vec::new(), Vec::new());
        for group in 0..AGGREGATED_GROUPS as i32 {
            for _ in 0..rng.random_range(0..6) {
                groups.push(group);
                values.push(rng.random_bool(0.9).then(|| random(&mut rng)));
            }
        }
        let mut columns = String::new();
        for (aggregate, _) in aggregates {
            let name = format!("{aggregate:?}").to_lowercase();
            let _ = write!(columns, ", {name}(x)::text, {name}(x)");
        }
        let query = |group_by: &str| {
            format!(
                "SELECT g, count(x)::text, count(x){columns}
                 FROM (SELECT g, i % 3 AS shard, v::{sql_type} AS x FROM unnest($1::int4[], $2::text[]) WITH ORDINALITY u(g, v, i)) v
                 GROUP BY {group_by} ORDER BY g"
            )
        };
        let wanted: Vec<(Aggregate, u32)> = [&[(Aggregate::Count, oid::INT8)], aggregates].concat();
        let (kinds, types): (Vec<_>, Vec<_>) = wanted.iter().copied().unzip();
        let parts = client.query(&query("g, shard"), &[&groups, &values]).await.unwrap();
        let wholes = client.query(&query("g"), &[&groups, &values]).await.unwrap();
        for whole in &wholes {
            let group: i32 = whole.get(0);
            let merge = |format| {
                let mut aggregator = Aggregator::new(&kinds, &types).unwrap();
                for part in parts.iter().filter(|part| part.get::<_, i32>(0) == group) {
                    let row: Vec<Option<&[u8]>> = (0..kinds.len())
                        .map(|at| part.get::<_, Option<&str>>(1 + 2 * at).map(str::as_bytes))
                        .collect();
                    aggregator.add(&row).unwrap();
                }
                aggregator.finish(&[format]).unwrap()
            };
            let (text, binary) = (merge(0), merge(1));
            for at in 0..kinds.len() {
                let expected: Option<&str> = whole.get(1 + 2 * at);
                let merged = text[at].as_deref().map(|text| std::str::from_utf8(text).unwrap());
                assert_eq!(merged, expected, "{sql_type} {:?}", kinds[at]);
                let expected: Option<Raw> = whole.get(2 + 2 * at);
                assert_eq!(binary[at], expected.map(|raw| raw.0), "{sql_type} {:?} {merged:?}", kinds[at]);
            }
        }
        println!("{sql_type}: {} groups from {} parts", wholes.len(), parts.len());
    }
}

#[tokio::test]
async fn a_float_is_printed_as_the_server_prints_it() {
    let mut rng = seeded();
    let server = Server::start();
    let client = server.connect().await;
    let special = ["NaN", "Infinity", "-Infinity", "0", "-0", "1e23", "5e-324", "9007199254740993"];
    for (sql_type, type_oid) in [("float4", oid::FLOAT4), ("float8", oid::FLOAT8)] {
        let mut texts: Vec<String> = special.iter().map(ToString::to_string).collect();
        if type_oid == oid::FLOAT4 {
            texts.retain(|text| text != "5e-324");
        }
        for _ in 0..20_000 {
            let value = match rng.random_range(0..5) {
                // Powers of two and their neighbours, whole numbers, few digits, halves; else any bits.
                0 => f64::from_bits(
                    (rng.random_range(1..0x7FF_u64) << 52).wrapping_add_signed(rng.random_range(-2..=2)),
                ),
                1 => (rng.random::<u64>() >> rng.random_range(0..64)) as f64,
                2 => f64::from(rng.random_range(0..100_000)) * 10_f64.powi(rng.random_range(-30..30)),
                3 => {
                    (rng.random::<u64>() >> rng.random_range(0..64)) as f64
                        / 2_f64.powi(rng.random_range(0..12))
                }
                _ => f64::from_bits(rng.random()),
            };
            match type_oid {
                oid::FLOAT8 => texts.push(value.to_string()),
                _ if rng.random() => texts.push(f32::from_bits(rng.random()).to_string()),
                _ => texts.push((value as f32).to_string()),
            }
        }
        let rows = client
            .query(
                &format!("SELECT v::{sql_type}::text, v::{sql_type} FROM unnest($1::text[]) WITH ORDINALITY u(v, at) ORDER BY at"),
                &[&texts],
            )
            .await
            .unwrap();
        for (row, text) in rows.iter().zip(&texts) {
            let merge = |format| {
                let mut aggregator = Aggregator::new(&[Aggregate::Sum], &[type_oid]).unwrap();
                aggregator.add(&[Some(text.as_bytes())]).unwrap();
                aggregator.finish(&[format]).unwrap().remove(0).unwrap()
            };
            assert_eq!(String::from_utf8(merge(0)).unwrap(), row.get::<_, &str>(0), "{sql_type} {text}");
            // A NaN has many forms.
            if !text.contains("NaN") {
                assert_eq!(merge(1), row.get::<_, Raw>(1).0, "{sql_type} {text}");
            }
        }
    }
}

/// A PostgreSQL server for one test. To be replaced by `pgherd::demo::servers`.
mod server {
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use tempfile::TempDir;
    use tokio_postgres::{Client, NoTls};

    const START_TIMEOUT: Duration = Duration::from_secs(60);

    pub struct Server {
        directory: TempDir,
        postgres: Child,
    }

    impl Server {
        /// On a Unix socket only, in a directory of its own.
        pub fn start() -> Self {
            let directory = TempDir::with_prefix("pgherd-hash-").unwrap();
            let path = directory.path();
            if is_root() {
                // initdb refuses root.
                let status = Command::new("chown").arg("nobody").arg(path).status().unwrap();
                assert!(status.success());
            }
            let data = path.join("data");
            let output = unprivileged(&binaries().join("initdb"))
                .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-N", "-D"])
                .arg(&data)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let postgres = unprivileged(&binaries().join("postgres"))
                .arg("-D")
                .arg(&data)
                .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
                .arg(path)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            Self { directory, postgres }
        }

        /// The server may read files in it.
        pub fn directory(&self) -> &Path {
            self.directory.path()
        }

        pub async fn connect(&self) -> Client {
            let config = format!("host={} user=postgres dbname=postgres", self.directory.path().display());
            let started = Instant::now();
            loop {
                match tokio_postgres::connect(&config, NoTls).await {
                    Ok((client, connection)) => {
                        tokio::spawn(connection);
                        return client;
                    }
                    Err(error) => assert!(started.elapsed() < START_TIMEOUT, "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            // SIGINT: a fast shutdown, so that its processes and shared memory go with it.
            let _ = Command::new("kill").args(["-INT", &self.postgres.id().to_string()]).status();
            let _ = self.postgres.wait();
        }
    }

    fn is_root() -> bool {
        Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
    }

    /// setpriv executes the program in its own place: the child's id is the program's.
    fn unprivileged(program: &Path) -> Command {
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]).arg(program);
        command
    }

    fn binaries() -> PathBuf {
        let output = Command::new("pg_config").arg("--bindir").output();
        match output {
            Ok(output) if output.status.success() => {
                PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
            }
            _ => PathBuf::from("/usr/lib/postgresql/15/bin"),
        }
    }
}
