//! Asking a TOML document for its keys, so that every mistake is found with its place.
//!
//! serde stops at the first error. A [`Section`] is asked for each key in turn instead; a wrong value is a
//! problem and the walk goes on, and what nobody asked for is an unknown key.
//!
//! Not here: which keys there are (`raw`), what a value may be (`values`).

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problems::Draft;
use crate::values;

/// Longest name compared with others for a suggestion: comparing costs the product of the lengths.
const SUGGEST_BYTES_MAX: usize = 64;

/// A value and the byte offset where it (or for a name, its key) was typed.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub at: usize,
    pub value: T,
}

/// What a key holds. `Bad` was reported already, so that later checks do not report it again.
#[derive(Debug, Clone, Default)]
pub(crate) enum Field<T> {
    #[default]
    Absent,
    Bad,
    Given(At<T>),
}

impl<T> Field<T> {
    pub fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Bad => None,
        }
    }

    pub fn value(&self) -> Option<&T> {
        self.given().map(|at| &at.value)
    }
}

/// The document's root; `None` when the syntax is wrong.
pub(crate) fn parse<'i>(text: &'i str, problems: &mut Draft<'_>) -> Option<Section<'i>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reported_line = 0;
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        let line = problems.place(at).line;
        // After a mistake the parser finds more on the same line, which are only its consequences.
        if line != reported_line {
            problems.push(at, format!("not TOML: {}", error.message()));
            reported_line = line;
        }
    }
    if problems.is_empty() { Some(Section::new(String::new(), 0, root.into_inner())) } else { None }
}

/// One table of the document.
pub(crate) struct Section<'i> {
    /// "databases.shop.pool"; empty for the root. The entries of an array share the array's path.
    path: String,
    /// Where the section begins: its header, or the brace of an inline table.
    pub at: usize,
    /// Not asked for yet, in the order of the file.
    entries: Vec<(At<String>, Spanned<DeValue<'i>>)>,
    /// Asked for, whether there or not: candidates for "did you mean".
    known: Vec<&'static str>,
}

impl<'i> Section<'i> {
    fn new(path: String, at: usize, table: DeTable<'i>) -> Self {
        let mut entries: Vec<_> = table
            .into_iter()
            .map(|(key, value)| (At { at: key.span().start, value: key.into_inner().into_owned() }, value))
            .collect();
        entries.sort_by_key(|(key, _)| key.at);
        Self { path, at, entries, known: Vec::new() }
    }

    /// The full name of a key, as problems call it.
    pub fn name(&self, key: &str) -> String {
        // As TOML writes it, so that a strange name cannot break the line of its problem.
        let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        let key = if bare { key.into() } else { format!("{key:?}") };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<(At<String>, Spanned<DeValue<'i>>)> {
        self.known.push(key);
        let index = self.entries.iter().position(|(name, _)| name.value == key)?;
        Some(self.entries.remove(index))
    }

    /// `read` says what is wrong as the rest of a sentence that begins with the key: "must be ...".
    pub fn value<T>(
        &mut self,
        key: &'static str,
        problems: &mut Draft<'_>,
        read: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) -> Field<T> {
        let Some((_, value)) = self.take(key) else { return Field::Absent };
        let at = value.span().start;
        match read(value.get_ref()) {
            Ok(value) => Field::Given(At { at, value }),
            Err(reason) => {
                problems.push(at, format!("{} {reason}", self.name(key)));
                Field::Bad
            }
        }
    }

    /// As [`Self::value`]; a key that is not there is a problem of the section.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        problems: &mut Draft<'_>,
        read: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) -> Field<T> {
        match self.value(key, problems, read) {
            Field::Absent => {
                problems.push(self.at, format!("{} is missing", self.name(key)));
                Field::Bad
            }
            field => field,
        }
    }

