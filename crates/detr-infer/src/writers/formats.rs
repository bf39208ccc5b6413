//! One detection in each format. Pure text; what lies around it is up to the writer.

use std::borrow::Cow;
use std::fmt::Write;

use detr_types::{CategoryId, ClassTable, Detection, ImageSize, Rle, Xyxy};
use serde::Serialize;

use super::image_result::ImageResult;

/// First line of a table.
pub(super) const CSV_HEADER: &str = "file,width,height,label,category_id,name,score,x1,y1,x2,y2\n";

/// An entry of COCO results. Only `file_name` goes beyond what pycocotools asks for.
#[derive(Serialize)]
struct CocoObject<'a> {
    image_id: u64,
    category_id: CategoryId,
    bbox: [f32; 4],
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    segmentation: Option<&'a Rle>,
    file_name: &'a str,
}

/// Writes a COCO result, whose box is neither clipped nor rounded, as in the results of the DETR
/// reference.
pub(super) fn coco_object(file: &str, image_id: u64, detection: &Detection) -> String {
    let b = detection.bbox.to_xywh();
    let object = CocoObject {
        image_id,
        category_id: detection.category_id,
        bbox: [b.x, b.y, b.w, b.h],
        score: detection.score,
        segmentation: detection.mask.as_ref(),
        file_name: file,
    };
    // Numbers and a string cannot fail to serialise.
    serde_json::to_string(&object).unwrap_or_default()
}

/// Writes a row of the table; the box is not clipped.
pub(super) fn csv_row(out: &mut String, result: &ImageResult, detection: &Detection) {
    let Detection { label, category_id, name, score, bbox, mask: _ } = detection;
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{},{},{},{label},{category_id},{},{score},{},{},{},{}",
        quoted(&result.file),
        result.size.width,
        result.size.height,
        quoted(name),
        bbox.x1,
        bbox.y1,
        bbox.x2,
        bbox.y2,
    );
}

/// Quotes a field as RFC 4180 wants it.
fn quoted(field: &str) -> Cow<'_, str> {
    let spaced = field.starts_with(' ') || field.ends_with(' ');
    if spaced || field.contains(['"', ',', '\r', '\n']) {
        Cow::Owned(format!("\"{}\"", field.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(field)
    }
}

/// Returns the part of a box inside the image. Readers of label files refuse coordinates outside
/// it.
#[allow(clippy::cast_precision_loss)] // image sides are far below 2^24
pub(super) fn clipped(bbox: Xyxy, size: ImageSize) -> Option<Xyxy> {
    let (w, h) = (size.width as f32, size.height as f32);
    let inside = Xyxy {
        x1: bbox.x1.clamp(0.0, w),
        y1: bbox.y1.clamp(0.0, h),
        x2: bbox.x2.clamp(0.0, w),
        y2: bbox.y2.clamp(0.0, h),
    };
    (inside.area() > 0.0).then_some(inside)
}

/// Writes the 16 columns of a KITTI result: what this model does not predict (truncation,
/// occlusion, angles, 3D size and place) is 0. Columns are split at spaces, so names get
/// underscores.
pub(super) fn kitti_line(out: &mut String, detection: &Detection, bbox: Xyxy) {
    let name = detection.name.replace(char::is_whitespace, "_");
    let name = if name.is_empty() { "_" } else { &name };
    let Xyxy { x1, y1, x2, y2 } = bbox;
    let zeros = "0.00 ".repeat(7);
    let _ = writeln!(
        out,
        "{name} 0.00 0 0.00 {x1:.2} {y1:.2} {x2:.2} {y2:.2} {zeros}{:.6}",
        detection.score,
    );
}

/// Writes label, centre and size relative to the image, and score.
#[allow(clippy::cast_precision_loss)] // image sides are far below 2^24
pub(super) fn yolo_line(out: &mut String, detection: &Detection, bbox: Xyxy, size: ImageSize) {
    let b = bbox.to_cxcywh();
    let (w, h) = (size.width as f32, size.height as f32);
    let _ = writeln!(
        out,
        "{} {:.6} {:.6} {:.6} {:.6} {:.6}",
        detection.label,
        b.cx / w,
        b.cy / h,
        b.w / w,
        b.h / h,
        detection.score,
    );
}

/// `classes.txt`: the name of label n in line n, counted from 0. Holes of the table keep their
/// line, or the names below would move.
pub(super) fn yolo_classes(classes: &ClassTable) -> String {
    let mut text = String::new();
    for label in 0..classes.len() {
        let _ = match classes.get(label) {
            // A line break inside a name would move the names below, too.
            Some(class) => writeln!(text, "{}", class.name.replace(char::is_control, " ")),
            None => writeln!(text, "unused-{label}"),
        };
    }
    text
}
