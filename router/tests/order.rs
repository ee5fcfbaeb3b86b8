//! Values of result rows, in the order that PostgreSQL gives them.

use std::cmp::Ordering;

use pgherd_router::order::{Sortable, Typed, check, compare};
use pgherd_router::plan::{Place, SortKey};

const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const BPCHAR: u32 = 1042;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const INTERVAL: u32 = 1186;
const NUMERIC: u32 = 1700;
const UUID: u32 = 2950;

fn key(descending: bool, nulls_first: bool) -> SortKey {
    SortKey { place: Place::Start(0), descending, nulls_first, c_collation: true }
}

fn read(type_oid: u32, format: u16, value: Option<&[u8]>) -> Sortable {
    Sortable::read(Typed { type_oid, format }, value)
        .unwrap_or_else(|refusal| panic!("{value:?}: {refusal:?}"))
}

#[test]
fn texts_of_values_are_in_their_order() {
    // Ascending; values of one inner list are equal.
    let cases: &[(u32, &[&[&str]])] = &[
        (BOOL, &[&["f"], &["t"]]),
        (INT8, &[&["-9223372036854775808"], &["-1"], &["0"], &["9"], &["10"]]),
        (FLOAT8, &[&["-Infinity"], &["-1e300"], &["-0", "0"], &["1e-300"], &["2"], &["Infinity"], &["NaN"]]),
        (FLOAT4, &[&["-1.5"], &["0.1"], &["3.4028235e+38"], &["NaN"]]),
        (
            NUMERIC,
            &[
                &["-Infinity"],
                &["-100000000000000000000.5"],
                &["-1.10", "-1.1"],
                &["-0.00001"],
                &["0", "0.000"],
                &["0.00001"],
                &["1", "1.0000"],
                &["1.00001"],
                &["9999"],
                &["10000", "10000.00"],
                &["10000.5"],
                &["123456789012345678901234567890"],
                &["Infinity"],
                &["NaN"],
            ],
        ),
        (TEXT, &[&[""], &[" "], &["A"], &["a"], &["a "], &["ab"], &["ä"], &["日本"]]),
        (BPCHAR, &[&["", "   "], &["a", "a   "], &["ab"]]),
        (BYTEA, &[&["\\x"], &["\\x00"], &["\\x00ff"], &["\\xff"]]),
        (DATE, &[&["-infinity"], &["0044-03-15 BC"], &["1999-12-31"], &["10000-01-01"], &["infinity"]]),
        (
            TIME,
            &[&["00:00:00"], &["00:00:00.000001"], &["09:59:59"], &["10:00:00", "10:00:00.0"], &["24:00:00"]],
        ),
        (TIMESTAMP, &[&["2024-01-01 00:00:00"], &["2024-01-01 00:00:00.5"], &["infinity"]]),
        (
            TIMESTAMPTZ,
            &[
                &["2024-01-01 00:00:00+01"],
                &["2024-01-01 00:00:00+00", "2024-01-01 02:30:00+02:30"],
                &["2024-01-01 00:00:00-01"],
            ],
        ),
        (
            INTERVAL,
            &[
                &["-infinity"],
                &["-1 days"],
                &["-00:00:01"],
                &["00:00:00"],
                &["23:59:59.999999"],
                &["1 day", "24:00:00"],
                &["1 day 00:00:01"],
                &["1 mon -1 days +12:00:00"],
                &["1 mon", "30 days"],
                &["1 year", "12 mons", "360 days"],
                &["infinity"],
            ],
        ),
        (
            UUID,
            &[
                &["00000000-0000-0000-0000-000000000001"],
                &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
                &["ffffffff-ffff-ffff-ffff-ffffffffffff"],
            ],
        ),
    ];
    for (type_oid, ranks) in cases {
        let all: Vec<(usize, &str)> = ranks
            .iter()
            .enumerate()
            .flat_map(|(rank, values)| values.iter().map(move |value| (rank, *value)))
            .collect();
        for (left, a) in &all {
            for (right, b) in &all {
                let order =
                    read(*type_oid, 0, Some(a.as_bytes())).compare(&read(*type_oid, 0, Some(b.as_bytes())));
                assert_eq!(order, left.cmp(right), "type {type_oid}: {a} and {b}");
            }
        }
    }
}

#[test]
fn binary_values_equal_their_texts() {
    let numeric = [0, 3, 0, 1, 0x40, 0, 0, 4, 0, 1, 0x09, 0x29, 0x1a, 0x2c];
    let interval = [0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 2, 0, 0, 0, 13];
    let cases: &[(u32, &str, &[u8])] = &[
        (BOOL, "t", &[1]),
        (INT8, "-2", &(-2_i64).to_be_bytes()),
        (FLOAT4, "0.1", &0.1_f32.to_be_bytes()),
        (FLOAT8, "NaN", &f64::NAN.to_be_bytes()),
        (NUMERIC, "-12345.6700", &numeric),
        (TEXT, "ä", "ä".as_bytes()),
        (DATE, "2000-01-02", &1_i32.to_be_bytes()),
        (TIME, "00:00:01", &1_000_000_i64.to_be_bytes()),
        (TIMESTAMP, "2000-01-01 00:00:01", &1_000_000_i64.to_be_bytes()),
        (INTERVAL, "1 year 1 mon 2 days 00:00:01", &interval),
    ];
    for (type_oid, text, binary) in cases {
        let order = read(*type_oid, 0, Some(text.as_bytes())).compare(&read(*type_oid, 1, Some(binary)));
        assert_eq!(order, Ordering::Equal, "type {type_oid}: {text}");
    }
}

#[test]
fn null_stands_where_the_clause_puts_it_in_either_direction() {
    let typed = Typed { type_oid: INT8, format: 0 };
    let (null, one) = (read(INT8, 0, None), read(INT8, 0, Some(b"1")));
    for (descending, nulls_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let keys = [(key(descending, nulls_first), typed)];
        let order = compare(&keys, std::slice::from_ref(&null), std::slice::from_ref(&one));
        let expected = if nulls_first { Ordering::Less } else { Ordering::Greater };
        assert_eq!(order, expected, "descending {descending}, nulls first {nulls_first}");
    }
}

#[test]
fn what_only_a_server_compares_is_refused() {
    let text = |c_collation| {
        let key = SortKey { c_collation, ..key(false, false) };
        check(&[(key, Typed { type_oid: TEXT, format: 0 })]).is_ok()
    };
    assert!(text(true));
    assert!(!text(false));
    assert!(check(&[(key(false, false), Typed { type_oid: JSON, format: 0 })]).is_err());
    // Settings under which the text says less, or something else.
    for (type_oid, value) in
        [(DATE, "29.02.2024"), (INTERVAL, "P1Y"), (INTERVAL, "@ 1 year"), (INTERVAL, "1-2")]
    {
        let read = Sortable::read(Typed { type_oid, format: 0 }, Some(value.as_bytes()));
        assert_eq!(read.map_err(|refusal| refusal.sqlstate), Err("0A000"), "{value}");
    }
}
