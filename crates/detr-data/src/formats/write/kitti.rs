//! KITTI's object labels. What KITTI knows of an object in space is written as 0.

use std::fmt::Write;
use std::path::Path;

use super::files::{Job, has_own_area, write_each};
use super::loss::{Loss, LossReport};
use super::names;
use super::options::WriteOptions;
use crate::dataset::Dataset;
use crate::formats::{DatasetError, Format};

pub(super) fn write(
    dataset: &Dataset,
    folder: &Path,
    options: &WriteOptions<'_>,
) -> Result<LossReport, DatasetError> {
    let mut report = LossReport::new(Format::Kitti, dataset);
    report.lose_ids(dataset);
    // Columns are separated by spaces, and `DontCare` has a meaning.
    let classes = names::class_names(dataset, &mut report, |name| {
        let joined = name.split_whitespace().collect::<Vec<_>>().join("_");
        let reserved = joined.is_empty()
            || joined.eq_ignore_ascii_case("DontCare")
            || joined.parse::<f64>().is_ok();
        if reserved { format!("class_{joined}") } else { joined }
    });
    names::lose_categories(dataset, &classes, &mut report);
    report.lose(Loss::Sizes, dataset.images.iter().filter(|image| image.size.is_some()).count());
    let files = names::file_names(dataset, false, &mut report);
    let base = folder.join(options.split);
    let mut file = files.iter();
    write_each(dataset, options, |image| {
        let name = file.next().map_or("", String::as_str);
        let mut text = String::new();
        for object in &image.objects {
            let [x1, y1, x2, y2] = object.bbox.to_xyxy().to_array();
            let class = classes.get(&object.category_id).map_or("DontCare", String::as_str);
            report.lose(Loss::Outlines, usize::from(object.segmentation.is_some()));
            report.lose(Loss::Areas, usize::from(has_own_area(object)));
            report.lose(Loss::CrowdClasses, usize::from(object.iscrowd));
            report.objects += 1;
            // Writing to a string cannot fail.
            let _ = if object.iscrowd {
                let unknown = "-1 -1 -1 -1000 -1000 -1000 -10";
                writeln!(text, "DontCare -1 -1 -10 {x1} {y1} {x2} {y2} {unknown}")
            } else {
                writeln!(text, "{class} 0 0 0 {x1} {y1} {x2} {y2} 0 0 0 0 0 0 0")
            };
        }
        let label = base.join("label_2").join(names::with_extension(name, "txt"));
        Ok(Job { image: base.join("image_2").join(name), label: Some((label, text)) })
    })?;
    Ok(report)
}
