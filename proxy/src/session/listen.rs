//! LISTEN and UNLISTEN of one client, and the moments at which it is told.
//!
//! Invariants:
//! - What is said in a transaction is in force when it has committed, and never was when it was rolled back.
//! - A notification is never said inside a transaction, nor between a message of the client's and its answer's end.
//!
//! Not here: the connections that listen ([`crate::listening`]).

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use pgherd_router::plan::Kind;
use pgherd_wire::message::{self, Report};

use super::settings::{self, Value};
use super::{End, LinkError, Session};
use crate::listening::{Ended, Hub, Mailbox};
use crate::roster::Why;

/// Channels of one client. A driver listens on a handful.
const CHANNELS_MAX: usize = 10_000;

/// What a client does with its channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Listen(String),
    Unlisten(String),
    UnlistenAll,
}

impl Change {
    /// `None`: the statement is none.
    pub(super) fn of(kind: &Kind) -> Option<(Self, &'static str)> {
        match kind {
            Kind::Listen(channel) => Some((Self::Listen(channel.clone()), "LISTEN")),
            Kind::Unlisten(Some(channel)) => Some((Self::Unlisten(channel.clone()), "UNLISTEN")),
            Kind::Unlisten(None) => Some((Self::UnlistenAll, "UNLISTEN")),
            _ => None,
        }
    }
}

/// A client that listens, or has listened.
pub(super) struct Listening {
    hub: Arc<Hub>,
    mail: Arc<Mailbox>,
    channels: BTreeSet<String>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.hub.listeners.fetch_sub(1, Ordering::Relaxed);
        self.hub.leave(&self.mail);
    }
}

/// What a transaction is about to change: the servers listen already.
pub(super) struct Promise {
    /// Of the client from then on.
    channels: BTreeSet<String>,
}

/// The channels after some changes.
fn after(channels: &BTreeSet<String>, changes: &[Change]) -> BTreeSet<String> {
    let mut channels = channels.clone();
    for change in changes {
        match change {
            Change::Listen(channel) => drop(channels.insert(channel.clone())),
            Change::Unlisten(channel) => drop(channels.remove(channel)),
            Change::UnlistenAll => channels.clear(),
        }
    }
    channels
}

impl Session {
    /// LISTEN and UNLISTEN of the client.
    pub(super) async fn change_channels(&mut self, change: Change) -> Result<Result<(), Report>, End> {
        if matches!(change, Change::Listen(_))
            && let Some(Value::Sql(encoding) | Value::Raw(encoding)) = self.settings.get("client_encoding")
            && !settings::is_utf8(encoding)
        {
            let report = Report::error("0A000", "cannot listen with a client_encoding that is not UTF8")
                .detail("All clients of a database are told by one connection, which speaks UTF8.")
                .hint("Set client_encoding to UTF8.");
            return Ok(Err(report));
        }
        if matches!(change, Change::Listen(_))
            && self.db.config.shards.iter().any(|shard| !shard.primary.others.is_empty())
        {
            let report = Report::error("0A000", "cannot listen in a database that has several hosts")
                .detail("Its connections are to any of them, and one of them would be listened to.");
            return Ok(Err(report));
        }
        if self.block.is_none() && self.links.iter().any(|link| link.unsynced) {
            // In a pipeline it belongs to the transaction of what ran before it there.
            match self.batch_to_block().await {
                Ok(()) => {}
                Err(LinkError::Refused(report)) => return Ok(Err(report)),
                Err(LinkError::End(end)) => return Err(end),
            }
        }
        let none_before = self.block.as_ref().is_none_or(|block| block.channels.is_empty());
        if self.listening.is_none() && none_before && !matches!(change, Change::Listen(_)) {
            return Ok(Ok(()));
        }
        match &mut self.block {
            Some(block) if block.channels.len() >= CHANNELS_MAX => Ok(Err(too_many())),
            Some(block) => {
                block.channels.push(change);
                // Its end is not a server's alone.
                block.settings_changed = true;
                Ok(Ok(()))
            }
            None => match self.promise(&[change]).await {
                Ok(promise) => {
                    self.redeem(promise, true);
                    Ok(Ok(()))
                }
                Err(report) => Ok(Err(report)),
            },
        }
    }

    pub(super) async fn unlisten_all(&mut self) {
        if self.listening.is_some()
            && let Ok(promise) = self.promise(&[Change::UnlistenAll]).await
        {
            self.redeem(promise, true);
        }
    }

    /// Makes the servers listen, before the transaction ends. `None`: nothing changes.
    pub(super) async fn promise(&mut self, changes: &[Change]) -> Result<Option<Promise>, Report> {
        if changes.is_empty() {
            return Ok(None);
        }
        let nothing = BTreeSet::new();
        let before = self.listening.as_ref().map_or(&nothing, |listening| &listening.channels);
        let channels = after(before, changes);
        let more: Vec<String> = channels.difference(before).cloned().collect();
        if channels.len() > CHANNELS_MAX {
            return Err(too_many());
        }
        if more.is_empty() {
            return Ok(Some(Promise { channels }));
        }
        if self.listening.is_none() {
            let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            let hub = self.db.hub.clone();
            hub.listeners.fetch_add(1, Ordering::Relaxed);
            let mail = Mailbox::new(waker);
            self.listening = Some(Box::new(Listening { hub, mail, channels: BTreeSet::new() }));
        }
        let Some(listening) = &self.listening else { return Ok(None) };
        let targets = self.pools.all().iter().map(|pool| pool.target().clone()).collect();
        let patience = self.pools.settings.checkout_timeout;
        let heard = listening.hub.listen(&listening.mail, more, targets, patience).await;
        if heard.is_err() && listening.channels.is_empty() {
            self.listening = None;
        }
        heard.map(|()| Some(Promise { channels }))
    }

