//! Planning a statement whose keys may first have to be looked up in a directory.

use pgherd_router::plan::{Params, Plan, Statement};
use pgherd_router::{Refusal, Topology};

use super::Session;

/// Of a row that has no place: only such a refusal may end when the catalog is asked.
const NO_PLACE: &str = "23514";

impl Session {
    /// The plan, after a look into the catalog if that is what it lacks.
    ///
    /// # Cancel safety
    /// Safe: a key that was entered meanwhile stays entered.
    pub(super) async fn plan(
        &self,
        topology: &Topology,
        statement: &Statement,
        text: &str,
        params: Params<'_>,
    ) -> Result<Plan, Refusal> {
        let template = &*statement.template;
        let plan = template.plan(topology, text, &statement.literals, params);
        match &plan {
            Err(refusal) if refusal.sqlstate == NO_PLACE => {}
            _ => return plan,
        }
        let Some((distribution, keys)) = template.not_known(topology, text, &statement.literals, params)
        else {
            return plan;
        };
        let Some(distribution) = topology.distributions.get(distribution) else { return plan };
        self.db.place(&distribution.name, keys).await;
        template.plan(topology, text, &statement.literals, params)
    }
}
