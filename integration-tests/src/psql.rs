//! A psql that a test talks to, statement by statement, and may kill.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Stage;

const PATIENCE: Duration = Duration::from_secs(40);

pub struct Psql {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    marks: u32,
}

impl Psql {
    /// Connected through pgherd. Errors and answers arrive in one stream, as on a terminal.
    pub fn start(stage: &Stage) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = stage.psql_command();
        command.args(["-f", "-"]);
        command.stdin(std::process::Stdio::piped());
        command.stdout(writer.try_clone().expect("a pipe")).stderr(writer);
        let mut child = stage.herd().keeper().spawn(command).expect("psql starts");
        let stdin = child.stdin.take();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut psql = Self { child, stdin, lines, marks: 0 };
        // A statement that any shard may answer would meet one that a test has killed.
        assert_eq!(psql.ask("\\echo ready\n"), ["ready"]);
        psql
    }

    /// Sends text and does not wait.
    pub fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("psql reads");
        let _ = stdin.write_all(text.as_bytes());
        let _ = stdin.flush();
    }

    /// Sends a statement; [`Self::answer`] waits for what it says.
    pub fn say(&mut self, sql: &str) {
        self.marks += 1;
        let mark = self.marks;
        let end = if sql.starts_with('\\') { "" } else { ";" };
        self.send(&format!("{sql}{end}\n\\echo mark {mark}\n"));
    }

    /// What the last statement said: tags, rows, errors; without the lines of an error that name the source code.
    pub fn answer(&mut self) -> Vec<String> {
        let mark = format!("mark {}", self.marks);
        let deadline = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line == mark => return said,
                Ok(line) if line.starts_with("LOCATION:") => {}
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("psql has no answer after {PATIENCE:?}: {said:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    said.push("psql ended".into());
                    return said;
                }
            }
        }
    }

    pub fn ask(&mut self, sql: &str) -> Vec<String> {
        self.say(sql);
        self.answer()
    }

    /// The SQLSTATEs of all errors in an answer.
    pub fn errors(answer: &[String]) -> Vec<String> {
        answer
            .iter()
            .filter_map(|line| line.split_once("ERROR:  ").or_else(|| line.split_once("FATAL:  ")))
            .map(|(_, rest)| rest.split(':').next().unwrap_or_default().to_owned())
            .collect()
    }

    /// As if the machine of the client went away.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
