//! Why a client got no connection, and what it is told.

use std::fmt;
use std::io;
use std::time::Duration;

use pgherd_wire::message::Report;

/// Why [`crate::Pool::checkout`] or [`crate::Gate::enter`] gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckoutError {
    /// All places were taken for as long as this client may wait.
    TimedOut { after: Duration },
    /// All places that several pools share were taken for as long as this client may wait.
    Capped { after: Duration, whose: String, limit: usize },
    /// So many wait already that this client was not even queued.
    TooManyWaiting { limit: usize },
    /// No connection could be opened, for a reason that waiting does not mend, or for as long as this client may wait.
    Connect(ConnectError),
    /// Too many transactions hold several servers, for as long as this client may wait.
    GateTimedOut { after: Duration, limit: usize },
}

/// Why one attempt to open a server connection failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// No address of the server accepted: refused, unroutable, or its name is unknown.
    Unreachable { kind: io::ErrorKind },
    /// It was not ready for queries in time.
    TimedOut { after: Duration },
    /// The connection could not be encrypted as configured, or the server is not the one that its certificate should name.
    Tls { why: String },
    /// The connection ended in the middle of the login.
    Lost { kind: io::ErrorKind },
    /// The server said no, in its own words.
    Refused(Report),
    /// pgherd cannot prove who it is, or the server cannot.
    Authentication { why: &'static str },
    /// The server said something that PostgreSQL would not.
    Protocol { why: &'static str },
}

impl ConnectError {
    /// Whether time alone may mend it: a server that restarts, or is full for now.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Lost { .. } => true,
            // Shutting down, crashed, starting up, full.
            Self::Refused(report) => {
                matches!(report.sqlstate.as_str(), "57P01" | "57P02" | "57P03" | "53300")
            }
            Self::Authentication { .. } | Self::Protocol { .. } | Self::Tls { .. } => false,
        }
    }

    /// What the client sees. The caller adds the name of the shard.
    pub fn report(&self) -> Report {
        match self {
            Self::Unreachable { .. } => Report::error("08001", "server is not reachable")
                .detail("No address of the server accepted a connection.")
                .hint("Retry; if this lasts, ask whether the server is running."),
            Self::TimedOut { after } => Report::error("08001", "server did not answer in time")
                .detail(format!("It was not ready for queries within {after:?} (connect_timeout)."))
                .hint("Retry; if this lasts, ask whether the server is running."),
            Self::Lost { .. } => Report::error("08006", "server closed the connection during login")
                .hint("Retry; the server's log says why."),
            // Forwarded as it is, 28P01 would tell the client that its own password was wrong. And the words stay
            // behind: "no pg_hba.conf entry for host ..." names addresses.
            Self::Refused(report) if report.sqlstate.starts_with("28") => Self::rejected(format!(
                "The server refused the credentials that pgherd presented (SQLSTATE {}); \
                 those of the client were not the reason.",
                report.sqlstate
            )),
            // The server's FATAL ended *its* connection. The client's lives on.
            Self::Refused(report) => Report { severity: "ERROR".into(), ..report.clone() },
            Self::Authentication { why } => Self::rejected(format!("{why}.")),
            Self::Tls { why } => Report::error("08001", "connection to the server could not be secured")
                .detail(format!("{why}."))
                .hint("Check sslmode and the certificates in pgherd's configuration and on the server."),
            Self::Protocol { why } => Report::error("08P01", "server broke the protocol during login")
                .detail(format!("{why}."))
                .hint("Check that the configured address is that of a PostgreSQL server."),
        }
    }

    fn rejected(detail: String) -> Report {
        Report::error("08004", "pgherd could not log in to the server")
            .detail(detail)
            .hint("Check user and password in pgherd's configuration, and pg_hba.conf on the server.")
    }
}

impl CheckoutError {
    /// What the client sees. Drivers branch on the SQLSTATE: it is our API.
    pub fn report(&self) -> Report {
        match self {
            Self::TimedOut { after } => Report::error("53300", "timed out waiting for a server connection")
                .detail(format!("No server connection became free within {after:?} (checkout_timeout)."))
                .hint("Retry, shorten transactions, or raise \"size\" or \"checkout_timeout\" of the pool."),
            Self::Capped { after, whose, limit } => Report::error(
                "53300",
                "timed out waiting for a server connection",
            )
            .detail(format!(
                "{whose} has {limit} server connections in use (max_connections), and none became free \
                         within {after:?} (checkout_timeout)."
            ))
            .hint("Retry, shorten transactions, or raise \"max_connections\"."),
            Self::TooManyWaiting { limit } => {
                Report::error("53300", "too many clients are waiting for a server connection")
                    .detail(format!("{limit} clients wait already (waiting_max)."))
                    .hint("Retry later, or raise \"size\" or \"waiting_max\" of the pool.")
            }
            Self::Connect(error) => error.report(),
            Self::GateTimedOut { after, limit } => Report::error(
                "53300",
                "timed out waiting to start a transaction over several servers",
            )
            .detail(format!(
                "{limit} such transactions ran already, and none ended within {after:?} (checkout_timeout)."
            ))
            .hint("Retry, shorten transactions, or raise \"size\" of the pool."),
        }
    }
}

