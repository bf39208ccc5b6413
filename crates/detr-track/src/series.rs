//! A number over the steps of a run of any length in bounded memory: means over buckets of steps, which double in
//! size whenever there are too many of them.

/// Number of buckets that are kept at most; a plot has fewer columns than this.
const MAX_BUCKETS: usize = 1024;

/// A number over steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Last step and mean of each full bucket.
    points: Vec<[f64; 2]>,
    /// Values in a full bucket.
    bucket_size: u32,
    /// Values in the bucket that is not full, and their sum.
    open: (u32, f64),
    /// Step of the last value.
    last: f64,
}

impl Default for Series {
    fn default() -> Self {
        Self { points: Vec::new(), bucket_size: 1, open: (0, 0.0), last: 0.0 }
    }
}

impl Series {
    /// Adds the value of a step; a value that is not finite is left out.
    #[allow(clippy::cast_precision_loss)] // steps are far below 2^53
    pub fn push(&mut self, step: u64, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.last = step as f64;
        self.open.0 += 1;
        self.open.1 += value;
        if self.open.0 == self.bucket_size {
            self.points.push([self.last, self.open.1 / f64::from(self.bucket_size)]);
            self.open = (0, 0.0);
        }
        if self.points.len() == MAX_BUCKETS {
            let pair = |pair: &[[f64; 2]]| [pair[1][0], f64::midpoint(pair[0][1], pair[1][1])];
            self.points = self.points.chunks_exact(2).map(pair).collect();
            self.bucket_size *= 2;
        }
    }

    /// Returns steps and means in the order of the steps.
    #[must_use]
    pub fn points(&self) -> Vec<[f64; 2]> {
        let (count, sum) = self.open;
        let open = (count > 0).then(|| [self.last, sum / f64::from(count)]);
        self.points.iter().copied().chain(open).collect()
    }
}

/// Returns points without their noise: each is the mean of its neighbours, a fiftieth of all points to each side.
#[must_use]
#[allow(clippy::cast_precision_loss)] // at most a thousand
pub fn smooth(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let reach = points.len() / 50;
    let mean = |(index, point): (usize, &[f64; 2])| {
        // Equally far to both sides, so that a slope stays where it is.
        let reach = reach.min(index).min(points.len() - 1 - index);
        let near = &points[index - reach..=index + reach];
        [point[0], near.iter().map(|point| point[1]).sum::<f64>() / near.len() as f64]
    };
    points.iter().enumerate().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_lines_and_ends() {
        let line: Vec<[f64; 2]> = (0..200).map(|i| [f64::from(i), 3.0 * f64::from(i)]).collect();
        assert_eq!(smooth(&line), line);
        let noise: Vec<[f64; 2]> = (0..200).map(|i| [f64::from(i), f64::from(i % 2)]).collect();
        assert!(smooth(&noise)[10..190].iter().all(|point| (point[1] - 0.5).abs() < 0.06));
        assert!(smooth(&[]).is_empty());
    }

    #[test]
    fn a_long_series_keeps_its_shape() {
        let mut series = Series::default();
        for step in 1..=100_000_u32 {
            series.push(step.into(), f64::from(step) / 1e5);
        }
        series.push(100_001, f64::NAN);
        let points = series.points();
        assert!((MAX_BUCKETS / 2..=MAX_BUCKETS).contains(&points.len()), "{}", points.len());
        assert!((points.last().unwrap()[0] - 1e5).abs() < 1e-9);
        // The mean of a bucket is the middle of a straight line.
        let first = points[0];
        assert!((first[1] - (first[0] + 1.0) / 2e5).abs() < 1e-9, "{first:?}");
    }
}
