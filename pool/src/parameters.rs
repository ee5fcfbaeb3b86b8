//! What a server reported about itself (ParameterStatus), in the order it came.

/// More names than this are not believed; PostgreSQL 18 reports fifteen.
pub(crate) const PARAMETERS_MAX: usize = 256;

/// A small ordered list of names and values. Names compare without regard to case, as settings do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    entries: Vec<(Box<str>, Box<str>)>,
}

/// More than [`PARAMETERS_MAX`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyParameters;

impl Parameters {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (&**name, &**value))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Replaces the value in place, or appends.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), TooManyParameters> {
        if let Some(entry) = self.entries.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            entry.1 = value.into();
            return Ok(());
        }
        if self.entries.len() >= PARAMETERS_MAX {
            return Err(TooManyParameters);
        }
        self.entries.push((name.into(), value.into()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_reported_again_keeps_its_place_and_takes_the_new_value() {
        let mut parameters = Parameters::default();
        for (name, value) in [("server_version", "18.0"), ("TimeZone", "UTC"), ("timezone", "Europe/Paris")] {
            parameters.set(name, value).unwrap();
        }

        let listed: Vec<_> = parameters.iter().collect();

        assert_eq!(listed, [("server_version", "18.0"), ("TimeZone", "Europe/Paris")]);
        assert_eq!(parameters.get("TIMEZONE"), Some("Europe/Paris"));
    }

    #[test]
    fn a_server_that_reports_names_without_end_is_not_believed() {
        let mut parameters = Parameters::default();
        for n in 0..PARAMETERS_MAX {
            parameters.set(&format!("p{n}"), "").unwrap();
        }
        assert_eq!(parameters.set("one_more", ""), Err(TooManyParameters));
        assert_eq!(parameters.set("p7", "new"), Ok(()));
    }
}
