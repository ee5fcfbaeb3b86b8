//! The console: the databases "pgherd" and "pgbouncer", where an operator looks at pgherd and tells it what to do, as with
//! PgBouncer. Exporters and dashboards that know PgBouncer need no change.
//!
//! Invariant: nothing here is on a client's way: counts are read where their owners keep them, and sessions are told
//! through their workers.
//!
//! The rooms: `command` is the language, `show` what is shown, `act` what is done, `table` how an answer is written.
//! Unlike PgBouncer's it also speaks the extended protocol.
//!
//! Start reading at [`serve`].

mod act;
mod command;
mod moving;
mod show;
mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pgherd_wire::message::{self, Report};
use pgherd_wire::{Stream, frame};

use crate::roster::Entry;
use crate::serve::{Live, Shared, Stop};
use command::{COMMAND_BYTES_MAX, Command, Rebalance, Show, Wait};
use table::{Columns, Kind, Table, Value};

pub use show::{VERSION, all_paused};

/// Names of the console among databases.
pub const NAMES: &[&str] = &["pgherd", "pgbouncer"];

/// Longest message of a client.
const MESSAGE_BYTES_MAX: usize = COMMAND_BYTES_MAX + 1024;

/// Statements and portals that one client may have.
const NAMED_MAX: usize = 100;

const HELP: &str = "\n\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION\
\n\tSHOW PEERS|PEER_POOLS\
\n\tSHOW SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE\
\n\tSHOW DNS_HOSTS|DNS_ZONES\
\n\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS\
\n\tSHOW SHARDS|PLACEMENT|MOVES\
\n\tSET key = arg\
\n\tRELOAD\
\n\tPAUSE [<db>]\
\n\tRESUME [<db>]\
\n\tDISABLE <db>\
\n\tENABLE <db>\
\n\tRECONNECT [<db>]\
\n\tKILL [<db>]\
\n\tKILL_CLIENT <client_id>\
\n\tREBALANCE PLAN|APPLY|STATUS|PAUSE|RESUME|CANCEL|VERIFY [<db>] [RATE <rows per second>]\
\n\tSHUTDOWN\
\n\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS\
\n\tWAIT_CLOSE [<db>]";

/// What a user may do here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    All,
    /// SHOW only.
    Look,
}

/// As PgBouncer has it: the user of this name is let in without a password over a unix socket, when its process runs as the same
/// system user as pgherd.
pub fn is_the_same_user(stream: &Stream, user: &str, database: &str) -> bool {
    let Stream::Unix(socket) = stream else { return false };
    user == "pgbouncer"
        && NAMES.contains(&database)
        && socket.peer_cred().is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw())
}

/// # Errors
/// The user is neither an admin nor one of those who may look.
pub fn access(live: &Live, user: &str, database: &str) -> Result<Access, Report> {
    let server = &live.config.server;
    let among = |names: &[String]| names.iter().any(|name| name == user);
    if among(&server.admins) {
        Ok(Access::All)
    } else if among(&server.stats_users) {
        Ok(Access::Look)
    } else {
        Err(Report::fatal("42501", format!("permission denied for database \"{database}\""))
            .hint("It is pgherd's console, for the users in server.admins and server.stats_users of its configuration."))
    }
}

/// An answer to a command.
enum Answer {
    Table(Table, &'static str),
    Done(String),
    Notice(Report, &'static str),
}

/// Serves one client of the console, from the end of its authentication on.
pub async fn serve(shared: &Arc<Shared>, stream: Stream, rest: Vec<u8>, access: Access, entry: Entry) {
    let id = entry.id;
    shared.consoles().insert(id, entry);
    let mut client = Console {
        shared,
        stream,
        access,
        inbox: rest,
        out: Vec::new(),
        statements: HashMap::new(),
        portals: HashMap::new(),
        skip: false,
    };
    client.run().await;
    shared.consoles().remove(&id);
}

struct Portal {
    text: String,
    formats: Vec<u16>,
    /// What is left of an answer, once it was executed.
    begun: Option<(Answer, usize)>,
}

struct Console<'a> {
    shared: &'a Arc<Shared>,
    stream: Stream,
    access: Access,
    inbox: Vec<u8>,
    out: Vec<u8>,
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, Portal>,
    /// After an error in the extended protocol: until Sync.
    skip: bool,
}

/// The client is gone, or was told its last word.
struct Gone;

impl Console<'_> {
    async fn run(&mut self) {
        message::authentication(&mut self.out, 0, &[]);
        let told = [
            ("server_version", format!("{VERSION}/bouncer")),
            ("client_encoding", "UTF8".into()),
            ("server_encoding", "UTF8".into()),
            ("DateStyle", "ISO".into()),
            ("TimeZone", "GMT".into()),
            ("standard_conforming_strings", "on".into()),
            ("is_superuser", "on".into()),
        ];
        for (name, value) in &told {
            message::parameter_status(&mut self.out, name, value);
        }
        // There is nothing to cancel: the key is nobody's.
        message::backend_key_data(&mut self.out, 0, &rand::random::<u32>().to_be_bytes());
        message::ready_for_query(&mut self.out, b'I');
        while let Ok((kind, body)) = self.next().await {
            if self.take(kind, &body).await.is_err() {
                break;
            }
        }
        let _ = self.stream.write_all(&self.out).await;
    }

