//! One line of KITTI's labels: the class, then 14 numbers, and in files of results a score.
//!
//! The numbers are counted from the end, so that a class may have several words. KITTI's tracking data has the
//! number of the frame and of the track before the class.

use detr_types::Xywh;

/// Numbers after the class: truncation, occlusion, angle, the four edges of the box, and seven in space.
const NUMBERS: usize = 14;
/// The place of the box among the numbers.
const BOX: std::ops::Range<usize> = 3..7;

/// An object of a label file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KittiLine {
    /// The class, its words joined by single spaces.
    pub(super) class: String,
    /// The box in pixels.
    pub(super) bbox: Xywh<f64>,
}

/// An object of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrackingLine {
    /// The number of the image in its sequence.
    pub(super) frame: u64,
    /// The object, as in data without sequences.
    pub(super) object: KittiLine,
}

impl KittiLine {
    /// Reads a line that is not blank.
    ///
    /// # Errors
    /// Says which column is not as it should be.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        Self::of_columns(&line.split_whitespace().collect::<Vec<_>>(), 0)
    }

    /// Reads the columns from the class on; `before` others stand before them.
    fn of_columns(columns: &[&str], before: usize) -> Result<Self, String> {
        let numbers = columns.iter().skip(1).rev().map_while(|column| column.parse::<f64>().ok());
        let mut numbers: Vec<f64> = numbers.collect();
        numbers.reverse();
        let words = &columns[..columns.len() - numbers.len()];
        let mut class = words.join(" ");
        match numbers.len() {
            NUMBERS => {}
            // A class that ends in a number looks like a line with a score.
            more if more == NUMBERS + 1 => {
                if !plausible(&numbers[..NUMBERS]) && plausible(&numbers[1..]) {
                    class = format!("{class} {}", columns[words.len()]);
                    numbers.remove(0);
                }
            }
            _ => return Err(wrong_columns(columns, before)),
        }
        let [x1, y1, x2, y2] = numbers[BOX] else { return Err(wrong_columns(columns, before)) };
        Ok(Self { class, bbox: [x1, y1, x2 - x1, y2 - y1].into() })
    }

    /// Returns whether a region has no class and is to be ignored.
    pub(super) fn is_ignored(&self) -> bool {
        self.class.eq_ignore_ascii_case("DontCare")
    }
}

impl TrackingLine {
    /// Reads a line that is not blank.
    ///
    /// # Errors
    /// Says which column is not as it should be.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [frame, track, object @ ..] = columns.as_slice() else {
            return Err(format!("expected {} columns, found {}", NUMBERS + 3, columns.len()));
        };
        if track.parse::<i64>().is_err() {
            return Err(format!("column 2 is {track:?}, expected the number of a track"));
        }
        let frame = frame
            .parse()
            .map_err(|_| format!("column 1 is {frame:?}, expected the number of a frame"))?;
        Ok(Self { frame, object: KittiLine::of_columns(object, 2)? })
    }
}

/// The kind of labels that a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Labels {
    /// A file of an image.
    Image,
    /// A file of a sequence.
    Sequence,
}

/// Looks at the first line that is not blank. One of numbers alone is YOLO's.
pub(super) fn labels(text: &str) -> Option<Labels> {
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    let is_text = |word: &str| word.parse::<f64>().is_err();
    if !line.split_whitespace().any(is_text) {
        return None;
    }
    if line.split_whitespace().nth(2).is_some_and(is_text) && TrackingLine::parse(line).is_ok() {
        return Some(Labels::Sequence);
    }
    KittiLine::parse(line).is_ok().then_some(Labels::Image)
}

/// Returns whether an angle is the number that KITTI writes where there is none.
#[allow(clippy::float_cmp)] // exactly this number
fn is_unknown(alpha: f64) -> bool {
    alpha == -10.0
}

