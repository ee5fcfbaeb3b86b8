//! A simple Query behind messages of the extended protocol whose Sync has not come: it runs in their transaction, or is skipped
//! when they have failed, which is not known yet when it comes.

use crate::extended::run;
use crate::raw::*;
use crate::*;

/// Each of those that pgherd answers itself, keeps account of, or sends on.
const STATEMENTS: &[&str] = &[
    "SELECT 'behind'",
    "",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "SET work_mem = '5MB'",
    "SET work_mem = 'nonsense'",
    "RESET ALL",
    "DISCARD ALL",
    "DEALLOCATE ALL",
    "PREPARE behind AS SELECT 1",
    "LISTEN behind",
    "NOTIFY behind",
    "CREATE TEMP TABLE behind (a int)",
    "DECLARE behind CURSOR WITH HOLD FOR SELECT 1",
    "VACUUM nothing_at_all",
    "SELEC",
];

/// int4abs
const ABS: u32 = 1397;

#[test]
fn a_query_behind_a_batch_without_its_sync_is_answered_as_by_postgresql() {
    let stage = stage();
    let temporary = "CREATE TEMP TABLE of_a_pinned_client (a int)";
    let before: [(&str, &[&str]); 3] = [
        ("nobody", &[]),
        // Its server was once asked whether anything is left of it while it skipped to the Sync: DISCARD ALL waited for ever.
        ("a pinned client", &[temporary, "SET application_name = 'pinned'"]),
        ("a client in a block", &["BEGIN", "SELECT 1"]),
    ];
    let batches = [
        ("that runs", run("SELECT 1")),
        ("that fails when it runs", run("SELECT 1/0")),
        ("that fails when it is parsed", parse("", "SELEC", &[])),
        ("of a Parse alone", parse("", "SELECT 3", &[])),
    ];
    let mut scripts = Vec::new();
    for (who, first) in &before {
        for (which, messages) in &batches {
            for sql in STATEMENTS {
                let why = format!("{who}, behind a batch {which}: {sql}");
                // How many ReadyForQuery come is the server's to say; a FunctionCall is answered by nothing else.
                let end = [sync(), query("SHOW work_mem"), query("ROLLBACK"), function_call(ABS, &["-7"])];
                let steps = join(vec![
                    queries(first),
                    vec![
                        Step::Send([messages.clone(), query(sql), end.concat()].concat()),
                        Step::Until(b'V'),
                        Step::Ready(1),
                    ],
                ]);
                // A test program's few names live as long as it does.
                scripts.push(script(why.leak(), steps));
            }
        }
    }
    for sql in ["DISCARD ALL", "SELECT 1", "SET work_mem = '5MB'", "ROLLBACK"] {
        let why = format!("a pinned client, behind an error that it has read: {sql}");
        let steps = join(vec![
            queries(&[temporary]),
            vec![
                Step::Send(run("SELECT 1/0")),
                Step::Until(b'E'),
                Step::Send(query(sql)),
                Step::Quiet,
                Step::Send(sync()),
                Step::Ready(1),
            ],
            queries(&["SHOW work_mem", "SELECT 2"]),
        ]);
        scripts.push(script(why.leak(), steps));
    }
    stage.compare("plain", scripts);
}
