//! The course of a number over a run of any length in bounded memory: means over stretches of steps,
//! which double whenever there are too many of them.

/// Stretches that are kept at most; a picture has fewer columns than this.
const MOST: usize = 1024;

/// A course.
#[derive(Clone, Debug, PartialEq)]
pub struct Thinned {
    /// Last step and mean of each stretch that is full.
    points: Vec<[f64; 2]>,
    /// Values to a stretch.
    stretch: u32,
    /// The stretch that is not full: values, and their sum.
    open: (u32, f64),
    last: f64,
}

impl Default for Thinned {
    fn default() -> Self {
        Self { points: Vec::new(), stretch: 1, open: (0, 0.0), last: 0.0 }
    }
}

impl Thinned {
    /// Adds the value of a step; one that is not finite is left out.
    #[allow(clippy::cast_precision_loss)] // steps are far below 2^53
    pub fn push(&mut self, step: u64, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.last = step as f64;
        self.open.0 += 1;
        self.open.1 += value;
        if self.open.0 == self.stretch {
            self.points.push([self.last, self.open.1 / f64::from(self.stretch)]);
            self.open = (0, 0.0);
        }
        if self.points.len() == MOST {
            let pair = |pair: &[[f64; 2]]| [pair[1][0], f64::midpoint(pair[0][1], pair[1][1])];
            self.points = self.points.chunks_exact(2).map(pair).collect();
            self.stretch *= 2;
        }
    }

    /// Steps and means, in order.
    pub fn points(&self) -> Vec<[f64; 2]> {
        let (count, sum) = self.open;
        let open = (count > 0).then(|| [self.last, sum / f64::from(count)]);
        self.points.iter().copied().chain(open).collect()
    }
}

/// A course without its noise: means over the points nearby, the fiftieth part of all to each side.
#[allow(clippy::cast_precision_loss)] // at most a thousand
pub fn smoothed(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let reach = points.len() / 50;
    let mean = |(index, point): (usize, &[f64; 2])| {
        // As far to both sides, so that a slope stays where it is.
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
        assert_eq!(smoothed(&line), line);
        let noise: Vec<[f64; 2]> = (0..200).map(|i| [f64::from(i), f64::from(i % 2)]).collect();
        assert!(smoothed(&noise)[10..190].iter().all(|point| (point[1] - 0.5).abs() < 0.06));
        assert!(smoothed(&[]).is_empty());
    }

    #[test]
    fn a_long_course_keeps_its_shape() {
        let mut course = Thinned::default();
        for step in 1..=100_000_u32 {
            course.push(step.into(), f64::from(step) / 1e5);
        }
        course.push(100_001, f64::NAN);
        let points = course.points();
        assert!((MOST / 2..=MOST).contains(&points.len()), "{}", points.len());
        assert!((points.last().unwrap()[0] - 1e5).abs() < 1e-9);
        // The mean of a stretch is the middle of a straight line.
        let first = points[0];
        assert!((first[1] - (first[0] + 1.0) / 2e5).abs() < 1e-9, "{first:?}");
    }
}
