//! Key values (`pgherd_config::key`), and what a client is told about one that cannot be read.

pub use pgherd_config::key::{KeyValue, Numeric, NumericDigits, ValueError, oid, oid_fits, type_name};

use pgherd_config::KeyType;

use crate::refusal::Refusal;

/// What the client sees of a value that cannot be read, in PostgreSQL's words where PostgreSQL refuses it too.
pub fn refusal(error: ValueError, ty: KeyType, text: &[u8]) -> Refusal {
    let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN_BYTES_MAX)]);
    let timed = matches!(ty, KeyType::Date | KeyType::Timestamp | KeyType::TimestampTz);
    let (sqlstate, message) = match error {
        ValueError::Invalid => {
            ("22P02", format!("invalid input syntax for type {}: \"{shown}\"", type_name(ty)))
        }
        ValueError::OutOfRange if timed => {
            ("22008", format!("date/time field value out of range: \"{shown}\""))
        }
        ValueError::OutOfRange => {
            ("22003", format!("value \"{shown}\" is out of range for type {}", type_name(ty)))
        }
        ValueError::NotUnderstood => {
            return Refusal::unsupported(
                format!("cannot place the sharding key \"{shown}\" of type {}", type_name(ty)),
                "What this text means depends on settings or on the version of the server.",
                match ty {
                    KeyType::TimestampTz => "Write it as in '2024-02-29 13:30:00+00', with an offset.",
                    KeyType::Date | KeyType::Timestamp => "Write it as in '2024-02-29 13:30:00'.",
                    _ => "Write it in plain decimal form.",
                },
            );
        }
    };
    Refusal { sqlstate, message, detail: None, hint: None }
}

/// Of a text that a message quotes.
const SHOWN_BYTES_MAX: usize = 200;
