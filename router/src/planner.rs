//! Statement text -> [`Template`]; template + values -> [`Plan`].

use std::collections::HashMap;
use std::sync::Arc;

use crate::plan::{Literal, Params, Plan, Statement, Template};
use crate::refusal::Refusal;
use crate::topology::Topology;

#[derive(Debug)]
pub(crate) enum Route {}

/// A worker's cache of templates by fingerprint, for one topology at a time.
#[derive(Debug, Default)]
pub struct Cache {
    #[allow(dead_code)]
    templates: HashMap<u128, Arc<Template>>,
}

impl Cache {
    /// Splits `sql` into its statements (at least one; an empty text is one of `Kind::Empty`) and finds the
    /// template of each. Never fails: what cannot be lexed or parsed gets a template whose `plan` says so,
    /// or that sends it to the first shard, whose error is PostgreSQL's own.
    pub fn analyze(&mut self, _topology: &Topology, _sql: &str) -> Vec<Statement> {
        Vec::new()
    }
}

pub(crate) fn bind(
    template: &Template,
    _topology: &Topology,
    _sql: &str,
    _literals: &[Literal],
    _params: Params<'_>,
) -> Result<Plan, Refusal> {
    match template.route {}
}
