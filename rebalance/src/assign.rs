//! Which shard owns which slot, at first: contiguous ranges in the order of the configuration, as long as the
//! shards' weights say.
//!
//! Invariant: the same weights give the same assignment, on every proxy; every slot has one owner.

use pgherd_router::topology::SLOTS;

/// A run of slots with one owner; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRange {
    pub from: u16,
    pub to: u16,
    /// Index into the shards.
    pub shard: usize,
}

/// Divides all slots by weight. A weight of 0 gets nothing; at least one must be above 0.
pub fn initial(weights: &[u32]) -> Vec<SlotRange> {
    let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
    if total == 0 {
        return Vec::new();
    }
    let mut ranges = Vec::new();
    let mut sum = 0u64;
    for (shard, &weight) in weights.iter().enumerate() {
        let from = (SLOTS as u64 * sum / total) as u16;
        sum += u64::from(weight);
        let end = (SLOTS as u64 * sum / total) as u16;
        if end > from {
            ranges.push(SlotRange { from, to: end - 1, shard });
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_owner_and_weights_are_respected() {
        let cases: [(&[u32], &[(u16, u16, usize)]); 4] = [
            (&[1], &[(0, 16383, 0)]),
            (&[1, 1, 1, 1], &[(0, 4095, 0), (4096, 8191, 1), (8192, 12287, 2), (12288, 16383, 3)]),
            (&[1, 3], &[(0, 4095, 0), (4096, 16383, 1)]),
            (&[1, 0, 1], &[(0, 8191, 0), (8192, 16383, 2)]),
        ];
        for (weights, expected) in cases {
            let ranges = initial(weights);
            let found: Vec<_> = ranges.iter().map(|r| (r.from, r.to, r.shard)).collect();
            assert_eq!(found, expected, "{weights:?}");
        }
        for n in 1..40u32 {
            let weights: Vec<u32> = (0..n).map(|i| 1 + i * 7 % 5).collect();
            let ranges = initial(&weights);
            assert_eq!(ranges.iter().map(|r| r.to as usize - r.from as usize + 1).sum::<usize>(), SLOTS);
        }
    }
}
