//! What a driver and its server said to each other, on a direct connection and through pgherd, message by message.
//!
//! Invariant: only what must differ is masked: the login (each side has its own way in), OIDs of tables, and where in
//! PostgreSQL's source an error was raised. Each side's order is compared; how the two interleave means nothing.
//!
//! Found by it: in a failed block a batch was answered with two errors, the server's and pgherd's own; pgjdbc took it in silence.

use pgherd_integration_tests::relay::{Said, Side};

/// Messages that are shown, before the first difference and from it on.
const BEFORE_MAX: usize = 3;
const SHOWN_MAX: usize = 6;

/// Messages whose trace differs, each with its reason: (program, part of the line on the direct connection, reason).
const DIFFERENT: &[(&str, &str, &str)] = &[];

/// A field of an error: its SQLSTATE.
const IN_FAILED_BLOCK: &str = "| C25P02 |";

/// `Ok`: how many messages agree.
pub fn compare(name: &str, direct: &[Vec<Said>], pooled: &[Vec<Said>]) -> Result<usize, String> {
    if direct.len() != pooled.len() || direct.is_empty() {
        return Err(format!("  traced: {} connections, {} through pgherd\n", direct.len(), pooled.len()));
    }
    let (mut count, mut text) = (0, String::new());
    for (at, (direct, pooled)) in direct.iter().zip(pooled).enumerate() {
        for side in [Side::Client, Side::Server] {
            let (left, right) = (lines(direct, side), lines(pooled, side));
            let listed = |line: &str| DIFFERENT.iter().any(|(n, part, _)| *n == name && line.contains(part));
            let same = left.iter().zip(&right).take_while(|(a, b)| a == b || listed(a)).count();
            count += same;
            if same == left.len() && same == right.len() {
                continue;
            }
            text += &format!("  traced, connection {at}, {side:?}, message {same}\n");
            for line in &left[same.saturating_sub(BEFORE_MAX)..same] {
                text += &format!("      {line}\n");
            }
            for (sign, lines) in [('-', &left), ('+', &right)] {
                for line in lines.iter().skip(same).take(SHOWN_MAX) {
                    text += &format!("    {sign} {line}\n");
                }
            }
        }
    }
    if text.is_empty() { Ok(count) } else { Err(text) }
}

/// From the first ReadyForQuery on. That a client takes its leave may come too late to be recorded.
fn lines(conversation: &[Said], side: Side) -> Vec<String> {
    let said = conversation.iter().filter(|m| m.side == side);
    let logged_in = said.skip_while(|m| match side {
        Side::Client => matches!(m.kind, 0 | b'p'),
        Side::Server => m.kind != b'Z',
    });
    let mut lines: Vec<String> = Vec::new();
    for said in logged_in.filter(|m| side == Side::Server || m.kind != b'X') {
        let line = line(said);
        if line.contains(IN_FAILED_BLOCK) {
            // A server that has the statement already refuses its Bind, another one its Parse.
            while lines.last().is_some_and(|last| last == "1 0 " || last == "2 0 ") {
                lines.pop();
            }
        }
        lines.push(line);
    }
    lines
}

fn line(said: &Said) -> String {
    let kind = said.kind as char;
    let mut body = said.body.clone();
    match (said.side, said.kind) {
        (Side::Server, b'E' | b'N') => {
            let fields =
                body.split(|&b| b == 0).filter(|field| !matches!(field.first(), Some(b'F' | b'L' | b'R')));
            let texts: Vec<_> = fields.map(String::from_utf8_lossy).collect();
            return format!("{kind} {}", texts.join(" | "));
        }
        (Side::Server, b'T') => mask_tables(&mut body),
        _ => {}
    }
    let text: String = body.escape_ascii().to_string().chars().take(300).collect();
    format!("{kind} {} {text}", body.len())
}

fn mask_tables(body: &mut [u8]) {
    let mut at = 2;
    while let Some(name) = body.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0)) {
        let oid = at + name + 1;
        if let Some(oid) = body.get_mut(oid..oid + 4) {
            oid.fill(0);
        }
        at = oid + 18;
    }
}
