//! LISTEN for all clients of a database, over one connection to each of its servers.
//!
//! Invariants:
//! - A client hears what was committed after its LISTEN was answered, in the order in which each server says it, and nothing
//!   that was committed before it.
//! - When a listening connection is lost, nobody can know what was said meanwhile: all who listened are told so and sent away,
//!   as they would be by PostgreSQL itself.
//!
//! One task for each database, on the control thread; it connects at the first LISTEN, as the user who says it (to listen needs
//! no privilege but to connect). Sessions ask it by a channel and are answered when the servers have confirmed; it leaves
//! notifications in the mailbox of each listener and wakes that session. A session that does not listen knows nothing of it.
//!
//! Limits: [`WAITING_BYTES_MAX`] for each client that does not take its notifications.
//!
//! Not here: transactions, and the moments at which a client may be told (`session::listen`).

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pgherd_pool::{Target, connect};
use pgherd_wire::message::{self, Report};
use pgherd_wire::{Stream, frame};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Notifications that wait for one client: a thousand of the longest. Beyond it the client is sent away.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Longest message of a listening connection: a channel and a payload are under 8 kB, an error is not much more.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// One statement on a listening connection; beyond it the connection counts as lost.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// One attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two attempts; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// Connections that nobody listens on any more are kept for the next listener.
const LINGER: Duration = Duration::from_secs(30);

/// Why a client hears nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// A listening connection was lost.
    Lost,
    /// The client did not take what it was told.
    Full,
}

/// What one client was told and has not taken.
#[derive(Debug)]
pub struct Mailbox {
    id: u64,
    /// Of the client's task.
    waker: Waker,
    news: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Whole NotificationResponse messages.
    messages: VecDeque<Arc<[u8]>>,
    bytes: usize,
    ended: Option<Ended>,
}

impl Mailbox {
    pub fn new(waker: Waker) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { id, waker, news: AtomicBool::new(false), waiting: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is there, or it has ended.
    pub fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    pub fn ended(&self) -> Option<Ended> {
        self.lock().ended
    }

    fn put(&self, message: &Arc<[u8]>) {
        {
            let mut waiting = self.lock();
            if waiting.ended.is_some() {
                return;
            }
            if waiting.bytes + message.len() > WAITING_BYTES_MAX {
                *waiting = Waiting { ended: Some(Ended::Full), ..Waiting::default() };
            } else {
                waiting.bytes += message.len();
                waiting.messages.push_back(message.clone());
            }
        }
        self.tell();
    }

    fn end(&self, why: Ended) {
        self.lock().ended.get_or_insert(why);
        self.tell();
    }

    fn tell(&self) {
        self.news.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }

    /// Hands over what waits, one message after the other, until `take` says that it has enough.
    pub fn take(&self, mut take: impl FnMut(&[u8]) -> bool) {
        let mut waiting = self.lock();
        while let Some(message) = waiting.messages.pop_front() {
            waiting.bytes -= message.len();
            if !take(&message) {
                break;
            }
        }
        // Whoever is ended has news for ever.
        self.news.store(!waiting.messages.is_empty() || waiting.ended.is_some(), Ordering::Release);
    }

    /// The client does not listen on these any more; what waits of them is not said.
    pub fn forget(&self, channels: &[String]) {
        let mut waiting = self.lock();
        waiting.messages.retain(|message| {
            !channels
                .iter()
                .any(|channel| channel_of(&message[frame::HEADER_BYTES..]) == Some(channel.as_bytes()))
        });
        waiting.bytes = waiting.messages.iter().map(|message| message.len()).sum();
    }
}

/// Of a NotificationResponse's body.
fn channel_of(body: &[u8]) -> Option<&[u8]> {
    let name = body.get(4..)?;
    name.iter().position(|byte| *byte == 0).map(|end| &name[..end])
}

/// What the task is asked.
enum Ask {
    Listen {
        mail: Arc<Mailbox>,
        channels: Vec<String>,
        /// Every server of the database, as the client's user.
        targets: Vec<Target>,
        deadline: Instant,
        done: oneshot::Sender<Result<(), Report>>,
    },
    Unlisten {
        id: u64,
        channels: Vec<String>,
    },
    /// Answered when all that was committed before is in the mailboxes.
    Barrier(oneshot::Sender<()>),
    Leave(u64),
}

/// The way to a database's task.
#[derive(Debug)]
pub struct Hub {
    asks: mpsc::UnboundedSender<Ask>,
    inbox: Mutex<Option<mpsc::UnboundedReceiver<Ask>>>,
    /// Clients that listen.
    pub listeners: AtomicUsize,
}

impl Hub {
    pub fn new() -> Arc<Self> {
        let (asks, inbox) = mpsc::unbounded_channel();
        Arc::new(Self { asks, inbox: Mutex::new(Some(inbox)), listeners: AtomicUsize::new(0) })
    }

