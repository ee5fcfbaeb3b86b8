//! What a statement becomes: the types between the router and the proxy that runs the plan.

use std::ops::Range;

use crate::refusal::Refusal;
use crate::topology::{ShardId, Topology};

/// What a statement text means, whatever its literals: made once per fingerprint and topology, then cached.
///
/// Immutable and `Send + Sync`. Made by `planner`.
#[derive(Debug)]
pub struct Template {
    pub kind: Kind,
    /// What it leaves behind in the session, which transaction pooling has to care for.
    pub effect: Option<SessionEffect>,
    /// It provably writes nothing on the server. `false` when in doubt.
    pub read_only: bool,
    /// It changes the schema: facts must be loaded again after its transaction.
    pub ddl: bool,
    /// PostgreSQL refuses it inside a transaction block (VACUUM, CREATE INDEX CONCURRENTLY, CREATE DATABASE, ...).
    pub outside_transaction: bool,
    /// What the client should be told (NOTICE) when the statement has run.
    pub notices: Vec<String>,
    /// [`Topology::version`] it was made for. `plan` with another topology plans the text again, every time.
    pub version: u64,
    /// Private to the planner.
    pub(crate) route: crate::planner::Route,
}

/// What the session itself must understand. Everything else is `Other`.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// No token at all: EmptyQueryResponse.
    Empty,
    /// BEGIN / START TRANSACTION that the planner understood in full.
    Begin(Begin),
    /// COMMIT / END [WORK|TRANSACTION] [AND [NO] CHAIN]
    Commit {
        chain: bool,
    },
    /// ROLLBACK / ABORT [AND [NO] CHAIN]
    Rollback {
        chain: bool,
    },
    /// Names folded as PostgreSQL folds identifiers.
    Savepoint(String),
    RollbackTo(String),
    Release(String),
    /// SET [SESSION] / RESET / SET ROLE / SET SESSION AUTHORIZATION / SET TIME ZONE, outside SET LOCAL
    Set(SetStatement),
    /// SET LOCAL, SET CONSTRAINTS, SET TRANSACTION: lives in the transaction.
    SetLocal,
    /// SELECT set_config(name, value, false), once or several times, and nothing else.
    SetConfig(Vec<(ConfigText, ConfigText)>),
    DiscardAll,
    /// LISTEN channel
    Listen(String),
    /// UNLISTEN channel. `None`: *
    Unlisten(Option<String>),
    /// PREPARE name [(types)] AS statement. On a plain pool only. `types` with its parentheses, or empty; both in the statement's
    /// own text.
    Prepare {
        name: String,
        types: Range<u32>,
        body: Range<u32>,
    },
    /// EXECUTE name ..., also behind EXPLAIN or CREATE TABLE ... AS. On a plain pool only. `at`: where the name stands in the
    /// statement's own text.
    Execute {
        name: String,
        at: Range<u32>,
    },
    /// `None`: ALL
    Deallocate(Option<String>),
    /// COPY ... FROM STDIN into a sharded or reference table, see [`Plan::CopyFrom`]
    CopyFrom,
    /// COPY ... TO STDOUT
    CopyTo,
    /// DECLARE ... CURSOR. Its cursor is on the shard that its plan names, and nowhere else.
    Declare {
        name: String,
        hold: bool,
    },
    /// FETCH and MOVE: go to the shard where the cursor was declared, whatever `plan` says (a portal that the session does
    /// not know: the first shard, whose error is PostgreSQL's own).
    Fetch {
        name: String,
    },
    /// CLOSE. `None`: ALL
    CloseCursor {
        name: Option<String>,
    },
    Other,
}

/// An argument of set_config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigText {
    Constant(String),
    /// Of the Bind message; 0 is $1.
    Param(u16),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Begin {
    pub isolation: Option<Isolation>,
    pub read_only: Option<bool>,
    pub deferrable: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetStatement {
    /// Parameter name in lower case ("timezone" for SET TIME ZONE, "role", "session_authorization").
    /// `value`: the text after TO or =, verbatim, without a trailing semicolon; `None`: DEFAULT.
    Set {
        name: String,
        value: Option<String>,
    },
    Reset {
        name: String,
    },
    ResetAll,
}

/// Something that lives in the server's session: the client keeps that server (is pinned).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEffect {
    TemporaryTable,
    /// A LISTEN that was not understood in full.
    Listen,
    /// DECLARE ... WITH HOLD
    HoldableCursor,
    /// pg_advisory_lock and its kin (not the _xact_ ones)
    AdvisoryLock,
    /// SQL PREPARE / EXECUTE
    SqlPrepare,
    /// currval, lastval: what an earlier nextval of the session left. It pins nothing; in a transaction they are right.
    SequenceValue,
    /// pg_advisory_unlock, DISCARD TEMP: what lived in the session may be gone. It pins nothing.
    LetsGo,
    /// NOTIFY. It pins nothing.
    Notify,
    /// pg_listening_channels(): what the session listens to. It pins nothing.
    ListeningChannels,
    /// LOAD, set_config(..., false), and other functions that change the session
    Other,
}

