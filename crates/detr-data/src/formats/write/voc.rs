//! Pascal VOC. Corners count from 1 and include the last pixel, in full precision rather than whole
//! numbers; the file says so in `<source>`.

use std::fmt::Write;
use std::path::Path;

use super::files::{Job, has_own_area, size_of, write_each, write_text};
use super::loss::{Loss, LossReport};
use super::names;
use super::options::WriteOptions;
use crate::dataset::Dataset;
use crate::formats::voc::ONE_BASED;
use crate::formats::{DatasetError, Format};

pub(super) fn write(
    dataset: &Dataset,
    folder: &Path,
    options: &WriteOptions<'_>,
) -> Result<LossReport, DatasetError> {
    let mut report = LossReport::new(Format::Voc, dataset);
    report.lose_ids(dataset);
    // Readers trim what stands between tags.
    let classes = names::class_names(dataset, &mut report, |name| {
        let clean: String = name.chars().filter(|c| !c.is_control()).collect();
        if clean.trim().is_empty() { "class".to_owned() } else { clean.trim().to_owned() }
    });
    names::lose_categories(dataset, &classes, &mut report);
    let files = names::file_names(dataset, true, &mut report);
    let (mut file, mut list) = (files.iter(), String::new());
    write_each(dataset, options, |image| {
        let name = file.next().map_or("", String::as_str);
        let size = size_of(image, options)?;
        let mut text = format!(
            "<annotation>\n  <filename>{}</filename>\n  <source>\n    <annotation>{ONE_BASED}</annotation>\n  \
             </source>\n  <size>\n    <width>{}</width>\n    <height>{}</height>\n    <depth>3</depth>\n  \
             </size>\n  <segmented>0</segmented>\n",
            escape(name),
            size.width,
            size.height,
        );
        for object in &image.objects {
            let [x1, y1, x2, y2] = object.bbox.to_xyxy().to_array();
            let Some(class) = classes.get(&object.category_id) else {
                report.lose(Loss::Boxes, 1);
                continue;
            };
            report.lose(Loss::Outlines, usize::from(object.segmentation.is_some()));
            report.lose(Loss::Areas, usize::from(has_own_area(object)));
            report.objects += 1;
            let _ = write!(
                text,
                "  <object>\n    <name>{}</name>\n    <pose>Unspecified</pose>\n    <truncated>0</truncated>\n    \
                 <difficult>{}</difficult>\n    <bndbox>\n      <xmin>{}</xmin>\n      <ymin>{}</ymin>\n      \
                 <xmax>{x2}</xmax>\n      <ymax>{y2}</ymax>\n    </bndbox>\n  </object>\n",
                escape(class),
                u8::from(object.iscrowd),
                x1 + 1.0,
                y1 + 1.0,
            );
        }
        text += "</annotation>\n";
        let label = names::with_extension(name, "xml");
        let stem = label.trim_end_matches(".xml");
        let _ = writeln!(list, "{stem}");
        let label = folder.join("Annotations").join(&label);
        Ok(Job { image: folder.join("JPEGImages").join(name), label: Some((label, text)) })
    })?;
    write_text(&folder.join("ImageSets/Main").join(format!("{}.txt", options.split)), &list)?;
    Ok(report)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