    /// Runs the task until nobody can ask it any more. Only the first call does.
    pub fn start(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(run(inbox))
    }

    /// # Errors
    /// What the servers said, or that they cannot be reached.
    ///
    /// # Cancel safety
    /// The client may come to listen all the same: then it has to leave.
    pub async fn listen(
        &self,
        mail: &Arc<Mailbox>,
        channels: Vec<String>,
        targets: Vec<Target>,
        patience: Duration,
    ) -> Result<(), Report> {
        let (done, wait) = oneshot::channel();
        let deadline = Instant::now() + patience;
        let ask = Ask::Listen { mail: mail.clone(), channels, targets, deadline, done };
        let gone = || Report::error("57P01", "the task that listens has ended");
        self.asks.send(ask).map_err(|_| gone())?;
        wait.await.unwrap_or_else(|_| Err(gone()))
    }

    pub fn unlisten(&self, mail: &Mailbox, channels: Vec<String>) {
        mail.forget(&channels);
        let _ = self.asks.send(Ask::Unlisten { id: mail.id, channels });
    }

    pub async fn barrier(&self) {
        let (done, wait) = oneshot::channel();
        if self.asks.send(Ask::Barrier(done)).is_ok() {
            let _ = wait.await;
        }
    }

    pub fn leave(&self, mail: &Mailbox) {
        let _ = self.asks.send(Ask::Leave(mail.id));
    }
}

/// One connection that listens.
struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    /// ReadyForQuery messages that it owes.
    owed: usize,
    error: Option<Report>,
}

/// By channel, who listens.
type Channels = HashMap<String, HashMap<u64, Arc<Mailbox>>>;

#[derive(Default)]
struct Task {
    connections: Vec<Connection>,
    channels: Channels,
    /// Channels that nobody listens on any more, and the servers do not know it yet.
    stale: Vec<String>,
}

/// A connection is of no more use; what was said of it.
#[derive(Debug)]
struct Lost(String);

async fn run(mut inbox: mpsc::UnboundedReceiver<Ask>) {
    let mut task = Task::default();
    loop {
        let idle = task.channels.is_empty();
        let ask = if task.connections.is_empty() {
            inbox.recv().await
        } else {
            tokio::select! {
                biased;
                lost = task.hear() => {
                    task.lose(&lost);
                    continue;
                }
                ask = inbox.recv() => ask,
                () = tokio::time::sleep(LINGER), if idle => {
                    task.connections.clear();
                    continue;
                }
            }
        };
        match ask {
            None => return,
            Some(Ask::Listen { mail, channels, targets, deadline, done }) => {
                let answer = task.listen(mail, channels, &targets, deadline).await;
                let _ = done.send(answer);
            }
            Some(Ask::Unlisten { id, channels }) => {
                channels.iter().for_each(|channel| task.strike(channel, id));
                task.forget_stale().await;
            }
            Some(Ask::Barrier(done)) => {
                if !task.connections.is_empty()
                    && let Err(lost) = task.ask("").await
                {
                    task.lose(&lost);
                }
                let _ = done.send(());
            }
            Some(Ask::Leave(id)) => {
                let all: Vec<String> = task.channels.keys().cloned().collect();
                all.iter().for_each(|channel| task.strike(channel, id));
                task.forget_stale().await;
            }
        }
    }
}