/// A literal of the statement text, in order of appearance. Only what the lexer itself takes out of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    /// Where it stands in the text, quotes and prefix included; a sign before a number is not part of it.
    pub at: Range<u32>,
    pub kind: LiteralKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiteralKind {
    /// Digits only
    Integer,
    /// With a point, an exponent, or in hexadecimal/octal/binary
    Numeric,
    /// '...'; doubled quotes inside
    String,
    /// E'...'
    EscapeString,
    /// $tag$...$tag$
    DollarString,
    /// B'', X'', U&'', N''
    OtherString,
}

/// Values bound to $1.. of a prepared statement. Empty for the simple protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Params<'a> {
    /// `None`: NULL.
    pub values: &'a [Option<&'a [u8]>],
    /// Format codes as in Bind: none (all text), one for all, or one each. 0 text, 1 binary.
    pub formats: &'a [u16],
    /// Type OIDs as in Parse; missing or 0: the server infers it.
    pub types: &'a [u32],
}

/// Where a statement runs, for given values.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Any one shard gives the answer: prefer one that the transaction holds already.
    Any,
    /// All rows it can touch are on this shard: bytes go through unchanged.
    One(ShardId),
    /// The same text on several shards.
    Each(Each),
    /// A different text for each shard (multi-row INSERT; INSERT ... SELECT with a filter by owner).
    Split { parts: Vec<Part>, combine: Combine },
    /// The same text on several shards, which answer with sorted rows (or any, up to a limit): merged into one stream.
    Merge(Merge),
    /// EXPLAIN of a statement that runs on several shards.
    Explain(Shown),
    /// COPY ... FROM STDIN: rows go to their shards; see `copy::Splitter`.
    CopyFrom(CopyPlan),
    /// Rows are pulled to one shard, which finishes the work.
    Gather(Box<Gather>),
    /// It lacks values that only one server may give: they are drawn first, then it is planned with them.
    Draw(Box<Draw>),
    /// COPY ... TO STDOUT of every shard, one after the other.
    CopyTo { shards: Vec<ShardId>, format: CopyFormat, header: bool },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Each {
    /// At least one, ascending. With one it is like `One`, but `combine` still applies.
    pub shards: Vec<ShardId>,
    pub combine: Combine,
    /// Run on the first shard alone before the others start (writes to reference tables: the first
    /// shard's locks put concurrent writers into one order).
    pub first_alone: bool,
}

/// EXPLAIN of a plan: the plan, and what the shards are asked for their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub shards: Vec<ShardId>,
    /// What the shards are asked. `None`: its own text.
    pub sql: Option<String>,
    /// The plan of pgherd's own.
    pub line: String,
}

/// Rows of several shards in one order, and how many of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// Ascending.
    pub shards: Vec<ShardId>,
    /// What the shards are asked, with the statement's own parameters. `None`: its own text.
    pub sql: Option<String>,
    /// Columns behind the statement's own, to be cut off.
    pub hidden: usize,
    /// None: the rows come in any order.
    pub keys: Vec<SortKey>,
    pub offset: u64,
    pub limit: Option<u64>,
    /// Rows that are equal to the last one within the limit come, too.
    pub ties: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortKey {
    pub place: Place,
    pub descending: bool,
    pub nulls_first: bool,
    /// It is known to be compared by its bytes, if it is a text.
    pub c_collation: bool,
}

/// A column of a shard's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Of the statement's own, from the first one on, or from the last one backwards.
    Start(usize),
    End(usize),
    /// Of the hidden ones.
    Hidden(usize),
}

