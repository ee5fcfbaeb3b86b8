//! COPY, in both protocols, and how it fails.

use crate::raw::*;
use crate::*;

fn run(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat()
}

#[test]
fn copy_is_answered_as_by_postgresql() {
    let stage = stage();
    stage.prepare("plain", &["DROP TABLE IF EXISTS cp", "CREATE TABLE cp (a int, b text)"]);
    let from = || query("COPY cp FROM STDIN");
    let rows = || [copy_data("1\tone\n2\ttwo\n"), copy_data("3\tth"), copy_data("ree\n")].concat();
    let count = || queries(&["SELECT count(*) FROM cp", "TRUNCATE cp"]);
    let after = |steps: Vec<Step>| join(vec![steps, count()]);
    stage.compare(
        "plain",
        vec![
            script(
                "COPY FROM",
                after(vec![
                    Step::Send(from()),
                    Step::Until(b'G'),
                    Step::Send([rows(), copy_done()].concat()),
                    Step::Ready(1),
                ]),
            ),
            script("COPY FROM, all sent at once", after(batch(&[from(), rows(), copy_done()], 1))),
            script("COPY FROM of nothing", after(batch(&[from(), copy_done()], 1))),
            script(
                "COPY FROM with empty CopyData",
                after(batch(&[from(), copy_data(""), rows(), copy_data(""), copy_done()], 1)),
            ),
            script(
                "COPY FROM, then a Query behind it",
                after(batch(&[from(), rows(), copy_done(), query("SELECT 1")], 2)),
            ),
            script(
                "a bad row",
                after(batch(&[from(), copy_data("x\ty\n"), rows(), copy_done(), query("SELECT 1")], 2)),
            ),
            script(
                "a bad row, and the client goes on",
                after(vec![
                    Step::Send([from(), copy_data("x\ty\n")].concat()),
                    Step::Ready(1),
                    Step::Send([rows(), copy_data("4\tfour\n"), copy_done()].concat()),
                    Step::Quiet,
                    Step::Send(query("SELECT 1")),
                    Step::Ready(1),
                ]),
            ),
            script(
                "a bad row at the end",
                after(batch(&[from(), rows(), copy_data("x\ty\n"), copy_done(), query("SELECT 1")], 2)),
            ),
            script("CopyFail", after(batch(&[from(), rows(), copy_fail("no more"), query("SELECT 1")], 2))),
            script(
                "CopyFail after the error",
                after(batch(&[from(), copy_data("x\ty\n"), copy_fail("no more"), query("SELECT 1")], 2)),
            ),
            script(
                "Sync and Flush during COPY",
                after(batch(&[from(), sync(), rows(), flush(), sync(), copy_done()], 1)),
            ),
            script(
                "a Query during COPY",
                vec![Step::Send([from(), rows(), query("SELECT 1")].concat()), Step::Closed],
            ),
            script(
                "COPY in a block that fails",
                join(vec![
                    queries(&["BEGIN"]),
                    batch(&[from(), copy_data("x\n")], 1),
                    queries(&["SELECT 1", "ROLLBACK"]),
                ]),
            ),
            script(
                "COPY in a block",
                join(vec![
                    queries(&["BEGIN"]),
                    batch(&[from(), rows(), copy_done()], 1),
                    queries(&["SELECT count(*) FROM cp", "ROLLBACK"]),
                ]),
            ),
            script(
                "two COPY in one string",
                after(batch(
                    &[
                        query("COPY cp FROM STDIN; COPY cp FROM STDIN; SELECT 1"),
                        rows(),
                        copy_done(),
                        rows(),
                        copy_done(),
                    ],
                    1,
                )),
            ),
            script(
                "the first of two COPY fails",
                after(batch(
                    &[
                        query("COPY cp FROM STDIN; COPY cp FROM STDIN"),
                        copy_data("x\ty\n"),
                        copy_done(),
                        rows(),
                        copy_done(),
                        query("SELECT 1"),
                    ],
                    2,
                )),
            ),
            script(
                "COPY TO",
                queries(&[
                    "INSERT INTO cp VALUES (1, 'one'), (2, NULL)",
                    "COPY cp TO STDOUT",
                    "COPY cp TO STDOUT WITH (FORMAT csv, HEADER)",
                    "COPY cp TO STDOUT (FORMAT binary)",
                    "COPY (SELECT 1, 2) TO STDOUT; SELECT 3",
                    "TRUNCATE cp",
                ]),
            ),
            script(
                "COPY TO that fails in the middle",
                queries(&["COPY (SELECT 1 / (3 - g) FROM generate_series(1, 5) g) TO STDOUT", "SELECT 1"]),
            ),
            script("COPY of no such table", queries(&["COPY nowhere FROM STDIN", "COPY nowhere TO STDOUT"])),
            script(
                "extended COPY FROM",
                after(vec![
                    Step::Send([run("COPY cp FROM STDIN"), flush()].concat()),
                    Step::Until(b'G'),
                    Step::Send([rows(), copy_done(), sync()].concat()),
                    Step::Ready(1),
                ]),
            ),
            script(
                "extended COPY FROM, Sync first as libpq sends it",
                after(vec![
                    Step::Send([run("COPY cp FROM STDIN"), sync()].concat()),
                    Step::Until(b'G'),
                    Step::Send([rows(), copy_done(), sync()].concat()),
                    Step::Ready(1),
                    Step::Quiet,
                ]),
            ),
            script(
                "extended COPY FROM, all at once",
                after(batch(&[run("COPY cp FROM STDIN"), sync(), rows(), copy_done(), sync()], 1)),
            ),
            script(
                "extended COPY FROM with a bad row",
                after(vec![
                    Step::Send([run("COPY cp FROM STDIN"), flush()].concat()),
                    Step::Until(b'G'),
                    Step::Send(copy_data("x\ty\n")),
                    Step::Until(b'E'),
                    Step::Send([rows(), copy_done(), sync()].concat()),
                    Step::Ready(1),
                    Step::Send(query("SELECT 1")),
                    Step::Ready(1),
                ]),
            ),
            script(
                "extended COPY FROM with a bad row, Sync first",
                after(vec![
                    Step::Send([run("COPY cp FROM STDIN"), sync()].concat()),
                    Step::Until(b'G'),
                    Step::Send([copy_data("x\ty\n"), copy_done(), sync()].concat()),
                    Step::Ready(1),
                    Step::Quiet,
                    Step::Send(query("SELECT 1")),
                    Step::Ready(1),
                ]),
            ),
            script(
                "extended COPY FROM with a bad row, all at once",
                after(batch(
                    &[run("COPY cp FROM STDIN"), copy_data("x\ty\n"), copy_done(), sync(), query("SELECT 1")],
                    2,
                )),
            ),
            script(
                "extended CopyFail",
                after(batch(
                    &[run("COPY cp FROM STDIN"), rows(), copy_fail("stop"), sync(), query("SELECT 1")],
                    2,
                )),
            ),
            script(
                "extended COPY FROM, then more in the batch",
                after(batch(
                    &[run("COPY cp FROM STDIN"), rows(), copy_done(), run("SELECT count(*) FROM cp"), sync()],
                    1,
                )),
            ),
            script(
                "extended COPY FROM that cannot start",
                batch(&[run("COPY nowhere FROM STDIN"), sync(), query("SELECT 1")], 2),
            ),
            script(
                "extended COPY TO",
                batch(&[run("COPY (SELECT 1, 'x') TO STDOUT"), run("SELECT 2"), sync()], 1),
            ),
            script(
                "CopyDone missing at half-close",
                vec![Step::Send([from(), rows()].concat()), Step::HalfClose, Step::Closed],
            ),
            script("after all of it the server is clean", queries(&["SELECT count(*) FROM cp", "SELECT 1"])),
        ],
    );
}

#[test]
fn a_copy_without_its_end_ends_with_the_client() {
    let stage = stage();
    let mut wire = stage.endpoint.login("plain");
    wire.run("DROP TABLE IF EXISTS cut; CREATE TABLE cut (a int)");
    wire.send(&[query("COPY cut FROM STDIN"), copy_data("1\n2\n")].concat());
    wire.half_close();
    // PostgreSQL says so to a client that will not speak again; closing is what counts.
    assert_eq!(wire.until(0).last().map(|m| m.body.clone()), Some(b"closed".to_vec()));
    assert_eq!(stage.endpoint.login("plain").value("SELECT count(*) FROM cut").as_deref(), Ok("0"));
}
