//! The first moments of a session: its startup settings are checked by a server, and it is welcomed.

use std::sync::Arc;

use pgherd_pool::Parameters;
use pgherd_router::ShardId;
use pgherd_wire::message::Report;

use super::link::Unit;
use super::settings::{Settings, Value};
use super::{LinkError, Session};
use crate::cancel::CancelKey;
use crate::database::Accepted;
use crate::handshake;

/// Bytes of a name that PostgreSQL keeps, with the one at its end (NAMEDATALEN).
const NAME_BYTES: usize = 64;

/// A startup setting that any server takes, and none reports in another form than it was given. Drivers send these two.
fn plain(name: &str, value: Option<&Value>) -> bool {
    let Some(Value::Raw(text)) = value else { return false };
    match name {
        // Others are cut, or written with question marks.
        "application_name" => text.len() < NAME_BYTES && text.bytes().all(|b| (32..127).contains(&b)),
        // Not this: any value. One out of range was found out with the first statement, which ended the server's connection.
        "extra_float_digits" => text.parse::<i32>().is_ok_and(|digits| (-15..=3).contains(&digits)),
        _ => false,
    }
}

/// What PostgreSQL says of a name that it cuts (scansup.c, truncate_identifier), to a client that did not say what it wants to
/// hear.
fn notice(startup: &Settings) -> Option<Report> {
    let name = startup.get("application_name")?.text();
    if name.len() < NAME_BYTES || startup.get("client_min_messages").is_some() {
        return None;
    }
    let kept = (0..NAME_BYTES).rev().find_map(|end| name.get(..end)).unwrap_or_default();
    let why = format!("identifier \"{name}\" will be truncated to \"{kept}\"");
    let mut report = Report::warning("42622", why);
    report.severity = "NOTICE".into();
    Some(report)
}

impl Session {
    /// Checks the settings of the startup packet as PostgreSQL would: a bad one ends the login. What a server reports for them
    /// becomes what the client is told: the beginning of its welcome is returned.
    pub async fn accept_settings(&mut self) -> Result<Arc<[u8]>, Report> {
        let startup = self.startup.clone();
        let key = startup.key();
        if let Some(accepted) = self.pools.accepted(&key) {
            // The very same for all clients that say the same: most of what an idle client would keep for itself.
            self.client.set_told(accepted.told);
            self.card.settings.replace(accepted.settings.clone());
            self.startup = accepted.settings.clone();
            self.settings = accepted.settings;
            return Ok(accepted.welcome);
        }
        if startup.names().all(|name| plain(name, startup.get(name))) {
            if let Some(Value::Raw(name)) = startup.get("application_name") {
                self.client.retell("application_name", name);
            }
            return Ok(self.accepted(key, startup));
        }
        // ParameterStatus messages come for the client; it gets them with its welcome, all in one.
        self.client.hushed = true;
        let result = self.try_settings().await;
        self.client.hushed = false;
        result?;
        Ok(self.accepted(key, startup))
    }

    /// Remembers what a server has accepted, for all who say the same.
    fn accepted(&self, key: Vec<u8>, settings: Arc<Settings>) -> Arc<[u8]> {
        let told = self.client.told().clone();
        let welcome: Arc<[u8]> = handshake::welcome(notice(&settings).as_ref(), &told).into();
        self.pools.accept(key, Accepted { settings, told, welcome: welcome.clone() });
        welcome
    }

    async fn try_settings(&mut self) -> Result<(), Report> {
        self.settings = Arc::default();
        let index = match self.join(ShardId(0)).await {
            Ok(index) => index,
            Err(LinkError::Refused(report)) => return Err(report),
            Err(LinkError::End(_)) => return Err(Report::fatal("08006", "the client is gone")),
        };
        self.settings = self.startup.clone();
        let sql = self.settings.sql_from(Some(&Default::default()));
        self.links[index].send_unit(&sql, Unit::Quiet);
        self.run_units(&[index]).await;
        let result = self.unit_result(index);
        self.links[index].server.state.settings = result.is_ok().then(|| self.settings.clone());
        self.purge_broken();
        self.release_all();
        result.map(drop)
    }

