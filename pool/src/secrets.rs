//! What a user proves itself with towards its servers.
//!
//! Invariant: nothing in here is ever printed.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pgherd_wire::scram;

use crate::lock;

/// The secrets of one user; clones share what is learnt.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    list: Vec<Secret>,
    /// What is tried for each of them; a password's keys are derived once.
    credentials: Vec<Credential>,
    /// The one that a server took last, while a password is being replaced.
    good: AtomicUsize,
    /// Of the last client that logged in by SCRAM.
    proven: Mutex<Option<scram::Keys>>,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Password(String),
    /// `md5` and 32 hexadecimal digits: enough for servers that ask for md5.
    Md5(String),
}

/// One attempt's.
#[derive(Clone)]
pub(crate) enum Credential {
    Password(String, Arc<scram::Remembered>),
    Md5(String),
    Keys(scram::Keys),
}

impl Secrets {
    pub fn new(list: Vec<Secret>) -> Self {
        let credentials = list.iter().map(|secret| match secret {
            Secret::Password(password) => {
                Credential::Password(password.clone(), scram::Remembered::new(password.as_bytes()))
            }
            Secret::Md5(hash) => Credential::Md5(hash.clone()),
        });
        Self(Arc::new(Inner { credentials: credentials.collect(), list, ..Inner::default() }))
    }

    pub fn password(password: &str) -> Self {
        Self::new(vec![Secret::Password(password.into())])
    }

    /// A client has proven that it knows the password of a verifier: its keys log in wherever the verifier is the same.
    pub fn prove(&self, keys: scram::Keys) {
        let mut proven = lock(&self.0.proven);
        if proven.as_ref() != Some(&keys) {
            *proven = Some(keys);
        }
    }

    /// What to try, one after the other, with its index.
    pub(crate) fn candidates(&self) -> Vec<(usize, Credential)> {
        let good = self.0.good.load(Ordering::Relaxed);
        let mut list = self.0.credentials.clone();
        list.extend(lock(&self.0.proven).clone().map(Credential::Keys));
        let mut numbered: Vec<_> = list.into_iter().enumerate().collect();
        numbered.sort_by_key(|(index, _)| *index != good);
        numbered
    }

    pub(crate) fn worked(&self, index: usize) {
        self.0.good.store(index, Ordering::Relaxed);
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        self.0.list == other.0.list
    }
}

impl Eq for Secrets {}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.list.len())
    }
}