    /// The next message; what is to be said goes out before there is a wait for it.
    async fn next(&mut self) -> Result<(u8, Vec<u8>), Gone> {
        let mut stop = self.shared.stop.subscribe();
        loop {
            match frame::header(&self.inbox) {
                Ok(Some(head)) if head.body > MESSAGE_BYTES_MAX => return self.lost("message is too long"),
                Ok(Some(head)) if self.inbox.len() >= head.total() => {
                    let body = self.inbox[frame::HEADER_BYTES..head.total()].to_vec();
                    self.inbox.drain(..head.total());
                    return Ok((head.kind, body));
                }
                Ok(_) => {}
                Err(_) => return self.lost("invalid message length"),
            }
            let said = std::mem::take(&mut self.out);
            self.stream.write_all(&said).await.map_err(|_| Gone)?;
            let mut some = [0; 1024];
            let ends = stop.wait_for(|stop| matches!(stop, Stop::Transactions | Stop::Now));
            tokio::select! {
                read = self.stream.read(&mut some) => match read {
                    Ok(n) if n > 0 => self.inbox.extend_from_slice(&some[..n]),
                    _ => return Err(Gone),
                },
                _ = ends => {
                    Report::fatal("57P01", "terminating connection due to administrator command")
                        .write(&mut self.out);
                    return Err(Gone);
                }
            }
        }
    }

    fn lost<T>(&mut self, why: &str) -> Result<T, Gone> {
        Report::fatal("08P01", why).write(&mut self.out);
        Err(Gone)
    }

    async fn take(&mut self, kind: u8, body: &[u8]) -> Result<(), Gone> {
        if self.skip && !matches!(kind, b'S' | b'X') {
            return Ok(());
        }
        let outcome = match kind {
            b'Q' => {
                let text = text_of(body);
                match self.answer(&text).await {
                    Ok(answer) => self.say(&answer),
                    Err(report) => report.write(&mut self.out),
                }
                message::ready_for_query(&mut self.out, b'I');
                Ok(())
            }
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.execute(body).await,
            b'C' => self.close(body),
            b'H' => Ok(()),
            b'S' => {
                self.skip = false;
                self.portals.clear();
                message::ready_for_query(&mut self.out, b'I');
                Ok(())
            }
            b'X' => return Err(Gone),
            other => return self.lost(&format!("invalid frontend message type {other}")),
        };
        if let Err(report) = outcome {
            report.write(&mut self.out);
            self.skip = true;
        }
        Ok(())
    }