impl Place {
    /// Its number among `columns`, of which the last `hidden` are.
    pub fn number(self, columns: usize, hidden: usize) -> Option<usize> {
        let own = columns.checked_sub(hidden)?;
        match self {
            Self::Start(at) => (at < own).then_some(at),
            Self::End(at) => own.checked_sub(at)?.checked_sub(1),
            Self::Hidden(at) => (at < hidden).then_some(own + at),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub shard: ShardId,
    pub sql: String,
    /// Parameters of the original that `sql` uses, renumbered: its $1 is the original's `params[0]` (0-based).
    pub params: Vec<u16>,
}

/// A statement that PostgreSQL itself answers, on one shard, with the rows that it needs pulled there into temporary tables.
#[derive(Debug, Clone, PartialEq)]
pub struct Gather {
    /// Where it runs; `None`: on any shard.
    pub scratch: Option<ShardId>,
    pub pulls: Vec<Pull>,
    /// The statement in pieces, between which stand temporary tables in the place of sharded ones. Its parameters are the original's.
    pub pieces: Vec<String>,
    /// For each place between two pieces, the pull whose table stands there.
    pub gaps: Vec<usize>,
    pub explain: Explain,
    pub answer: Answer,
}

impl Gather {
    /// The statement. `tables`: what the names of the temporary tables begin with; see [`Gather::table`].
    pub fn sql(&self, tables: &str) -> String {
        let mut sql = self.pieces.first().cloned().unwrap_or_default();
        for (pull, piece) in self.gaps.iter().zip(self.pieces.iter().skip(1)) {
            sql.push_str(&Self::table(tables, *pull));
            sql.push_str(piece);
        }
        sql
    }

    /// The temporary table of a pull, with its schema.
    pub fn table(tables: &str, pull: usize) -> String {
        format!("pg_temp.{tables}{}", pull + 1)
    }
}

/// What the names of the temporary tables of a gather begin with, where none outlives its statement.
pub const GATHER_TABLES: &str = "pgherd_g";

/// What a gathered statement answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    #[default]
    Rows,
    /// The data of a COPY.
    Copy,
    /// A cursor, which reads the temporary tables as long as its transaction lasts.
    Cursor,
}

/// A statement with gaps for values that the first shard gives: of sequences (whoever's rows they number, so that a value is given once
/// in the whole herd, and what SQL says of the sequence holds), of defaults and moments that would be others on each shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// In the order in which they are drawn from.
    pub sources: Vec<Source>,
    /// For each gap, in the order of the text, the source that fills it.
    pub gaps: Vec<usize>,
    /// One more than there are gaps.
    pub pieces: Vec<String>,
    /// Parameters that the statement has.
    pub params: usize,
}

/// What values are drawn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// An SQL expression.
    pub sql: String,
    /// Each gap has a value of its own; otherwise all have the same one.
    pub each: bool,
    /// Type OID of a parameter that carries a value.
    pub oid: u32,
    pub written: Written,
}

/// How a value is written as a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Number,
    /// A string, which becomes what it is put into.
    Text,
    /// A string behind the name of its type.
    Typed(&'static str),
}

impl Source {
    /// A value as a constant. `None`: NULL.
    pub fn constant(&self, value: Option<&str>) -> String {
        let Some(value) = value else { return "NULL".to_owned() };
        let string = || format!("'{}'", value.replace('\'', "''"));
        match self.written {
            Written::Number => value.to_owned(),
            Written::Text => string(),
            Written::Typed(ty) => format!("{ty} {}", string()),
        }
    }
}

impl Draw {
    /// How many values a source gives.
    pub fn count(&self, source: usize) -> usize {
        match self.sources.get(source) {
            Some(Source { each: true, .. }) => self.gaps.iter().filter(|gap| **gap == source).count(),
            _ => 1,
        }
    }

    /// What the first shard is asked for one of the sources: a row for each value.
    pub fn question(&self, source: usize) -> String {
        let sql = self.sources.get(source).map_or("NULL", |source| source.sql.as_str());
        let count = self.count(source);
        format!("SELECT CAST({sql} AS pg_catalog.text) FROM pg_catalog.generate_series(1, {count})")
    }

    /// The whole statement. `values`: of each gap in turn.
    pub fn sql<S: AsRef<str>>(&self, values: impl Iterator<Item = S>) -> String {
        let mut sql = self.pieces.first().cloned().unwrap_or_default();
        for (value, piece) in values.zip(self.pieces.iter().skip(1)) {
            sql.push_str(value.as_ref());
            sql.push_str(piece);
        }
        sql
    }
}

/// Whether it is told what would be done, in lines of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Explain {
    #[default]
    No,
    /// Without doing it: nothing is pulled.
    Plan,
    Analyze,
}

