//! Why a statement is not run: what the client sees.

/// An error the client can act on. Drivers branch on `sqlstate`: it is our API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub sqlstate: &'static str,
    /// Short, lower case, no full stop.
    pub message: String,
    /// Whole sentences.
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl Refusal {
    /// 0A000: a shape that is not proven right over several shards.
    pub fn unsupported(
        message: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let (detail, hint) = (detail.into(), hint.into());
        Self {
            sqlstate: "0A000",
            message: message.into(),
            detail: (!detail.is_empty()).then_some(detail),
            hint: (!hint.is_empty()).then_some(hint),
        }
    }
}

/// PostgreSQL's own code for a row that no partition takes.
pub fn no_shard(distribution: &str) -> Refusal {
    Refusal {
        sqlstate: "23514",
        message: format!("no shard of distribution \"{distribution}\" takes the row"),
        detail: None,
        hint: None,
    }
}
