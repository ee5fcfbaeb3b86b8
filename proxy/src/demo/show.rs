//! What the demo puts on the screen: a spinner while something runs (in a terminal), a line when it is done,
//! tables at the end.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const SPIN_EVERY: Duration = Duration::from_millis(100);

/// One step of the demo. Nothing but its last line is shown where stderr is no terminal.
pub struct Step {
    what: String,
    bar: ProgressBar,
}

impl Step {
    pub fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        let style = ProgressStyle::with_template("{spinner} {prefix}  {msg}").expect("the template is valid");
        let bar = ProgressBar::new_spinner().with_style(style).with_prefix(what.clone());
        bar.enable_steady_tick(SPIN_EVERY);
        Self { what, bar }
    }

    pub fn news(&self, words: &str) {
        self.bar.set_message(words.to_owned());
    }

    pub fn done(self, outcome: impl Display) {
        self.bar.finish_and_clear();
        say(format!("  ok    {:<34} {outcome}", self.what).trim_end());
    }
}

impl Drop for Step {
    /// Without [`Step::done`] it failed; the error says more.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line for the user. One who has closed the pipe does not want it.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Columns as wide as they must be; the first is a name, the others are figures.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<width$}", width = widths[0]),
            _ => format!("{cell:>width$}", width = widths[column]),
        });
        text.push_str("  ");
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// 1234567 as "1,234,567".
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (123_456, "123,456"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn figures_stand_below_each_other() {
        let rows = [["", "s0", "s1"], ["orders", "1,000", "7"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "              s0   s1\n  orders   1,000    7\n");
    }
}