impl From<ConnectError> for CheckoutError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

/// For logs: may hold the server's own words, which [`ConnectError::report`] keeps from clients.
impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { kind } => write!(f, "not reachable: {kind}"),
            Self::TimedOut { after } => write!(f, "not ready within {after:?}"),
            Self::Lost { kind } => write!(f, "connection lost during login: {kind}"),
            Self::Refused(report) => write!(f, "refused: {} ({})", report.message, report.sqlstate),
            Self::Authentication { why } => write!(f, "authentication: {why}"),
            Self::Tls { why } => write!(f, "TLS: {why}"),
            Self::Protocol { why } => write!(f, "protocol violation: {why}"),
        }
    }
}

impl fmt::Display for CheckoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after } => write!(f, "no server connection became free within {after:?}"),
            Self::Capped { after, whose, limit } => {
                write!(f, "none of the {limit} server connections of {whose} became free within {after:?}")
            }
            Self::TooManyWaiting { limit } => write!(f, "{limit} clients wait already"),
            Self::Connect(error) => error.fmt(f),
            Self::GateTimedOut { after, limit } => {
                write!(f, "none of {limit} transactions over several servers ended within {after:?}")
            }
        }
    }
}

impl std::error::Error for ConnectError {}
impl std::error::Error for CheckoutError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sqlstate: &str, message: &str) -> ConnectError {
        ConnectError::Refused(Report::fatal(sqlstate, message))
    }

    #[test]
    fn every_refusal_has_its_code_and_names_neither_address_nor_password() {
        let second = Duration::from_secs(1);
        let kind = io::ErrorKind::ConnectionRefused;
        let hba =
            "no pg_hba.conf entry for host \"10.0.0.5\", user \"app\", database \"shop\", no encryption";
        let cases: [(&str, CheckoutError, &str, &str); 12] = [
            (
                "full",
                CheckoutError::TimedOut { after: second },
                "53300",
                "timed out waiting for a server connection",
            ),
            (
                "a bound of several pools",
                CheckoutError::Capped { after: second, whose: "database \"shop\"".into(), limit: 3 },
                "53300",
                "timed out waiting for a server connection",
            ),
            (
                "crowd",
                CheckoutError::TooManyWaiting { limit: 3 },
                "53300",
                "too many clients are waiting for a server connection",
            ),
            (
                "gate",
                CheckoutError::GateTimedOut { after: second, limit: 2 },
                "53300",
                "timed out waiting to start a transaction over several servers",
            ),
            ("down", ConnectError::Unreachable { kind }.into(), "08001", "server is not reachable"),
            (
                "slow",
                ConnectError::TimedOut { after: second }.into(),
                "08001",
                "server did not answer in time",
            ),
            (
                "crash",
                ConnectError::Lost { kind }.into(),
                "08006",
                "server closed the connection during login",
            ),
            (
                "the server's own words",
                refused("3D000", "database \"x\" does not exist").into(),
                "3D000",
                "database \"x\" does not exist",
            ),
            (
                "not the client's password",
                refused("28P01", "password authentication failed").into(),
                "08004",
                "pgherd could not log in to the server",
            ),
            (
                "an address in the server's words",
                refused("28000", hba).into(),
                "08004",
                "pgherd could not log in to the server",
            ),
            (
                "no password",
                ConnectError::Authentication { why: "no password is configured" }.into(),
                "08004",
                "pgherd could not log in to the server",
            ),
            (
                "not PostgreSQL",
                ConnectError::Protocol { why: "junk" }.into(),
                "08P01",
                "server broke the protocol during login",
            ),
        ];
        for (why, error, sqlstate, message) in cases {
            let report = error.report();
            assert_eq!(
                (report.severity.as_str(), report.sqlstate.as_str(), report.message.as_str()),
                ("ERROR", sqlstate, message),
                "{why}"
            );
            let said = format!("{report:?}");
            assert!(!said.contains("10.0.0.5") && !said.contains("secret"), "{why}: {said}");
        }
    }

    #[test]
    fn only_what_time_may_mend_is_tried_again() {
        let cases = [
            (refused("57P03", "the database system is starting up"), true),
            (refused("57P01", "terminating connection due to administrator command"), true),
            (refused("53300", "sorry, too many clients already"), true),
            (ConnectError::Unreachable { kind: io::ErrorKind::ConnectionRefused }, true),
            (ConnectError::Lost { kind: io::ErrorKind::UnexpectedEof }, true),
            (refused("3D000", "database \"x\" does not exist"), false),
            (refused("28P01", "password authentication failed"), false),
            (ConnectError::Authentication { why: "no password is configured" }, false),
            (ConnectError::Protocol { why: "junk" }, false),
        ];
        for (error, passing) in cases {
            assert_eq!(error.is_passing(), passing, "{error}");
        }
    }
}
