//! Which shard owns which slot: at first contiguous ranges in the order of the configuration, as long as the shards'
//! weights say; later the assignment that is nearest to the one before.
//!
//! Invariant: the same input gives the same assignment, on every proxy; every slot has one owner; no assignment with the
//! same shares would move fewer slots.
//!
//! Start reading at [`initial`] and [`rebalanced`].

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

/// The assignment after the weights changed: each shard's number of slots as its weight says, and no slot moves that need
/// not. A shard that joined has a weight and no slots; one that leaves has the weight 0.
///
/// `owners`: index into `weights`, for each slot. At least one weight must be above 0.
pub fn rebalanced(owners: &[usize], weights: &[u32]) -> Vec<usize> {
    let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let mut wished = owners.to_vec();
    if total == 0 {
        return wished;
    }
    let mut held = vec![0usize; weights.len()];
    for owner in owners {
        held[*owner] += 1;
    }
    let mut target: Vec<usize> =
        weights.iter().map(|&weight| (owners.len() as u64 * u64::from(weight) / total) as usize).collect();
    // What rounding left over goes to those that hold it already, then to the largest fractions.
    let fraction = |shard: usize| owners.len() as u64 * u64::from(weights[shard]) % total;
    let mut by_need: Vec<usize> = (0..weights.len()).filter(|shard| fraction(*shard) > 0).collect();
    by_need.sort_by_key(|&shard| (held[shard] <= target[shard], std::cmp::Reverse(fraction(shard)), shard));
    let over = owners.len() - target.iter().sum::<usize>();
    for shard in by_need.into_iter().take(over) {
        target[shard] += 1;
    }
    // A shard gives its last slots, so that what it keeps stays in few ranges; they go to the others in order.
    let mut free = Vec::new();
    for slot in (0..owners.len()).rev() {
        let owner = owners[slot];
        if held[owner] > target[owner] {
            held[owner] -= 1;
            free.push(slot);
        }
    }
    free.sort_unstable();
    let mut free = free.into_iter();
    for (shard, target) in target.into_iter().enumerate() {
        for slot in free.by_ref().take(target.saturating_sub(held[shard])) {
            wished[slot] = shard;
        }
    }
    wished
}

/// Owners as ranges, in the order of the slots.
pub fn ranges(owners: &[usize]) -> Vec<SlotRange> {
    let mut found: Vec<SlotRange> = Vec::new();
    for (slot, &shard) in owners.iter().enumerate() {
        match found.last_mut() {
            Some(last) if last.shard == shard => last.to = slot as u16,
            _ => found.push(SlotRange { from: slot as u16, to: slot as u16, shard }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(weights: &[u32]) -> Vec<usize> {
        initial(weights)
            .iter()
            .flat_map(|r| std::iter::repeat_n(r.shard, (r.to - r.from + 1).into()))
            .collect()
    }

    fn moved(before: &[usize], after: &[usize]) -> Vec<(usize, usize)> {
        before.iter().zip(after).filter(|(from, to)| from != to).map(|(from, to)| (*from, *to)).collect()
    }

    fn held(owners: &[usize], shards: usize) -> Vec<usize> {
        (0..shards).map(|shard| owners.iter().filter(|owner| **owner == shard).count()).collect()
    }

    #[test]
    fn a_shard_that_joins_takes_its_share_and_nothing_else_moves() {
        for n in 1..24usize {
            let before = owners(&vec![1; n]);
            let after = rebalanced(&before, &vec![1; n + 1]);
            let moved = moved(&before, &after);
            assert!(moved.iter().all(|(_, to)| *to == n), "{n} shards and one more");
            assert!(moved.len().abs_diff(SLOTS / (n + 1)) <= 1, "{n}: {} slots", moved.len());
        }
    }

    #[test]
    fn a_shard_that_leaves_gives_its_own_slots_and_nothing_else_moves() {
        for n in 2..24usize {
            for gone in 0..n {
                let before = owners(&vec![1; n]);
                let mut weights = vec![1; n];
                weights[gone] = 0;
                let after = rebalanced(&before, &weights);
                let moved = moved(&before, &after);
                assert!(moved.iter().all(|(from, to)| *from == gone && *to != gone), "{gone} of {n}");
                assert_eq!(moved.len(), held(&before, n)[gone]);
            }
        }
    }

    /// Any history of joining, leaving and changing weights, from a seed.
    #[test]
    fn no_assignment_with_these_shares_would_move_fewer_slots() {
        let mut seed = 0x5EED_u64;
        let mut below = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        for round in 0..40 {
            let mut weights = vec![1 + below(9) as u32; 1 + below(6) as usize];
            let mut now = owners(&weights);
            for step in 0..12 {
                match below(3) {
                    0 => weights.push(1 + below(9) as u32),
                    1 => {
                        let shard = below(weights.len() as u64) as usize;
                        weights[shard] = below(9) as u32;
                    }
                    _ => {
                        for weight in &mut weights {
                            *weight *= 3;
                        }
                    }
                }
                if weights.iter().all(|weight| *weight == 0) {
                    weights[0] = 1;
                }
                let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
                let before = held(&now, weights.len());
                let next = rebalanced(&now, &weights);
                assert_eq!(rebalanced(&now, &weights), next, "the same input, the same assignment");
                let after = held(&next, weights.len());
                for (shard, weight) in weights.iter().enumerate() {
                    let exact = SLOTS as u64 * u64::from(*weight) / total;
                    let more = u64::from(!(SLOTS as u64 * u64::from(*weight)).is_multiple_of(total));
                    let found = after[shard] as u64;
                    assert!(found == exact || found == exact + more, "round {round}.{step}, shard {shard}");
                }
                // Only what a shard has too much of leaves it: the least that these shares allow.
                let surplus: usize = before.iter().zip(&after).map(|(b, a)| b.saturating_sub(*a)).sum();
                assert_eq!(moved(&now, &next).len(), surplus, "round {round}.{step}");
                assert_eq!(moved(&next, &rebalanced(&next, &weights)), [], "it is at rest");
                now = next;
            }
        }
        let kept = ranges(&owners(&[1, 2, 1]));
        assert_eq!(kept, initial(&[1, 2, 1]));
    }

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