    /// An array, or where `single` allows it one value instead of an array of one. An item that is wrong
    /// makes the whole field bad.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        single: bool,
        problems: &mut Draft<'_>,
        read: impl Fn(&DeValue<'i>) -> Result<T, String>,
    ) -> Field<Vec<At<T>>> {
        let Some((_, value)) = self.take(key) else { return Field::Absent };
        let name = self.name(key);
        let at = value.span().start;
        let items: Vec<Spanned<DeValue<'i>>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().cloned().collect(),
            _ if single => vec![value],
            other => {
                problems.push(at, format!("{name} must be an array, but is {}", values::kind(other)));
                return Field::Bad;
            }
        };
        let mut read_items = Vec::with_capacity(items.len());
        let mut all_good = true;
        for item in &items {
            let at = item.span().start;
            match read(item.get_ref()) {
                Ok(value) => read_items.push(At { at, value }),
                Err(reason) => {
                    problems.push(at, format!("{name} {reason}"));
                    all_good = false;
                }
            }
        }
        if all_good { Field::Given(At { at, value: read_items }) } else { Field::Bad }
    }

    /// A table under `key`.
    pub fn section(&mut self, key: &'static str, problems: &mut Draft<'_>) -> Field<Section<'i>> {
        let Some((_, value)) = self.take(key) else { return Field::Absent };
        let at = value.span().start;
        match as_section(self.name(key), value, problems) {
            Some(value) => Field::Given(At { at, value }),
            None => Field::Bad,
        }
    }

    /// `[[key]]`, as often as there are entries.
    pub fn sections(&mut self, key: &'static str, problems: &mut Draft<'_>) -> Field<Vec<Section<'i>>> {
        let Some((_, value)) = self.take(key) else { return Field::Absent };
        let at = value.span().start;
        let path = self.name(key);
        match value.into_inner() {
            DeValue::Array(items) => {
                let count = items.len();
                let sections: Vec<_> =
                    items.into_iter().filter_map(|item| as_section(path.clone(), item, problems)).collect();
                if sections.len() == count { Field::Given(At { at, value: sections }) } else { Field::Bad }
            }
            DeValue::Table(_) => {
                problems.push(at, format!("{path} may have several entries: write [[{path}]]"));
                Field::Bad
            }
            other => {
                let is = values::kind(&other);
                problems.push(at, format!("{path} must be an array of tables ([[{path}]]), but is {is}"));
                Field::Bad
            }
        }
    }

    /// The tables of this section whose names the operator chose, in the order of the file. A value that
    /// is no table is a problem, but its name is still there to be referred to.
    pub fn named(&mut self, problems: &mut Draft<'_>) -> Vec<(At<String>, Option<Section<'i>>)> {
        std::mem::take(&mut self.entries)
            .into_iter()
            .map(|(name, value)| {
                let section = as_section(self.name(&name.value), value, problems);
                (name, section)
            })
            .collect()
    }

    /// All that is left, as names that the operator chose, each with a string.
    pub fn texts(&mut self, problems: &mut Draft<'_>) -> Vec<(At<String>, Field<String>)> {
        std::mem::take(&mut self.entries)
            .into_iter()
            .map(|(name, value)| {
                let at = value.span().start;
                let field = match values::text(value.get_ref()) {
                    Ok(value) => Field::Given(At { at, value }),
                    Err(reason) => {
                        problems.push(at, format!("{} {reason}", self.name(&name.value)));
                        Field::Bad
                    }
                };
                (name, field)
            })
            .collect()
    }

    /// The names of all keys not asked for yet, when every one of them is a table.
    pub fn only_tables(&self) -> Option<Vec<&str>> {
        let all = self.entries.iter().all(|(_, value)| matches!(value.get_ref(), DeValue::Table(_)));
        (all && !self.entries.is_empty())
            .then(|| self.entries.iter().map(|(key, _)| key.value.as_str()).collect())
    }

    /// Designed, not built: refused by name, whatever its value.
    pub fn not_yet(&mut self, keys: &[&'static str], problems: &mut Draft<'_>) {
        for key in keys {
            if let Some((name, _)) = self.take(key) {
                problems.push(name.at, format!("{} is not supported yet", self.name(key)));
            }
        }
    }

    /// Known, but not in this place.
    pub fn elsewhere(&mut self, keys: &[&'static str], where_then: &str, problems: &mut Draft<'_>) {
        for key in keys {
            if let Some((name, _)) = self.take(key) {
                let name_here = self.name(key);
                problems.push(name.at, format!("{name_here} cannot be set here, only {where_then}"));
            }
        }
    }

    /// What nobody asked for is unknown.
    pub fn finish(self, problems: &mut Draft<'_>) {
        for (key, _) in &self.entries {
            let name = &key.value;
            let advice = did_you_mean(name, self.known.iter().copied());
            problems.push(key.at, format!("unknown key {name:?}{advice}"));
        }
    }
}

fn as_section<'i>(
    path: String,
    value: Spanned<DeValue<'i>>,
    problems: &mut Draft<'_>,
) -> Option<Section<'i>> {
    let at = value.span().start;
    match value.into_inner() {
        DeValue::Table(table) => Some(Section::new(path, at, table)),
        other => {
            problems.push(at, format!("{path} must be a table, but is {}", values::kind(&other)));
            None
        }
    }
}

/// `; did you mean "..."?` when a known name is close enough to be what was meant, else nothing.
pub(crate) fn did_you_mean<'n>(typed: &str, known: impl Iterator<Item = &'n str>) -> String {
    if typed.len() > SUGGEST_BYTES_MAX {
        return String::new();
    }
    let allowed = (typed.chars().count() / 3).clamp(1, 3);
    known
        .filter(|name| name.len() <= SUGGEST_BYTES_MAX)
        .map(|name| (distance(typed, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= allowed)
        .map_or(String::new(), |(_, name)| format!("; did you mean {name:?}?"))
}

/// Insertions, deletions, replacements and swaps of neighbours between two names.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_close_name_is_suggested() {
        let known = ["size", "checkout_timeout", "idle_timeout"];
        let cases = [
            ("one letter missing", "sze", "; did you mean \"size\"?"),
            ("neighbours swapped", "szie", "; did you mean \"size\"?"),
            ("a longer name may differ more", "checkout_timout", "; did you mean \"checkout_timeout\"?"),
            ("something else", "color", ""),
            ("short names are not all alike", "x", ""),
        ];
        for (why, typed, expected) in cases {
            assert_eq!(did_you_mean(typed, known.into_iter()), expected, "{why}");
        }
    }
}
