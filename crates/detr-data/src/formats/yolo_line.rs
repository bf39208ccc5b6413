//! One line of YOLO's labels: a class, and a box, an outline, or a box with keypoints.

use detr_types::{ImageSize, Xywh};

use super::data_yaml::{DataYaml, whole_number};
use super::named::NamedObject;
use crate::segmentation::Segmentation;

/// The rules of `data.yaml` for the lines.
pub(super) struct LineRules<'a> {
    /// Names of the classes.
    pub(super) names: &'a [String],
    /// Points of an object, and numbers of each, where labels are poses.
    pub(super) keypoints: Option<[usize; 2]>,
}

/// An object, and whether keypoints were left out.
pub(super) struct YoloLine {
    pub(super) object: NamedObject,
    pub(super) keypoints: bool,
}

impl<'a> LineRules<'a> {
    /// Creates the rules of a data set.
    pub(super) fn new(yaml: &DataYaml, names: &'a [String]) -> Self {
        Self { names, keypoints: yaml.keypoints }
    }

    /// Reads a line of labels of an image of this size.
    ///
    /// # Errors
    /// Says what is wrong with the line.
    pub(super) fn parse(&self, line: &str, size: ImageSize) -> Result<YoloLine, String> {
        let mut columns = line.split_whitespace();
        let class = self.class(columns.next().unwrap_or_default())?;
        let numbers = columns.map(|c| c.parse::<f64>().map_err(|_| format!("{c:?} is no number")));
        let numbers = numbers.collect::<Result<Vec<f64>, String>>()?;
        let (width, height) = (f64::from(size.width), f64::from(size.height));
        let object = |bbox, segmentation, keypoints| {
            let object = NamedObject { class, bbox, iscrowd: false, segmentation };
            Ok(YoloLine { object, keypoints })
        };
        let boxed = |[cx, cy, w, h]: [f64; 4]| {
            let (x, y) = ((cx - w / 2.0) * width, (cy - h / 2.0) * height);
            Xywh { x, y, w: w * width, h: h * height }
        };
        match (numbers.as_slice(), self.keypoints) {
            (&[cx, cy, w, h], _) => object(boxed([cx, cy, w, h]), None, false),
            // Their number alone would also fit an outline.
            (&[cx, cy, w, h, ref rest @ ..], Some([points, each]))
                if rest.len() == points * each =>
            {
                object(boxed([cx, cy, w, h]), None, true)
            }
            (other, Some([points, each])) => Err(format!(
                "{} numbers after the class, expected 4 and {} of keypoints, as \
                 `kpt_shape: [{points}, {each}]` says",
                other.len(),
                points * each
            )),
            (outline, None) if outline.len() >= 6 && outline.len().is_multiple_of(2) => {
                let points: Vec<f64> = outline
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .flat_map(|[x, y]| [x * width, y * height])
                    .collect();
                let bbox = around(&points);
                object(bbox, Some(Segmentation::Polygons(vec![points])), false)
            }
            (other, None) => Err(format!(
                "{} numbers after the class, expected 4, or pairs of an outline; keypoints are read \
                 where data.yaml has `kpt_shape`",
                other.len()
            )),
        }
    }

    fn class(&self, text: &str) -> Result<String, String> {
        let number = whole_number(text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            format!("class {shown:?} is no whole number from 0")
        })?;
        let named = self.names.len();
        let name = self.names.get(number);
        name.cloned().ok_or_else(|| format!("class {number}, but data.yaml names {named}"))
    }
}

/// Returns the box around points.
fn around(points: &[f64]) -> Xywh<f64> {
    let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for point in points.as_chunks::<2>().0 {
        for axis in 0..2 {
            low[axis] = low[axis].min(point[axis]);
            high[axis] = high[axis].max(point[axis]);
        }
    }
    Xywh { x: low[0], y: low[1], w: high[0] - low[0], h: high[1] - low[1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_poses_are_boxes_with_keypoints() {
        let names = ["face".to_owned(), "hand".to_owned()];
        let size = ImageSize::new(100, 200);
        let line = |numbers: usize, keypoints| {
            let rest = " 0.25".repeat(numbers);
            let rules = LineRules { names: &names, keypoints };
            let read = rules.parse(&format!("1.0 0.5 0.5 0.5 0.2{rest}"), size);
            read.map(|line| {
                (line.object.bbox.to_array(), line.keypoints, line.object.segmentation.is_some())
            })
        };
        let bbox = [50.0, 40.0, 100.0, 20.0];
        for (numbers, shape) in
            [(10, [5, 2]), (12, [4, 3]), (51, [17, 3]), (34, [17, 2]), (2, [1, 2])]
        {
            assert_eq!(line(numbers, Some(shape)), Ok((bbox, true, false)), "{shape:?}");
            assert_eq!(line(0, Some(shape)), Ok((bbox, false, false)));
            assert!(line(numbers + 1, Some(shape)).unwrap_err().contains("kpt_shape"));
        }
        assert!(line(10, None).unwrap().2 && line(2, None).unwrap().2);
        assert!(line(51, None).unwrap_err().contains("where data.yaml has `kpt_shape`"));
    }
}
