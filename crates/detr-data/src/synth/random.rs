//! Random numbers that are a function of the seed and the number of the image.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A generator of the random numbers of one image.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(seed: u64, index: usize) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(key);
        random.set_stream(index as u64);
        Self(random)
    }

    /// Draws a number in `[0, 1)`.
    #[allow(clippy::cast_precision_loss)] // 53 bits
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Draws a number of a range.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Draws a whole number of a range, both ends included.
    #[allow(clippy::cast_possible_truncation)] // below the range's length
    pub(super) fn integer(&mut self, low: u32, high: u32) -> u32 {
        let length = u64::from(high.saturating_sub(low)) + 1;
        low + ((u64::from(self.0.next_u32()) * length) >> 32) as u32
    }

    /// Draws a byte.
    pub(super) fn byte(&mut self) -> u8 {
        self.0.next_u32().to_le_bytes()[0]
    }
}
