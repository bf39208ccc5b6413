//! The magnitudes of the numbers of a tensor, counted, and the range that is told apart by int8: all of them, all but a
//! few, or the range whose rounding changes their distribution the least.

/// The rule by which the range of a tensor is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CalibrationMethod {
    /// The largest magnitude.
    MinMax,
    /// The magnitude that 99.99 % of the numbers other than zero do not exceed.
    Percentile,
    /// The magnitude for which the distribution of the rounded numbers is nearest to the original one: the smallest
    /// Kullback-Leibler divergence (Migacz, 8-bit inference with `TensorRT`, GTC 2017).
    #[default]
    Entropy,
}

/// The part of the numbers that [`CalibrationMethod::Percentile`] keeps.
const KEPT: f64 = 0.9999;

const BINS: usize = 4096;

/// Magnitudes that int8 tells apart.
const MAGNITUDES: usize = 128;

/// Bins from one range that is tried to the next.
const STEP: usize = 32;

/// Counts of magnitudes. Zeros are not counted: they are exact in every range.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    /// The magnitude at which the last bin ends.
    limit: f32,
    largest: f32,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BINS], limit: 0.0, largest: 0.0 }
    }

    /// Counts the numbers of a tensor; those that are not finite are left out.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // bins
    pub(super) fn observe(&mut self, values: &[f32]) {
        let magnitudes = || {
            values.iter().map(|value| value.abs()).filter(|value| value.is_finite() && *value > 0.0)
        };
        let largest = magnitudes().fold(0.0, f32::max);
        if largest == 0.0 {
            return;
        }
        self.largest = self.largest.max(largest);
        if self.limit == 0.0 {
            self.limit = largest;
        }
        while self.limit < largest {
            self.widen();
        }
        let bins = BINS as f32 / self.limit;
        for magnitude in magnitudes() {
            self.counts[((magnitude * bins) as usize).min(BINS - 1)] += 1;
        }
    }

    /// Doubles the range: two bins become one.
    fn widen(&mut self) {
        for bin in 0..BINS / 2 {
            self.counts[bin] = self.counts[2 * bin] + self.counts[2 * bin + 1];
        }
        self.counts[BINS / 2..].fill(0);
        self.limit *= 2.0;
    }

    /// Returns the range by a rule; 0 if there were no numbers but zeros.
    #[allow(clippy::cast_precision_loss)] // counts and bins
    pub(super) fn range(&self, method: CalibrationMethod) -> f32 {
        let bins = match method {
            CalibrationMethod::MinMax => BINS,
            CalibrationMethod::Percentile => self.percentile(),
            CalibrationMethod::Entropy => self.entropy(),
        };
        (self.limit * (bins as f32 / BINS as f32)).min(self.largest)
    }

    #[allow(clippy::cast_precision_loss)] // counts
    fn percentile(&self) -> usize {
        let total = self.counts.iter().sum::<u64>() as f64;
        let mut sum = 0;
        let reached = self.counts.iter().position(|count| {
            sum += count;
            sum as f64 >= KEPT * total
        });
        reached.map_or(BINS, |bin| bin + 1)
    }

    /// Returns the number of bins whose range has the smallest divergence.
    fn entropy(&self) -> usize {
        let tried = (MAGNITUDES..=BINS).step_by(STEP);
        let divergences = tried.map(|bins| (bins, self.divergence(bins)));
        divergences.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(BINS, |(bins, _)| bins)
    }

    /// Returns how far the distribution is from the one that is left when the first bins are rounded to int8, and the
    /// rest is cut off.
    #[allow(clippy::cast_precision_loss)] // counts
    fn divergence(&self, bins: usize) -> f64 {
        let cut: u64 = self.counts[bins..].iter().sum();
        let mut original: Vec<f64> =
            self.counts[..bins].iter().map(|&count| count as f64).collect();
        let whole: f64 = original.iter().sum();
        original[bins - 1] += cut as f64;
        let total: f64 = original.iter().sum();
        let mut divergence = 0.0;
        for level in 0..MAGNITUDES {
            let (from, to) = (level * bins / MAGNITUDES, (level + 1) * bins / MAGNITUDES);
            let inside = &self.counts[from..to];
            // The numbers of a level are spread over the bins that had any.
            let filled = inside.iter().filter(|&&count| count > 0).count();
            let mean = inside.iter().sum::<u64>() as f64 / filled.max(1) as f64;
            for (bin, &count) in (from..to).zip(inside) {
                let p = original[bin] / total;
                if p > 0.0 {
                    // The cut-off numbers fall into a bin that may have been empty.
                    let q = if count > 0 { mean / whole } else { f64::EPSILON };
                    divergence += p * (p / q).ln();
                }
            }
        }
        if whole > 0.0 { divergence } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_magnitude_is_exact_and_the_order_does_not_matter() {
        let mut histogram = Histogram::new();
        histogram.observe(&[0.0, 0.25, -0.5]);
        histogram.observe(&[3.0, f32::NAN, f32::INFINITY]);
        assert!((histogram.range(CalibrationMethod::MinMax) - 3.0).abs() < 1e-6);
        assert_eq!(histogram.counts.iter().sum::<u64>(), 3);
        assert!(Histogram::new().range(CalibrationMethod::Entropy).abs() < f32::MIN_POSITIVE);
    }

    #[test]
    fn a_few_large_numbers_are_cut_off() {
        let mut histogram = Histogram::new();
        let many: Vec<f32> =
            (1..=20_000_u16).map(|n| (f32::from(n % 1000 + 1) / 1000.0).powi(2)).collect();
        histogram.observe(&many);
        histogram.observe(&[64.0]);
        assert!((histogram.range(CalibrationMethod::MinMax) - 64.0).abs() < 1e-4);
        for method in [CalibrationMethod::Percentile, CalibrationMethod::Entropy] {
            let range = histogram.range(method);
            assert!((0.9..=3.0).contains(&range), "{method:?}: {range}");
        }
    }
}
