//! What a statement touches: the units by which rows move from shard to shard.
//!
//! Invariant: whatever a plan reads or writes of sharded tables is covered by what was noted while it was made. What is not known
//! in detail makes it more, never less.
//!
//! Plain cells, no memory of its own: whoever plans has one on the stack, every client has one on its card.
//!
//! Start reading at [`Touched`] and [`Hold`].

use std::cell::Cell;

use crate::topology::SLOTS;

/// Units kept one by one; with more, it is a whole distribution, or everything.
const UNITS_MAX: usize = 6;

/// A slot of a distribution, a whole distribution, or everything. In a distribution by directory a key stands in the slot that
/// it would have by its hash; ranges and lists are taken whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit(u32);

impl Unit {
    pub const EVERYTHING: Self = Self(u32::MAX);
    const WHOLE: u32 = 0xFFFF;

    /// A distribution's number that has no place in here stands for everything.
    fn in_distribution(distribution: usize, within: u32) -> Self {
        match u16::try_from(distribution) {
            Ok(distribution) if distribution < u16::MAX => Self(u32::from(distribution) << 16 | within),
            Ok(_) | Err(_) => Self::EVERYTHING,
        }
    }

    pub fn slot(distribution: usize, slot: u16) -> Self {
        debug_assert!(usize::from(slot) < SLOTS);
        Self::in_distribution(distribution, u32::from(slot))
    }

    pub fn whole(distribution: usize) -> Self {
        Self::in_distribution(distribution, Self::WHOLE)
    }

    /// The slot, or all of the distribution where only that is known.
    pub fn of(distribution: usize, slot: Option<u16>) -> Self {
        slot.map_or_else(|| Self::whole(distribution), |slot| Self::slot(distribution, slot))
    }

    fn distribution(self) -> u32 {
        self.0 >> 16
    }

    fn within(self) -> u32 {
        self.0 & 0xFFFF
    }

    fn covers(self, other: Self) -> bool {
        self == other
            || self == Self::EVERYTHING
            || (self.within() == Self::WHOLE && self.distribution() == other.distribution())
    }
}

/// Units that were touched.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    len: Cell<u8>,
    units: [Cell<u32>; UNITS_MAX],
}

impl Touched {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len.get() == 0
    }

    #[inline]
    pub fn clear(&self) {
        self.len.set(0);
    }

    fn units(&self) -> impl Iterator<Item = Unit> {
        self.units.iter().take(usize::from(self.len.get())).map(|unit| Unit(unit.get()))
    }

    #[inline]
    pub fn note(&self, unit: Unit) {
        if self.units().any(|known| known.covers(unit)) {
            return;
        }
        let len = usize::from(self.len.get());
        if let Some(free) = self.units.get(len) {
            free.set(unit.0);
            self.len.set(len as u8 + 1);
            return;
        }
        let of_one = self.units().all(|known| known.distribution() == unit.distribution());
        let wider = if of_one {
            Unit::in_distribution(unit.distribution() as usize, Unit::WHOLE)
        } else {
            Unit::EVERYTHING
        };
        self.units[0].set(wider.0);
        self.len.set(1);
    }

    pub fn add(&self, other: &Self) {
        other.units().for_each(|unit| self.note(unit));
    }

    /// Something of it is within `held`.
    pub fn meets(&self, held: &Held) -> bool {
        self.units().any(|unit| held.meets(unit))
    }

    /// All of `other` that is within `held` is in here.
    pub fn covers_within(&self, other: &Self, held: &Held) -> bool {
        other.units().filter(|unit| held.meets(*unit)).all(|unit| self.units().any(|own| own.covers(unit)))
    }
}

/// Units that nobody may touch for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// All distributions, reference tables, the schema.
    Everything,
    Distribution(u16),
    /// Both ends belong to it.
    Slots {
        distribution: u16,
        from: u16,
        to: u16,
    },
}