/// Returns whether 14 numbers are in KITTI's ranges: truncation up to 1, whole states of occlusion up to 3, an angle,
/// corners the right way round and sizes in metres.
fn plausible(numbers: &[f64]) -> bool {
    let &[truncated, occluded, alpha, x1, y1, x2, y2, height, width, length, ..] = numbers else {
        return false;
    };
    (-1.0..=1.0).contains(&truncated)
        && occluded.fract() == 0.0
        && (-1.0..=3.0).contains(&occluded)
        && ((-6.3..=6.3).contains(&alpha) || is_unknown(alpha))
        && x1 <= x2
        && y1 <= y2
        && [height, width, length].iter().all(|size| *size < 40.0)
}

/// Names the first column that is text where a number belongs, or else the count.
fn wrong_columns(columns: &[&str], before: usize) -> String {
    let expected = NUMBERS + 1;
    let found = columns.len() + before;
    if columns.len() < expected {
        return format!("expected {} columns, found {found}", expected + before);
    }
    let is_text = |column: &&str| column.parse::<f64>().is_err();
    // The class may have several words.
    let numbers = columns.iter().position(|column| !is_text(column)).unwrap_or(columns.len());
    let text = columns.iter().enumerate().skip(numbers).find(|(_, column)| is_text(column));
    match text {
        Some((at, column)) if (4..8).contains(&at) => format!(
            "expected left, top, right and bottom in columns {} to {}, found {} in column {}",
            5 + before,
            8 + before,
            quoted(column),
            at + 1 + before
        ),
        Some((at, column)) => format!(
            "expected {} columns, all but the class numbers; column {} is {}",
            expected + before,
            at + 1 + before,
            quoted(column)
        ),
        None => format!(
            "expected {} columns, or one more with a score, found {found}",
            expected + before
        ),
    }
}

/// Quotes the beginning of a text, for a message.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_may_have_several_words_and_lines_a_score() {
        let rest = "0.00 0 -1.57 50 40 90 80 1.5 1.6 3.9 1 2 3 0.01";
        for (class, score) in [
            ("Car", ""),
            ("Car", " 0.93"),
            ("Car", " -12.5"),
            ("Towed Object", ""),
            ("Towed Object", " 0.5"),
            ("Person on a bike", ""),
            ("Level 3 lane", ""),
            ("2", ""),
        ] {
            let line = KittiLine::parse(&format!("{class}  {rest}{score}")).unwrap();
            assert_eq!(
                (line.class.as_str(), line.bbox.to_array()),
                (class, [50.0, 40.0, 40.0, 40.0])
            );
        }
        // A number at the end of a name, told from a score by KITTI's ranges.
        for class in ["Level 2", "Class 0", "Type A 1"] {
            let line = KittiLine::parse(&format!("{class} {rest}")).unwrap();
            assert_eq!((line.class.as_str(), line.bbox.x), (class, 50.0), "{class}");
        }
    }

    #[test]
    fn other_columns_are_named() {
        let good = "Car 0 0 0 1 2 3 4 0 0 0 0 0 0 0";
        for (line, reason) in [
            ("Car 0 0 0 1 2 3 4".to_owned(), "expected 15 columns, found 8"),
            (good.replace(" 2 3", " top 3"), "columns 5 to 8, found \"top\" in column 6"),
            (good.replace("Car 0 0", "Car 0 x"), "column 3 is \"x\""),
            (format!("{good} x"), "column 16 is \"x\""),
            (format!("{good} 1 1"), "or one more with a score, found 17"),
            (good.replace(" 2 3", " 2,3"), "expected 15 columns, found 14"),
        ] {
            let error = KittiLine::parse(&line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
        let tracked = format!("7 -1 Towed Object {}", good.strip_prefix("Car ").unwrap());
        let line = TrackingLine::parse(&tracked).unwrap();
        assert_eq!((line.frame, line.object.class.as_str()), (7, "Towed Object"));
        assert_eq!(labels(&tracked), Some(Labels::Sequence));
        assert_eq!(labels(&format!("\n{good}\n")), Some(Labels::Image));
        assert_eq!(labels(&good.replace("Car", "3 wheeler")), Some(Labels::Image));
        assert_eq!(labels("0 0.5 0.5 0.1 0.1"), None);
        assert_eq!(labels(&good.replace("Car", "1")), None);
        assert!(
            TrackingLine::parse(&tracked.replace(" 2 3", " x 3")).unwrap_err().contains("column 9")
        );
    }
}
