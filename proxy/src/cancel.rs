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
    entries: DashMap<u32, (u32, Arc<CancelEntry>)>,
}

/// A client's key, as BackendKeyData says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelKey {
    pub process: u32,
    pub secret: u32,
}

impl CancelKeys {
    pub fn register(&self, entry: Arc<CancelEntry>) -> CancelKey {
        loop {
            // Positive, as process ids are: some clients read it as a signed number.
            let process = rand::random::<u32>() >> 1;
            let secret = rand::random();
            if let dashmap::Entry::Vacant(vacant) = self.entries.entry(process) {
                vacant.insert((secret, entry));
                return CancelKey { process, secret };
            }
        }
    }

    pub fn remove(&self, key: CancelKey) {
        self.entries.remove(&key.process);
    }

    /// The client of a key; `None` also when only the secret is wrong.
    pub fn find(&self, key: CancelKey) -> Option<Arc<CancelEntry>> {
        let entry = self.entries.get(&key.process)?;
        (entry.0 == key.secret).then(|| entry.1.clone())
    }
}