    pub async fn welcome(&mut self, welcome: &[u8], key: CancelKey) {
        self.pools.stats.of(self.worker.id).logins.add(1);
        self.client.say(|out| {
            out.extend_from_slice(welcome);
            handshake::welcomed(out, key);
        });
        self.flush_client().await;
    }

    /// A connection is used for the first time: what it says of its server is what new clients are told from now on, and this
    /// one. (A default may have been changed since, or the server be another version.)
    #[cold]
    pub(super) fn note_fresh(&mut self, parameters: &Parameters) {
        // Of several servers each may have its own.
        if self.db.sharded {
            return;
        }
        self.pools.retell(parameters);
        // With another role a server reports others of these.
        let another = |name: &str| self.settings.get(name).is_some();
        let as_another = another("role") || another("session_authorization");
        for (name, value) in parameters.iter() {
            let lower = name.to_ascii_lowercase();
            let of_role = matches!(lower.as_str(), "is_superuser" | "session_authorization");
            // What the client has set is put on each server.
            if !(another(&lower) || (as_another && of_role)) {
                self.client.note(name, value, true);
            }
        }
    }

    pub async fn last_words(&mut self, bytes: &[u8]) {
        self.client.push(bytes);
        self.flush_client().await;
    }

    /// The shard for a statement that any can answer: one that is held already, else one in turn.
    pub(super) fn any_shard(&self) -> ShardId {
        if let Some(link) = self.links.first() {
            return link.shard;
        }
        if !self.db.sharded {
            return ShardId(0);
        }
        let count = self.db.config.shards.len();
        let first = if self.block.is_some() { 0 } else { self.worker.turn(count) };
        // One that is known to be away is nobody's concern as long as another one will do.
        let mut order = (0..count).map(|n| ShardId(((first + n) % count) as u16));
        order.find(|&shard| !self.pools.shard(shard).unreachable()).unwrap_or(ShardId(first as u16))
    }

    /// DISCARD ALL on the servers that are held: they are as new then, and what pgherd prepared there is gone as well.
    pub(super) async fn discard_links(&mut self) {
        let all: Vec<usize> = (0..self.links.len()).collect();
        for &i in &all {
            self.links[i].send_unit("DISCARD ALL", Unit::Quiet);
        }
        self.run_units(&all).await;
        let nothing = self.worker.no_settings.clone();
        let mut clean = Vec::new();
        for i in all {
            clean.push(self.unit_result(i).is_ok());
            let state = &mut self.links[i].server.state;
            state.prepared.clear();
            state.unnamed = None;
            state.settings = Some(nothing.clone());
        }
        // One that could not is in an unknown state, and is closed.
        let mut clean = clean.into_iter();
        self.links.retain(|_| clean.next().unwrap_or(false));
        self.cancel.set(self.links.iter().map(|l| l.server.cancel.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_any_server_takes_as_it_is_needs_no_server() {
        let (long, longer) = ("x".repeat(63), "x".repeat(64));
        let cases = [
            ("application_name", "psql", true),
            ("application_name", "", true),
            ("application_name", long.as_str(), true),
            ("application_name", longer.as_str(), false),
            ("application_name", "naïve", false),
            ("application_name", "two\nlines", false),
            ("extra_float_digits", "2", true),
            ("extra_float_digits", "-15", true),
            ("extra_float_digits", "3", true),
            ("extra_float_digits", "4", false),
            ("extra_float_digits", "two", false),
            ("extra_float_digits", "", false),
            ("work_mem", "4MB", false),
        ];
        for (name, value, expected) in cases {
            assert_eq!(plain(name, Some(&Value::Raw(value.into()))), expected, "{name} = {value:?}");
        }
        assert!(!plain("application_name", Some(&Value::Reset)));
    }
}