    async fn answer(&self, text: &str) -> Result<Answer, Report> {
        self.shared.console_queries.fetch_add(1, Ordering::Relaxed);
        let command = read(text)?;
        tracing::debug!(command = text, "console");
        let looks = matches!(
            command,
            Command::Empty
                | Command::Show(_)
                | Command::ShowFake(..)
                | Command::SelectNumber(_)
                | Command::Nothing(_)
                | Command::SetFake
                | Command::Rebalance(Rebalance::Plan | Rebalance::Status, ..)
        );
        if self.access != Access::All && (!looks || command == Command::Show(Show::Fds)) {
            return Err(refusal("admin access needed"));
        }
        Ok(match command {
            Command::Empty => Answer::Done(String::new()),
            Command::Show(Show::Help) => {
                let mut report = Report::warning("00000", "Console usage").detail(HELP);
                report.severity = "NOTICE".into();
                Answer::Notice(report, "SHOW")
            }
            Command::Show(Show::Fds) => {
                return Err(Report::error("0A000", "SHOW FDS is not supported")
                    .hint("A restart without losing clients needs no file descriptors to be handed over."));
            }
            Command::Show(show) => {
                let columns = show::columns(show).unwrap_or_default();
                Answer::Table(Table { columns, rows: show::rows(self.shared, show).await }, "SHOW")
            }
            Command::ShowFake(_, value) => {
                let columns = columns_of(&command).unwrap_or_default();
                Answer::Table(Table { columns, rows: vec![vec![Value::from(value)]] }, "SHOW")
            }
            Command::SelectNumber(number) => {
                let columns = columns_of(&command).unwrap_or_default();
                let rows = vec![vec![Value::Number(i64::from(number))]];
                Answer::Table(Table { columns, rows }, "SELECT 1")
            }
            Command::Nothing(tag) => Answer::Done(tag.into()),
            Command::SetFake => {
                let mut report = Report::warning("00000", "SET ignored");
                report.severity = "NOTICE".into();
                Answer::Notice(report, "SET")
            }
            Command::Set(key, value) => match act::set(self.shared, &key, &value).await? {
                None => Answer::Done(format!("SET {key}={value}")),
                Some(why) => {
                    let mut report = Report::warning("00000", format!("{key} has no effect here: {why}"));
                    report.severity = "NOTICE".into();
                    Answer::Notice(report, "SET")
                }
            },
            Command::Pause(name) => act::pause(self.shared, name).await.map(|()| done("PAUSE"))?,
            Command::Resume(name) => act::resume(self.shared, name).map(|()| done("RESUME"))?,
            Command::Reconnect(name) => act::reconnect(self.shared, name).map(|()| done("RECONNECT"))?,
            Command::WaitClose(name) => {
                act::wait_close(self.shared, name).await.map(|()| done("WAIT_CLOSE"))?
            }
            Command::Kill(name) => act::kill(self.shared, name).await.map(|()| done("KILL"))?,
            Command::Disable(name) => act::disable(self.shared, name, true).map(|()| done("DISABLE"))?,
            Command::Enable(name) => act::disable(self.shared, name, false).map(|()| done("ENABLE"))?,
            Command::KillClient(id) => {
                act::kill_client(self.shared, id).await.map(|()| done("KILL_CLIENT"))?
            }
            Command::Rebalance(what, name, rate) => {
                let columns = moving::columns(what).unwrap_or_default();
                let rows = moving::carry_out(self.shared, what, name, rate).await?;
                match columns.is_empty() {
                    true => done("REBALANCE"),
                    false => Answer::Table(Table { columns, rows }, "REBALANCE"),
                }
            }
            Command::Reload => act::reload(self.shared).await.map(|()| done("RELOAD"))?,
            Command::Suspend => {
                return Err(Report::error("0A000", "SUSPEND is not supported")
                    .hint("Use PAUSE, or start another pgherd on the same ports and stop this one."));
            }
            Command::Shutdown(wait) => {
                tracing::info!(?wait, "SHUTDOWN in the console");
                self.shared.stop(match wait {
                    Wait::Not => Stop::Now,
                    Wait::Servers => Stop::Transactions,
                    Wait::Clients => Stop::Alone,
                });
                done("SHUTDOWN")
            }
        })
    }