impl Task {
    async fn listen(
        &mut self,
        mail: Arc<Mailbox>,
        channels: Vec<String>,
        targets: &[Target],
        deadline: Instant,
    ) -> Result<(), Report> {
        if self.connections.is_empty() {
            self.connect(targets, deadline).await?;
        }
        // Also on channels that are listened on already: whatever was committed before this is not for this client, and the
        // server says it before it answers.
        let sql: Vec<String> = channels.iter().map(|channel| format!("LISTEN {}", quoted(channel))).collect();
        match self.ask(&sql.join(";")).await {
            Ok(None) => {}
            Ok(Some(report)) => return Err(report),
            Err(lost) => {
                self.lose(&lost);
                return Err(Report::error("08006", "the connection that listens for notifications was lost")
                    .hint("Send the statement again."));
            }
        }
        for channel in channels {
            self.stale.retain(|stale| *stale != channel);
            self.channels.entry(channel).or_default().insert(mail.id, mail.clone());
        }
        Ok(())
    }

    async fn connect(&mut self, targets: &[Target], deadline: Instant) -> Result<(), Report> {
        let mut connections = Vec::new();
        for target in targets {
            let target = Target { application_name: "pgherd listen".into(), ..target.clone() };
            let mut pause = RETRY_FIRST;
            let stream = loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match connect::login(&target, CONNECT_TIMEOUT.min(left.max(RETRY_FIRST))).await {
                    Ok(login) => break login.stream,
                    Err(error) if error.is_passing() && left > pause => {
                        tokio::time::sleep(pause).await;
                        pause = RETRY_LAST.min(pause * 2);
                    }
                    Err(error) => return Err(error.report()),
                }
            };
            connections.push(Connection { stream, buffer: Vec::new(), owed: 0, error: None });
        }
        self.connections = connections;
        // It is idle for days on end.
        let patient = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
                       WHERE name IN ('idle_session_timeout', 'statement_timeout')";
        if let Err(lost) = self.ask(patient).await {
            self.lose(&lost);
            return Err(Report::error("08006", "the connection that listens for notifications was lost"));
        }
        Ok(())
    }

    /// Runs a statement on every connection; what the first one that refused said.
    async fn ask(&mut self, sql: &str) -> Result<Option<Report>, Lost> {
        let mut out = Vec::new();
        message::query(&mut out, sql);
        for connection in &mut self.connections {
            connection.owed += 1;
            connection.error = None;
            let written = tokio::time::timeout(STATEMENT_TIMEOUT, connection.stream.write_all(&out)).await;
            match written {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err(Lost(e.to_string())),
                Err(_) => return Err(Lost("no answer in time".into())),
            }
        }
        let (connections, channels) = (&mut self.connections, &self.channels);
        let answers = poll_fn(|cx| {
            let mut waiting = false;
            for connection in connections.iter_mut().filter(|connection| connection.owed > 0) {
                if let Poll::Ready(lost) = connection.poll_hear(cx, channels) {
                    return Poll::Ready(Err(lost));
                }
                waiting |= connection.owed > 0;
            }
            if waiting { Poll::Pending } else { Poll::Ready(Ok(())) }
        });
        tokio::time::timeout(STATEMENT_TIMEOUT, answers)
            .await
            .map_err(|_| Lost("no answer in time".into()))??;
        Ok(self.connections.iter_mut().find_map(|connection| connection.error.take()))
    }

    /// Until a connection is lost.
    async fn hear(&mut self) -> Lost {
        let (connections, channels) = (&mut self.connections, &self.channels);
        poll_fn(|cx| {
            for connection in connections.iter_mut() {
                if let Poll::Ready(lost) = connection.poll_hear(cx, channels) {
                    return Poll::Ready(lost);
                }
            }
            Poll::Pending
        })
        .await
    }

    fn lose(&mut self, lost: &Lost) {
        let mut told: HashMap<u64, Arc<Mailbox>> = HashMap::new();
        told.extend(self.channels.drain().flat_map(|(_, listeners)| listeners));
        tracing::warn!(why = %lost.0, clients = told.len(), "a connection that listens for notifications was lost");
        told.values().for_each(|mail| mail.end(Ended::Lost));
        self.connections.clear();
        self.stale.clear();
    }

    /// This client listens no more on this channel.
    fn strike(&mut self, channel: &str, id: u64) {
        let Some(listeners) = self.channels.get_mut(channel) else { return };
        listeners.remove(&id);
        if listeners.is_empty() {
            self.channels.remove(channel);
            self.stale.push(channel.to_owned());
        }
    }

    async fn forget_stale(&mut self) {
        if self.stale.is_empty() || self.connections.is_empty() {
            return;
        }
        let stale = std::mem::take(&mut self.stale);
        let sql: Vec<String> = stale.iter().map(|channel| format!("UNLISTEN {}", quoted(channel))).collect();
        if let Err(lost) = self.ask(&sql.join(";")).await {
            self.lose(&lost);
        }
    }
}

