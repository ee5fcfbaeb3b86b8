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
    servers: Mutex<Servers>,
    waiting: AtomicBool,
    cancelled: Notify,
}

/// Nearly always one or none, and then without memory of their own.
#[derive(Default)]
struct Servers {
    first: Option<Arc<CancelHandle>>,
    others: Vec<Arc<CancelHandle>>,
}

impl Servers {
    fn add(&mut self, server: Arc<CancelHandle>) {
        match &self.first {
            None => self.first = Some(server),
            Some(_) => self.others.push(server),
        }
    }

    fn clear(&mut self) {
        self.first = None;
        if self.others.capacity() > 0 {
            self.others = Vec::new();
        }
    }
}

impl CancelEntry {
    pub fn add(&self, server: Arc<CancelHandle>) {
        self.lock().add(server);
    }

    pub fn set(&self, servers: impl Iterator<Item = Arc<CancelHandle>>) {
        let mut held = self.lock();
        held.clear();
        servers.for_each(|server| held.add(server));
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Servers> {
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
        let servers: Vec<_> = {
            let held = self.lock();
            held.first.iter().chain(&held.others).cloned().collect()
        };
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
    entries: DashMap<u32, (Secret, Arc<CancelEntry>)>,
}

/// Bytes of a secret in protocol 3.0, and in 3.2 as PostgreSQL makes them.
const SHORT: usize = 4;
const LONG: usize = 32;

/// Numbers that no server's process has (Linux has at most 2^22 of them), and positive ones: some clients read them as signed. A
/// notification names the server's process, and a client that takes those with its own number for its own must not take another's.
const PROCESSES: std::ops::RangeInclusive<u32> = (1 << 22) + 1..=i32::MAX as u32;

/// As it is kept: there are many, and few are long.
enum Secret {
    Short([u8; SHORT]),
    Long(Box<[u8; LONG]>),
}

impl Secret {
    fn of(key: &CancelKey) -> Self {
        match key.secret().first_chunk() {
            Some(short) if key.length == SHORT => Self::Short(*short),
            _ => Self::Long(Box::new(key.secret)),
        }
    }

    /// Takes the same time wherever they differ.
    fn is(&self, secret: &[u8]) -> bool {
        let own = match self {
            Self::Short(short) => &short[..],
            Self::Long(long) => &long[..],
        };
        own.len() == secret.len() && own.iter().zip(secret).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

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
}

impl CancelKeys {
    /// `long`: the client's protocol is 3.2 or newer.
    pub fn register(&self, entry: Arc<CancelEntry>, long: bool) -> CancelKey {
        loop {
            let process = rand::random_range(PROCESSES);
            let length = if long { LONG } else { SHORT };
            let mut key = CancelKey { process, secret: [0; LONG], length };
            rand::fill(&mut key.secret[..length]);
            if let dashmap::Entry::Vacant(vacant) = self.entries.entry(process) {
                vacant.insert((Secret::of(&key), entry));
                return key;
            }
        }
    }

    pub fn remove(&self, process: u32) {
        self.entries.remove(&process);
    }

    /// The client of a key; `None` also when only the secret is wrong.
    pub fn find(&self, key: CancelKey) -> Option<Arc<CancelEntry>> {
        let entry = self.entries.get(&key.process)?;
        entry.0.is(key.secret()).then(|| entry.1.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_finds_its_client() {
        let keys = CancelKeys::default();
        for long in [false, true] {
            let entry = Arc::new(CancelEntry::default());
            let key = keys.register(entry.clone(), long);
            assert!(key.process > 4_194_304 && key.process <= i32::MAX as u32, "{}", key.process);
            let with = |secret: &[u8]| CancelKey::new(key.process, secret).and_then(|key| keys.find(key));
            assert!(with(key.secret()).is_some_and(|found| Arc::ptr_eq(&found, &entry)));
            for at in 0..key.secret().len() {
                let mut other = key.secret().to_vec();
                other[at] ^= 1;
                assert!(with(&other).is_none(), "byte {at}");
            }
            assert!(with(&key.secret()[1..]).is_none());
            assert!(
                with(&[&key.secret[..], &[0; LONG]].concat()[..if long { SHORT } else { LONG }]).is_none()
            );
            keys.remove(key.process);
            assert!(with(key.secret()).is_none());
        }
    }
}
