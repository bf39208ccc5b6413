//! Finds out which format a path holds, and where in it the annotations are.

use std::path::{Path, PathBuf};

use super::{DatasetError, Format, ReadOptions, files, text};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The format; COCO panoptic is told from COCO by the contents of the file.
    pub format: Format,
    /// The file of COCO and YOLO, the folder of the others.
    pub path: PathBuf,
}

/// Looks at a path. [`ReadOptions::format`] narrows the search, [`ReadOptions::split`] chooses among
/// files.
///
/// # Errors
/// Nothing known, or several files that could be meant.
pub fn detect(path: &Path, options: &ReadOptions) -> Result<Detected, DatasetError> {
    let metadata = path.metadata().map_err(DatasetError::io(path))?;
    if metadata.is_file() {
        return detect_file(path, options);
    }
    if !metadata.is_dir() {
        return Err(DatasetError::NotARegularFile { path: path.to_owned() });
    }
    let wants = |format| options.format.is_none_or(|wanted| wanted == format);
    if wants(Format::Yolo)
        && let Some(file) = yaml(path)?
    {
        return Ok(Detected { format: Format::Yolo, path: file });
    }
    if (wants(Format::Coco) || wants(Format::CocoPanoptic))
        && let Some(file) = json(path, options)?
    {
        let format = options.format.unwrap_or(Format::Coco);
        return Ok(Detected { format, path: file });
    }
    let folder = |format| Ok(Detected { format, path: path.to_owned() });
    if wants(Format::Voc) && super::voc::annotations(path, options)?.is_some() {
        return folder(Format::Voc);
    }
    if wants(Format::Kitti) && super::kitti::folders(path, options).is_some() {
        return folder(Format::Kitti);
    }
    Err(DatasetError::layout(path, unknown(path)?))
}

fn detect_file(path: &Path, options: &ReadOptions) -> Result<Detected, DatasetError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let format = match (options.format, extension.as_str()) {
        (Some(format @ (Format::Coco | Format::CocoPanoptic | Format::Yolo)), _) => format,
        (Some(format), _) => {
            let reason = format!("is a file; {format} is a folder\nhint: give the folder");
            return Err(DatasetError::layout(path, reason));
        }
        (None, "json") => Format::Coco,
        (None, "yaml" | "yml") => Format::Yolo,
        (None, _) => {
            let reason = "is no file of annotations that is known by itself\nhint: give a COCO \
                          `.json`, a YOLO `data.yaml`, or the folder of a KITTI or VOC data set";
            return Err(DatasetError::layout(path, reason));
        }
    };
    Ok(Detected { format, path: path.to_owned() })
}

/// `data.yaml`, or the only file of that kind.
fn yaml(folder: &Path) -> Result<Option<PathBuf>, DatasetError> {
    let found = files::here(folder, &["yaml", "yml"])?;
    let named = found.iter().find(|file| file.file_stem().is_some_and(|stem| stem == "data"));
    Ok(match (named, found.as_slice()) {
        (Some(file), _) | (None, [file]) => Some(file.clone()),
        _ => None,
    })
}

/// The file of COCO annotations: below `annotations`, in the folder, or in that of a split.
fn json(folder: &Path, options: &ReadOptions) -> Result<Option<PathBuf>, DatasetError> {
    let mut found = Vec::new();
    for sub in ["annotations", ""].into_iter().chain(options.split.as_deref()) {
        found.extend(files::here(&folder.join(sub), &["json"])?);
    }
    if found.is_empty() {
        for split in ["train", "valid", "val", "test"] {
            found.extend(files::here(&folder.join(split), &["json"])?);
        }
    }
    let panoptic = options.format == Some(Format::CocoPanoptic);
    found.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let others = ["captions_", "person_keypoints_", "stuff_", "image_info_"];
        !others.iter().any(|other| name.starts_with(other))
            && name.starts_with("panoptic_") == panoptic
    });
    if let Some(split) = &options.split {
        found.retain(|file| is_of_split(file, split));
    }
    match found.as_slice() {
        [] => Ok(None),
        [file] => Ok(Some(file.clone())),
        several => {
            // Of several, those named like COCO's own are meant.
            let named = |file: &&PathBuf| {
                file.file_name().is_some_and(|n| n.to_string_lossy().starts_with("instances_"))
            };
            let instances: Vec<&PathBuf> = several.iter().filter(named).collect();
            if let [file] = instances.as_slice() {
                return Ok(Some((*file).clone()));
            }
            let names: Vec<String> = several.iter().map(|f| f.display().to_string()).collect();
            let reason = format!(
                "holds several files of annotations: {}\nhint: give one of them, or the split",
                names.join(", ")
            );
            Err(DatasetError::layout(folder, reason))
        }
    }
}

/// Whether a name has the split as one of its words: `instances_val2017.json` is of `val`.
fn is_of_split(file: &Path, split: &str) -> bool {
    let is_split = |text: &str| {
        text.split(['_', '-', '.', ' ']).any(|word| {
            word == split
                || word
                    .strip_prefix(split)
                    .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
        })
    };
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default();
    is_split(&file.file_name().unwrap_or_default().to_string_lossy())
        || folder.to_string_lossy() == split
}

fn unknown(folder: &Path) -> Result<String, DatasetError> {
    // YOLO without data.yaml is common enough to be named.
    let labels = files::below(&folder.join("labels"), &["txt"])?;
    let is_number =
        |line: &str| line.split_whitespace().next().is_some_and(|w| w.parse::<f64>().is_ok());
    if let Some(first) = labels.first()
        && text::read(first, 1 << 20).is_ok_and(|text| text.lines().next().is_some_and(is_number))
    {
        return Ok("looks like YOLO, but has no data.yaml with the names of the classes\n\
                   hint: write one with `names:`, `train:` and `val:`"
            .to_owned());
    }
    let splits = super::kitti::splits(folder);
    if splits.len() > 1 {
        let splits = splits.join(", ");
        return Ok(format!("holds several splits of KITTI: {splits}\nhint: give the split"));
    }
    Ok("holds no data set that is known; looked for data.yaml (YOLO), *.json and \
        annotations/*.json (COCO), Annotations/*.xml (VOC), label_2/*.txt and labels/*.txt (KITTI)\n\
        hint: give the file of annotations itself, or the format and the split"
        .to_owned())
}
