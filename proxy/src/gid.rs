//! Names of prepared transactions: `pgherd:<cluster>:<deciding shard>:<random>`.
//!
//! Invariant: whoever reads a gid of ours knows its cluster and where its decision stands; no gid is used twice
//! (128 random bits).

use std::fmt;

/// PostgreSQL's bound on a gid (twophase.c, GIDSIZE 200 with its NUL).
pub const GID_BYTES_MAX: usize = 199;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gid {
    pub cluster: String,
    /// The deciding shard's name.
    pub decider: String,
    random: u128,
}

impl Gid {
    pub fn new(cluster: &str, decider: &str) -> Self {
        Self { cluster: cluster.to_owned(), decider: decider.to_owned(), random: rand::random() }
    }

    /// Reads a gid; `None`: not one of pgherd's.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("pgherd:")?;
        let (cluster, rest) = rest.split_once(':')?;
        let (decider, random) = rest.rsplit_once(':')?;
        let random = (random.len() == 32).then(|| u128::from_str_radix(random, 16).ok())??;
        Some(Self { cluster: cluster.to_owned(), decider: decider.to_owned(), random })
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pgherd:{}:{}:{:032x}", self.cluster, self.decider, self.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gid_is_read_back_and_others_are_not_ours() {
        let gid = Gid::new("c0ffee", "s:1");
        assert!(gid.to_string().len() <= GID_BYTES_MAX);
        assert_eq!(Gid::parse(&gid.to_string()), Some(gid));
        for other in ["", "pgherd:", "pgherd:a:b", "pgherd:a:b:zz", "citus_1_2_3", "pgherd:a:b:00112233"] {
            assert_eq!(Gid::parse(other), None, "{other}");
        }
    }
}
