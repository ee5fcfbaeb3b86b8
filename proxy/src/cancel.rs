//! Cancel requests: a key names a client, not a server.
//!
//! Invariant: what is cancelled is what that client runs or waits for at this moment; a server that is being
//! cancelled is lent to nobody until the cancel connection has closed (`pgherd_pool::CancelHandle`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dashmap::DashMap;
use pgherd_pool::CancelHandle;
use tokio::sync::Notify;

/// What a client runs or waits for.
#[derive(Default)]
pub struct CancelEntry {
    servers: Mutex<Vec<Arc<CancelHandle>>>,
    waiting: AtomicBool,
    cancelled: Notify,
}

impl CancelEntry {
    pub fn add(&self, server: Arc<CancelHandle>) {
        self.lock().push(server);
    }

    pub fn set(&self, servers: impl Iterator<Item = Arc<CancelHandle>>) {
        let mut held = self.lock();
        held.clear();
        held.extend(servers);
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<CancelHandle>>> {
        self.servers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Ready when the client is cancelled while it waits for a server.
    pub async fn waiting(&self) {
        struct Waits<'a>(&'a AtomicBool);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::SeqCst);
            }
        }
        self.waiting.store(true, Ordering::SeqCst);
        let _waits = Waits(&self.waiting);
        self.cancelled.notified().await;
    }

    /// Carries a cancel request out.
    pub async fn cancel(&self) {
        if self.waiting.load(Ordering::SeqCst) {
            self.cancelled.notify_waiters();
            return;
        }
        let servers = self.lock().clone();
        for server in servers {
            if let Err(e) = server.cancel().await {
                tracing::debug!(error = %e, "a cancel request did not reach its server");
            }
        }
    }
}

/// The clients by cancel key.
#[derive(Default)]
pub struct CancelKeys {
    entries: DashMap<u32, (CancelKey, Arc<CancelEntry>)>,
}

/// Bytes of a secret in protocol 3.0, and in 3.2 as PostgreSQL makes them.
const SHORT: usize = 4;
const LONG: usize = 32;

/// A client's key, as BackendKeyData says it.
#[derive(Clone, Copy)]
pub struct CancelKey {
    pub process: u32,
    secret: [u8; LONG],
    length: usize,
}

impl CancelKey {
    /// `None`: not a key that pgherd gave to anybody.
    pub fn new(process: u32, secret: &[u8]) -> Option<Self> {
        let mut key = Self { process, secret: [0; LONG], length: secret.len() };
        matches!(secret.len(), SHORT | LONG).then(|| key.secret[..secret.len()].copy_from_slice(secret))?;
        Some(key)
    }

    pub fn secret(&self) -> &[u8] {
        &self.secret[..self.length]
    }

    /// Takes the same time wherever they differ.
    fn is(&self, other: &Self) -> bool {
        let differing = self.secret.iter().zip(&other.secret).fold(0, |all, (a, b)| all | (a ^ b));
        differing == 0 && self.length == other.length && self.process == other.process
    }
}

impl CancelKeys {
    /// `long`: the client's protocol is 3.2 or newer.
    pub fn register(&self, entry: Arc<CancelEntry>, long: bool) -> CancelKey {
        loop {
            // Positive, as process ids are: some clients read it as a signed number.
            let process = rand::random::<u32>() >> 1;
            let length = if long { LONG } else { SHORT };
            let mut key = CancelKey { process, secret: [0; LONG], length };
            rand::fill(&mut key.secret[..length]);
            if let dashmap::Entry::Vacant(vacant) = self.entries.entry(process) {
                vacant.insert((key, entry));
                return key;
            }
        }
    }

    pub fn remove(&self, key: CancelKey) {
        self.entries.remove(&key.process);
    }

    /// The client of a key; `None` also when only the secret is wrong.
    pub fn find(&self, key: CancelKey) -> Option<Arc<CancelEntry>> {
        let entry = self.entries.get(&key.process)?;
        entry.0.is(&key).then(|| entry.1.clone())
    }
}
