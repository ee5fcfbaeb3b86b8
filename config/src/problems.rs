//! What is wrong with a file, and where.
//!
//! Invariant: problems are sorted by place, and there is at least one.

use std::fmt;

/// Everything wrong with one file. `Display` prints one line a problem and then how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file_name: String,
    list: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `None`: the file as a whole.
    pub place: Option<Place>,
    /// Never contains a secret.
    pub message: String,
}

/// Both count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Problems {
    /// The file cannot be read at all.
    pub(crate) fn of_file(file_name: &str, message: String) -> Self {
        Self { file_name: file_name.into(), list: vec![Problem { place: None, message }] }
    }

    /// Each line says by itself where it belongs.
    pub(crate) fn of_lines(file_name: &str, lines: Vec<String>) -> Self {
        let list = lines.into_iter().map(|message| Problem { place: None, message }).collect();
        Self { file_name: file_name.into(), list }
    }

    /// Sorted by place.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// `file:line:column: message`, one for each problem.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.list.iter().map(|problem| match problem.place {
            Some(Place { line, column }) => {
                format!("{}:{line}:{column}: {}", self.file_name, problem.message)
            }
            None if problem.message.starts_with(&self.file_name) => problem.message.clone(),
            None => format!("{}: {}", self.file_name, problem.message),
        })
    }

    /// The lines, then the count and what follows from it, such as "the running configuration is
    /// unchanged".
    pub fn report(&self, consequence: &str) -> String {
        let mut report: String = self.lines().map(|line| line + "\n").collect();
        let count = self.list.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        report.push_str(&format!("{count} {noun}; {consequence}"));
        report
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report("this configuration is not used"))
    }
}

impl std::error::Error for Problems {}

/// Problems while they are being found, by byte offset.
pub(crate) struct Draft<'t> {
    text: &'t str,
    file_name: &'t str,
    found: Vec<(usize, String)>,
}

impl<'t> Draft<'t> {
    pub fn new(text: &'t str, file_name: &'t str) -> Self {
        Self { text, file_name, found: Vec::new() }
    }

    pub fn push(&mut self, at: usize, message: impl Into<String>) {
        self.found.push((at, message.into()));
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn place(&self, at: usize) -> Place {
        // A parser may point behind the last byte, or in theory into a character: both stay a place.
        let mut end = at.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            line: 1 + before.bytes().filter(|b| *b == b'\n').count(),
            column: 1 + before[line_start..].chars().count(),
        }
    }

    /// The configuration when nothing was found, else the problems.
    pub fn finish<T>(mut self, result: Option<T>) -> Result<T, Problems> {
        match result {
            Some(value) if self.is_empty() => return Ok(value),
            None if self.is_empty() => {
                // A check gave nothing and did not say why. Refusing is right, the message is our fault.
                self.push(0, "the file was refused without a reason; this is a fault in pgherd");
            }
            _ => {}
        }
        self.found.sort_by_key(|(at, _)| *at);
        let found = std::mem::take(&mut self.found);
        let list =
            found.into_iter().map(|(at, message)| Problem { place: Some(self.place(at)), message }).collect();
        Err(Problems { file_name: self.file_name.into(), list })
    }
}