    /// The transaction has ended.
    pub(super) fn redeem(&mut self, promise: Option<Promise>, committed: bool) {
        let (Some(promise), Some(listening)) = (promise, &mut self.listening) else { return };
        let (kept, given_up) = if committed {
            let given_up = listening.channels.difference(&promise.channels).cloned().collect();
            (promise.channels, given_up)
        } else {
            let given_up: Vec<String> = promise.channels.difference(&listening.channels).cloned().collect();
            (std::mem::take(&mut listening.channels), given_up)
        };
        listening.channels = kept;
        if !given_up.is_empty() {
            listening.hub.unlisten(&listening.mail, given_up);
        }
        if listening.channels.is_empty() && listening.mail.ended().is_none() {
            self.listening = None;
        }
    }

    /// Says what the client was notified of, if this is a moment for it.
    pub(super) fn deliver(&mut self) {
        let Some(listening) = &self.listening else { return };
        if !listening.mail.has_news()
            || self.block.is_some()
            || self.skip
            || !self.pending.is_empty()
            || self.links.iter().any(|link| link.unsynced || link.skipping || !link.quiet())
        {
            return;
        }
        let client = &mut self.client;
        if client.backlogged() {
            return;
        }
        listening.mail.take(|message| {
            client.push(message);
            !client.backlogged()
        });
    }

    /// The client hears nothing any more, and is to be told outside a transaction.
    pub(super) fn deaf(&self) -> Option<Why> {
        let listening = self.listening.as_ref()?;
        if self.block.is_some() || !listening.mail.has_news() {
            return None;
        }
        listening.mail.ended().map(|ended| match ended {
            Ended::Lost => Why::NotificationsLost,
            Ended::Full => Why::NotificationsUnread,
        })
    }

    /// NOTIFY is about to run. A client that listens hears itself before the statement, or its transaction, is over, as from
    /// PostgreSQL.
    pub(super) fn will_hear_itself(&mut self) {
        let will_listen = self.block.as_ref().is_some_and(|block| !block.channels.is_empty());
        if self.listening.is_some() || will_listen {
            self.echo = true;
            if let Some(block) = &mut self.block {
                // Its end is not a server's alone.
                block.settings_changed = true;
            }
        }
    }

    pub(super) async fn hear_itself(&mut self) {
        self.echo = false;
        if let Some(listening) = &self.listening {
            listening.hub.clone().barrier().await;
            self.deliver();
        }
    }

    /// pg_listening_channels(), which no server knows of this client.
    pub(super) fn own_channels(&mut self, text: &str) -> Result<String, Report> {
        let words: String = text.chars().filter(|c| !c.is_whitespace() && *c != ';').collect();
        let plain = ["selectpg_listening_channels()", "select*frompg_listening_channels()"];
        let Some(listening) = &self.listening else { return Err(no_channels()) };
        if !plain.contains(&words.to_ascii_lowercase().as_str()) {
            return Err(no_channels());
        }
        let column = message::Column {
            name: b"pg_listening_channels".to_vec(),
            type_oid: 25,
            type_modifier: u32::MAX,
            format: 0,
            table: 0,
            attribute: 0,
            type_length: u16::MAX,
        };
        let rows: Vec<_> =
            listening.channels.iter().map(|name| vec![Some(name.clone().into_bytes())]).collect();
        self.client.say(|out| message::row_description(out, &[column]));
        for row in &rows {
            self.client.say(|out| message::data_row(out, row));
        }
        Ok(format!("SELECT {}", rows.len()))
    }
}

pub(super) fn no_channels() -> Report {
    Report::error("0A000", "pg_listening_channels() can only be asked for by itself")
        .detail(
            "One connection listens for all clients of a database, so no server knows the channels of one of them.",
        )
        .hint("Send SELECT * FROM pg_listening_channels() as a simple query.")
}

fn too_many() -> Report {
    Report::error("54000", "too many channels")
        .detail(format!("A client may listen on up to {CHANNELS_MAX} channels."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_what_the_statements_of_a_transaction_leave_one_after_the_other() {
        let listen = |name: &str| Change::Listen(name.into());
        let unlisten = |name: &str| Change::Unlisten(name.into());
        let cases: [(&str, &[Change], &[&str]); 5] = [
            ("nothing", &[], &["a", "b"]),
            ("one more, twice", &[listen("c"), listen("c")], &["a", "b", "c"]),
            ("on and off", &[listen("c"), unlisten("c"), unlisten("a")], &["b"]),
            ("all, and one again", &[listen("c"), Change::UnlistenAll, listen("a")], &["a"]),
            ("one that is not there", &[unlisten("x")], &["a", "b"]),
        ];
        let before: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
        for (why, changes, expected) in cases {
            assert_eq!(
                after(&before, changes).iter().collect::<Vec<_>>(),
                expected.iter().collect::<Vec<_>>(),
                "{why}"
            );
        }
    }
}