    /// A whole answer to a simple query.
    fn say(&mut self, answer: &Answer) {
        match answer {
            Answer::Table(table, tag) => {
                table::describe(&mut self.out, table.columns, &[]);
                (0..table.rows.len()).for_each(|row| table.write_row(&mut self.out, row, &[]));
                message::command_complete(&mut self.out, tag);
            }
            Answer::Done(tag) if tag.is_empty() => self.out.extend_from_slice(message::EMPTY_QUERY),
            Answer::Done(tag) => message::command_complete(&mut self.out, tag),
            Answer::Notice(report, tag) => {
                report.write(&mut self.out);
                message::command_complete(&mut self.out, tag);
            }
        }
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Report> {
        let parse = message::read_parse(body).map_err(|_| malformed())?;
        let text = String::from_utf8_lossy(parse.sql).into_owned();
        read(&text)?;
        if !parse.name.is_empty() && self.statements.contains_key(parse.name) {
            let name = String::from_utf8_lossy(parse.name);
            return Err(Report::error("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        if self.statements.len() >= NAMED_MAX && !self.statements.contains_key(parse.name) {
            return Err(Report::error("54000", "too many prepared statements in the console"));
        }
        self.statements.insert(parse.name.to_vec(), text);
        self.out.extend_from_slice(message::PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Report> {
        let bind = message::read_bind(body).map_err(|_| malformed())?;
        let (mut formats, mut values, mut results) = (Vec::new(), Vec::new(), Vec::new());
        message::read_bind_tail(bind.tail, &mut formats, &mut values, &mut results)
            .map_err(|_| malformed())?;
        let text = self.statement(bind.statement)?.clone();
        if !values.is_empty() {
            let why = format!("bind message supplies {} parameters, but the command has none", values.len());
            return Err(Report::error("08P01", why));
        }
        if self.portals.len() >= NAMED_MAX && !self.portals.contains_key(bind.portal) {
            return Err(Report::error("54000", "too many portals in the console"));
        }
        self.portals.insert(bind.portal.to_vec(), Portal { text, formats: results, begun: None });
        self.out.extend_from_slice(message::BIND_COMPLETE);
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<&String, Report> {
        self.statements.get(name).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            Report::error("26000", format!("prepared statement \"{name}\" does not exist"))
        })
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Report> {
        let (target, name) = target(body)?;
        let (text, formats) = if target == b'S' {
            let text = self.statement(name)?.clone();
            // No parameters.
            message::frame(&mut self.out, b't', |out| out.extend_from_slice(&[0, 0]));
            (text, Vec::new())
        } else {
            let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
            (portal.text.clone(), portal.formats.clone())
        };
        match columns_of(&read(&text)?) {
            Some(columns) => table::describe(&mut self.out, columns, &formats),
            None => self.out.extend_from_slice(message::NO_DATA),
        }
        Ok(())
    }

    async fn execute(&mut self, body: &[u8]) -> Result<(), Report> {
        let mut fields = frame::Fields::new(body);
        let (Ok(name), Ok(most)) = (fields.cstr(), fields.u32()) else { return Err(malformed()) };
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let (answer, from) = match portal.begun.take() {
            Some(begun) => begun,
            None => (self.answer(&portal.text).await?, 0),
        };
        match &answer {
            Answer::Table(table, tag) => {
                let rows = table.rows.len();
                let to = if most == 0 { rows } else { rows.min(from.saturating_add(most as usize)) };
                (from..to).for_each(|row| table.write_row(&mut self.out, row, &portal.formats));
                if to < rows {
                    message::frame(&mut self.out, b's', |_| {});
                    portal.begun = Some((answer, to));
                } else {
                    message::command_complete(&mut self.out, tag);
                }
            }
            other => self.say(other),
        }
        self.portals.insert(name.to_vec(), portal);
        Ok(())
    }

    fn close(&mut self, body: &[u8]) -> Result<(), Report> {
        match target(body)? {
            (b'S', name) => drop(self.statements.remove(name)),
            (_, name) => drop(self.portals.remove(name)),
        }
        self.out.extend_from_slice(message::CLOSE_COMPLETE);
        Ok(())
    }
}

fn done(tag: &str) -> Answer {
    Answer::Done(tag.into())
}

/// PgBouncer's errors have this code, whatever they say.
fn refusal(message: impl Into<String>) -> Report {
    Report::error("08P01", message)
}

fn malformed() -> Report {
    Report::error("08P01", "invalid message format")
}

fn no_portal(name: &[u8]) -> Report {
    Report::error("34000", format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)))
}

/// The target of a Describe or Close, and its name.
fn target(body: &[u8]) -> Result<(u8, &[u8]), Report> {
    match body {
        [target @ (b'S' | b'P'), name @ .., 0] => Ok((*target, name)),
        _ => Err(malformed()),
    }
}

fn text_of(body: &[u8]) -> String {
    let text = body.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn read(text: &str) -> Result<Command, Report> {
    if text.len() > COMMAND_BYTES_MAX {
        return Err(refusal("bad arguments"));
    }
    command::parse(text).map_err(|text| refusal(format!("invalid command '{text}', use SHOW HELP;")))
}

/// The columns of an answer, without carrying the command out.
fn columns_of(command: &Command) -> Option<Columns> {
    match command {
        Command::Show(show) => show::columns(*show),
        Command::ShowFake(name, _) => Some(match *name {
            "client_encoding" => &[("client_encoding", Kind::Text)],
            "default_transaction_isolation" => &[("default_transaction_isolation", Kind::Text)],
            "standard_conforming_strings" => &[("standard_conforming_strings", Kind::Text)],
            "datestyle" => &[("datestyle", Kind::Text)],
            _ => &[("timezone", Kind::Text)],
        }),
        Command::SelectNumber(_) => Some(&[("?column?", Kind::Int)]),
        Command::Rebalance(what, ..) => moving::columns(*what),
        _ => None,
    }
}
