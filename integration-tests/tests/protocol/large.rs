//! Large rows, slow readers, large messages: streamed, with bounded memory.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::raw::*;
use crate::*;

const MIB: usize = 1 << 20;

/// What pgherd may grow by while it streams; the rows are many times larger.
const GROWTH_MAX: usize = 24 * MIB;

/// One pgherd serves all tests of this program: while one measures its memory, no other sends messages of megabytes.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads frames without keeping them: the bytes of DataRows until ReadyForQuery.
fn drain(wire: &mut Wire, pace: Duration) -> usize {
    let (mut head, mut left, mut rows, mut total) = (Vec::new(), 0usize, false, 0usize);
    loop {
        let block = wire.read_some(PATIENCE).expect("the stream goes on");
        assert!(!block.is_empty(), "closed after {total} bytes");
        std::thread::sleep(pace);
        let mut at = 0;
        while at < block.len() {
            if left > 0 {
                let n = left.min(block.len() - at);
                left -= n;
                at += n;
                total += if rows { n } else { 0 };
                continue;
            }
            head.push(block[at]);
            at += 1;
            if head.len() == 5 {
                left = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
                rows = head[0] == b'D';
                assert!(head[0] != b'E', "an error in the stream");
                if head[0] == b'Z' {
                    return total;
                }
                head.clear();
            }
        }
    }
}

#[test]
fn large_rows_stream_with_bounded_memory_and_a_slow_reader_stops_the_server() {
    let _alone = alone();
    let stage = stage();
    let mut wire = stage.endpoint.login("load");
    wire.run("SELECT 1");
    let before = stage.endpoint.resident_bytes();

    wire.send(&query("SELECT repeat('x', 100 * 1024 * 1024)"));
    assert_eq!(drain(&mut wire, Duration::ZERO), 100 * MIB + 6, "one row of 100 MiB");
    let after_row = stage.endpoint.resident_bytes();
    assert!(after_row < before + GROWTH_MAX, "one row of 100 MiB: {before} -> {after_row} bytes resident");

    // Nobody reads: the server must stop, and pgherd hold next to nothing.
    wire.send(&query("SELECT repeat('y', 1000) FROM generate_series(1, 200000)"));
    std::thread::sleep(Duration::from_millis(700));
    let stalled = stage.endpoint.resident_bytes();
    assert!(stalled < before + GROWTH_MAX, "a reader that stalls: {before} -> {stalled} bytes resident");
    let sent = drain(&mut wire, Duration::from_micros(200));
    assert_eq!(sent, 200_000 * 1006, "all rows arrive");
    assert_eq!(wire.value("SELECT 'after'").as_deref(), Ok("after"));
}

#[test]
fn large_messages_go_to_the_server_whole() {
    let _alone = alone();
    let stage = stage();
    let mut wire = stage.endpoint.login("load");
    let long = "z".repeat(9 * MIB);
    assert_eq!(wire.value(&format!("SELECT length('{long}')")).as_deref(), Ok("9437184"));
    wire.send(
        &[parse("", "SELECT length($1::text)", &[]), bind("", "", &[&long]), execute("", 0), sync()].concat(),
    );
    assert_eq!(value_of(&wire.until(b'Z')).as_deref(), Ok("9437184"));
    let notice = wire.query("DO $$ BEGIN RAISE NOTICE '%', repeat('n', 300000); END $$");
    assert!(notice.iter().any(|m| m.kind == b'N' && m.body.len() > 300_000), "a long notice");
    let error = wire.query("DO $$ BEGIN RAISE EXCEPTION '%', repeat('n', 300000); END $$");
    assert!(error.iter().any(|m| m.kind == b'E' && m.body.len() > 300_000), "a long error");
    assert_eq!(error.last().map(|m| m.kind), Some(b'Z'));
}

#[test]
fn a_client_may_pipeline_without_reading_and_nothing_locks_up() {
    let _alone = alone();
    let stage = stage();
    let mut wire = stage.endpoint.login("load");
    let one =
        [parse("", "SELECT repeat('p', 2000)", &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    // About 5 MB up and 40 MB down; both directions fill if either waits for the other.
    let count = 20_000;
    std::thread::scope(|scope| {
        let all = one.repeat(count);
        let begun = Instant::now();
        let mut socket = wire.writer();
        scope.spawn(move || std::io::Write::write_all(&mut socket, &all).expect("pgherd takes all of it"));
        std::thread::sleep(Duration::from_millis(300));
        let mut ready = 0;
        while ready < count {
            let said = wire.until(b'Z');
            assert_eq!(
                said.last().map(|m| m.kind),
                Some(b'Z'),
                "after {ready} batches, {:?}",
                begun.elapsed()
            );
            ready += 1;
        }
    });
}

/// The Execute and the Sync behind a large Bind come with its last bytes. They waited for the server to take it, and then for a
/// client that had nothing more to say.
#[test]
fn what_came_with_the_end_of_a_large_message_is_answered() {
    let _alone = alone();
    let stage = stage();
    let value = "z".repeat(20 * MIB);
    let mut wire = stage.endpoint.login("load");
    for name in ["", "named"] {
        wire.send(
            &[
                parse(name, "SELECT length($1)", &[]),
                bind("", name, &[&value]),
                execute("", 0),
                parse("", "SELECT 'behind it'", &[]),
                bind("", "", &[]),
                execute("", 0),
                sync(),
            ]
            .concat(),
        );
        let said = wire.until(b'Z');
        assert_eq!(said.iter().filter(|m| m.kind == b'D').count(), 2, "{:?}", said.last());
    }
}