impl Held {
    fn meets(&self, unit: Unit) -> bool {
        if unit == Unit::EVERYTHING {
            return true;
        }
        match *self {
            Self::Everything => true,
            Self::Distribution(distribution) => unit.distribution() == u32::from(distribution),
            Self::Slots { distribution, from, to } => {
                unit.distribution() == u32::from(distribution)
                    && (unit.within() == Unit::WHOLE
                        || (u32::from(from)..=u32::from(to)).contains(&unit.within()))
            }
        }
    }
}

/// A unit that is on hold: it is about to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its number in the catalog.
    pub id: i64,
    /// Counts up with every hold that this pgherd learns of.
    pub generation: u64,
    pub held: Held,
}

/// Units that have moved, for those who look at the rows as of an earlier moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Of the placement, from then on.
    pub generation: u64,
    pub held: Held,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(units: &[Unit]) -> Touched {
        let touched = Touched::default();
        units.iter().for_each(|unit| touched.note(*unit));
        touched
    }

    #[test]
    fn whoever_touches_a_unit_meets_its_hold_and_nobody_else_does() {
        let slots = Held::Slots { distribution: 1, from: 10, to: 12 };
        let cases: [(&str, &[Unit], bool, bool, bool); 9] = [
            // Meets the slots, the distribution 1, everything.
            ("nothing", &[], false, false, false),
            ("the slot before", &[Unit::slot(1, 9)], false, true, true),
            ("the first slot", &[Unit::slot(1, 10)], true, true, true),
            ("the last slot", &[Unit::slot(1, 12)], true, true, true),
            ("the slot behind", &[Unit::slot(1, 13)], false, true, true),
            ("another distribution", &[Unit::slot(0, 11), Unit::whole(2)], false, false, true),
            ("the whole distribution", &[Unit::whole(1)], true, true, true),
            ("everything", &[Unit::EVERYTHING], true, true, true),
            ("one of several", &[Unit::slot(0, 0), Unit::slot(1, 11)], true, true, true),
        ];
        for (why, units, in_slots, in_distribution, in_everything) in cases {
            let touched = touched(units);
            assert_eq!(touched.meets(&slots), in_slots, "{why}");
            assert_eq!(touched.meets(&Held::Distribution(1)), in_distribution, "{why}");
            assert_eq!(touched.meets(&Held::Everything), in_everything, "{why}");
        }
    }

    #[test]
    fn more_units_than_there_is_room_for_become_a_larger_one() {
        let many = touched(&(0..20).map(|slot| Unit::slot(3, slot * 2)).collect::<Vec<_>>());
        assert!(many.meets(&Held::Slots { distribution: 3, from: 1, to: 1 }), "the whole distribution");
        assert!(!many.meets(&Held::Distribution(2)));
        many.note(Unit::slot(2, 0));
        assert!(many.meets(&Held::Distribution(2)));
        let mixed = touched(&(0..20u16).map(|n| Unit::slot(usize::from(n), n)).collect::<Vec<_>>());
        assert!(mixed.meets(&Held::Distribution(999)), "everything");
    }

    #[test]
    fn what_was_touched_before_is_let_through_and_what_is_new_within_a_hold_is_not() {
        let held = Held::Slots { distribution: 0, from: 0, to: 99 };
        let before = touched(&[Unit::slot(0, 7)]);
        assert!(before.covers_within(&touched(&[Unit::slot(0, 7), Unit::slot(0, 500)]), &held));
        assert!(!before.covers_within(&touched(&[Unit::slot(0, 7), Unit::slot(0, 8)]), &held));
        assert!(!before.covers_within(&touched(&[Unit::whole(0)]), &held));
        assert!(touched(&[Unit::whole(0)]).covers_within(&touched(&[Unit::slot(0, 8)]), &held));
        before.clear();
        assert!(before.is_empty() && !before.meets(&Held::Everything));
    }
}