/// The rows of one table that a gather needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Pull {
    /// Schema and table, quoted.
    pub table: String,
    /// Quoted, with commas between them. Never empty.
    pub columns: String,
    /// What is asked of a row, in SQL; empty: nothing. Its $1 is the original's `params[0]` (0-based).
    pub condition: String,
    pub params: Vec<u16>,
    /// Ascending.
    pub shards: Vec<ShardId>,
    /// Columns of the primary key, quoted, where the statement may depend on it.
    pub primary_key: Option<String>,
    /// Its columns have types whose binary form means the same on every server. Otherwise rows travel as text.
    pub binary: bool,
    /// It has floating-point columns, which are text in full only with extra_float_digits above 0.
    pub floats: bool,
}

impl Pull {
    /// What a shard is asked for.
    pub fn select(&self) -> String {
        let mut sql = format!("SELECT {} FROM {}", self.columns, self.table);
        if !self.condition.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&self.condition);
        }
        sql
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Combine {
    /// The union of the rows; counts in the command tag add up.
    Union,
    /// Every shard does the same (DDL, reference tables): the first one's answer; the others' tags must agree.
    Same,
    /// One row from each shard, one combination for each column.
    Aggregate(Vec<Aggregate>),
    /// RETURNING of a split INSERT: for each row of VALUES, the index of the part that inserts it.
    Interleave(Vec<u16>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// count(*) and count(x): the sum, 0 when there is none.
    Count,
    Sum,
    Min,
    Max,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// COPY FROM STDIN into a sharded or reference table.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyPlan {
    /// Index into `Topology::tables`.
    pub table: usize,
    /// Shards that take part, ascending.
    pub shards: Vec<ShardId>,
    /// `None`: a reference table, every row goes to every shard.
    pub rows: Option<CopyRows>,
}

/// How to find the key in a row of a COPY stream.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyRows {
    pub format: CopyFormat,
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: Vec<u8>,
    pub quote: u8,
    pub escape: u8,
    /// The first line is a header: it goes to every shard and is no row.
    pub header: bool,
    /// CSV: quoted or not, these columns (by position in the row) read the null string as a value (FORCE_NOT_NULL), or
    /// a quoted null string as NULL (FORCE_NULL).
    pub force_not_null: Vec<usize>,
    pub force_null: Vec<usize>,
    pub distribution: usize,
    /// Positions of the key columns in a row.
    pub key: Vec<usize>,
    /// Columns in a row.
    pub columns: usize,
    /// Type OIDs of the key columns (how binary values are read).
    pub key_types: Vec<u32>,
    /// varchar(n): surplus blanks are cut as the value is stored, and the hash is that of what is left. `None`: kept as sent.
    pub key_chars: Vec<Option<usize>>,
}

/// One statement of a query string.
#[derive(Debug, Clone)]
pub struct Statement {
    pub at: Range<u32>,
    pub template: std::sync::Arc<Template>,
    pub literals: Vec<Literal>,
}

impl Template {
    /// Refused whatever its values are.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.route {
            crate::planner::Route::Refuse(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// A shard that knows all relations it names, as far as one does: where its text can be checked without its values.
    pub fn home(&self) -> ShardId {
        self.route.home()
    }

    /// Keys that an INSERT needs and a directory does not have, with the index of their distribution: once they are entered, it
    /// can be planned.
    pub fn not_known(
        &self,
        topology: &Topology,
        sql: &str,
        literals: &[Literal],
        params: Params<'_>,
    ) -> Option<(usize, Vec<crate::value::KeyValue<'static>>)> {
        crate::planner::not_known(self, topology, sql, literals, params)
    }

    /// Why rows of an INSERT of VALUES could not go to several shards, whatever their keys are.
    pub fn against_several(&self, sql: &str, literals: &[Literal], params: Params<'_>) -> Option<Refusal> {
        crate::planner::against_several(self, sql, literals, params)
    }

    /// Where the statement runs with these values.
    ///
    /// `sql` is the statement's own text (what `literals` index into).
    ///
    /// # Errors
    /// [`Refusal`] when no plan is proven to give PostgreSQL's answer.
    pub fn plan(
        &self,
        topology: &Topology,
        sql: &str,
        literals: &[Literal],
        params: Params<'_>,
    ) -> Result<Plan, Refusal> {
        crate::planner::bind(self, topology, sql, literals, params)
    }
}
