//! Randomness that can be had again: the same seed, the same interruptions.

use super::world::Interruption;

/// A generator of the `SplitMix64` family, which needs no crate and is good enough to choose points with.
#[derive(Debug)]
pub(super) struct Random(u64);

// === impl Random ===

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An interruption at any of so many steps. Most of them are deaths.
    pub(super) fn interruption(&mut self, steps: u32) -> Interruption {
        let point = 1 + self.below(steps);
        match self.below(5) {
            0 => Interruption::LettingGo(point),
            _ => Interruption::Death(point),
        }
    }

    fn below(&mut self, limit: u32) -> u32 {
        let drawn = self.next() % u64::from(limit);
        u32::try_from(drawn).expect("it is below the limit")
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