impl Connection {
    /// Reads, and delivers what it hears: until it is lost, or has answered.
    fn poll_hear(&mut self, cx: &mut Context<'_>, channels: &Channels) -> Poll<Lost> {
        let asked = self.owed > 0;
        loop {
            loop {
                let head = match frame::header(&self.buffer) {
                    Ok(Some(head)) if head.body > MESSAGE_BYTES_MAX => {
                        return Poll::Ready(Lost("the server sent a message that is too long".into()));
                    }
                    Ok(Some(head)) if self.buffer.len() >= head.total() => head,
                    Ok(_) => break,
                    Err(_) => return Poll::Ready(Lost("the server sent an impossible length".into())),
                };
                let message: Vec<u8> = self.buffer.drain(..head.total()).collect();
                let body = &message[frame::HEADER_BYTES..];
                match head.kind {
                    b'A' => {
                        let listeners = channel_of(body)
                            .and_then(|channel| std::str::from_utf8(channel).ok())
                            .and_then(|channel| channels.get(channel));
                        if let Some(listeners) = listeners {
                            let message: Arc<[u8]> = message.into();
                            listeners.values().for_each(|mail| mail.put(&message));
                        }
                    }
                    b'E' => {
                        let report = Report::read(body);
                        if self.owed == 0 || matches!(report.severity.as_str(), "FATAL" | "PANIC") {
                            return Poll::Ready(Lost(report.message));
                        }
                        self.error = Some(report);
                    }
                    b'Z' => {
                        self.owed = self.owed.saturating_sub(1);
                        if asked && self.owed == 0 {
                            // What stands behind the answer may be for whoever has asked: it is not read before.
                            return Poll::Pending;
                        }
                    }
                    _ => {}
                }
            }
            let mut some = [0; 4096];
            match self.stream.poll_read(cx, &mut some) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Lost("the server closed the connection".into())),
                Poll::Ready(Ok(n)) => self.buffer.extend_from_slice(&some[..n]),
                Poll::Ready(Err(e)) => return Poll::Ready(Lost(e.to_string())),
            }
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(channel: &str, payload: &str) -> Arc<[u8]> {
        let mut out = Vec::new();
        message::frame(&mut out, b'A', |out| {
            out.extend_from_slice(&7u32.to_be_bytes());
            out.extend_from_slice(channel.as_bytes());
            out.push(0);
            out.extend_from_slice(payload.as_bytes());
            out.push(0);
        });
        out.into()
    }

    fn all(mail: &Mailbox) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        mail.take(|message| {
            taken.push(message.to_vec());
            true
        });
        taken
    }

    #[test]
    fn a_mailbox_keeps_the_order_and_forgets_what_is_not_listened_to_any_more() {
        let mail = Mailbox::new(Waker::noop().clone());
        assert!(!mail.has_news());
        for (channel, payload) in [("a", "1"), ("b", "2"), ("ab", "3"), ("a", "4")] {
            mail.put(&notification(channel, payload));
        }
        assert!(mail.has_news());
        mail.forget(&["a".into()]);
        assert_eq!(all(&mail), [notification("b", "2").to_vec(), notification("ab", "3").to_vec()]);
        assert!(!mail.has_news());
        mail.put(&notification("b", "5"));
        mail.put(&notification("b", "6"));
        let mut first = Vec::new();
        mail.take(|message| {
            first.push(message.to_vec());
            false
        });
        assert_eq!(first, [notification("b", "5").to_vec()]);
        assert!(mail.has_news(), "the client had enough, and something is left");
        assert_eq!(all(&mail), [notification("b", "6").to_vec()]);
    }

    #[test]
    fn a_client_that_takes_nothing_costs_bounded_memory() {
        let mail = Mailbox::new(Waker::noop().clone());
        let long = notification("a", &"x".repeat(7_999));
        while mail.ended().is_none() {
            mail.put(&long);
            assert!(mail.lock().bytes <= WAITING_BYTES_MAX);
        }
        assert_eq!(mail.ended(), Some(Ended::Full));
        mail.put(&long);
        assert!(all(&mail).is_empty());
        assert!(mail.has_news(), "that it has ended");
    }
}
