//! Finds out which format a path holds, and where in it the annotations are.

use std::path::{Path, PathBuf};

use super::contents::{self, JsonKind};
use super::{DatasetError, Format, ReadOptions, files, splits, text};

/// The format and the place of a data set that was detected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetLocation {
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
pub fn detect(path: &Path, options: &ReadOptions) -> Result<DatasetLocation, DatasetError> {
    let metadata = path.metadata().map_err(DatasetError::io(path))?;
    if metadata.is_file() {
        return detect_file(path, options);
    }
    if !metadata.is_dir() {
        return Err(DatasetError::NotARegularFile { path: path.to_owned() });
    }
    let wants = |format| options.format.is_none_or(|wanted| wanted == format);
    let mut strangers = Vec::new();
    if wants(Format::Yolo)
        && let Some(file) = yaml(path, options, &mut strangers)?
    {
        return Ok(DatasetLocation { format: Format::Yolo, path: file });
    }
    let coco = wants(Format::Coco) || wants(Format::CocoPanoptic);
    let json = if coco { json(path, options, &mut strangers)? } else { Json::None };
    if let Json::One(file) = json {
        let format = options.format.unwrap_or(Format::Coco);
        return Ok(DatasetLocation { format, path: file });
    }
    let folder = |format| Ok(DatasetLocation { format, path: path.to_owned() });
    if wants(Format::Voc) && super::voc_files::are_in(path)? {
        return folder(Format::Voc);
    }
    if wants(Format::Kitti) && super::kitti::are_in(path, options) {
        return folder(Format::Kitti);
    }
    if wants(Format::Yolo)
        && let Some(file) = super::yolo_files::outline_file(path)?
    {
        return Ok(DatasetLocation { format: Format::Yolo, path: file });
    }
    if let (Json::OtherSplits(found), Some(split)) = (&json, &options.split) {
        return Err(splits::refuse(path, split, found));
    }
    Err(DatasetError::layout(path, unknown(path, &strangers)?))
}

fn detect_file(path: &Path, options: &ReadOptions) -> Result<DatasetLocation, DatasetError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let format = match (options.format, extension.as_str()) {
        (Some(format @ (Format::Coco | Format::CocoPanoptic | Format::Yolo)), _) => format,
        (Some(format), _) => {
            let reason = format!("is a file; {format} is a folder\nhint: give the folder");
            return Err(DatasetError::layout(path, reason));
        }
        (None, "json") => Format::Coco,
        (None, "yaml" | "yml") => Format::Yolo,
        (None, _) if super::yolo_files::is_outline(path) => Format::Yolo,
        (None, _) => {
            let reason = "is no file of annotations that is known by itself\nhint: give a COCO \
                          `.json`, a YOLO `data.yaml`, or the folder of a KITTI or VOC data set";
            return Err(DatasetError::layout(path, reason));
        }
    };
    // A file of COCO has no splits; it may be one.
    if let Some(split) = &options.split
        && matches!(format, Format::Coco | Format::CocoPanoptic)
        && !is_of_split(path, split)
    {
        let reason = format!(
            "is one file, which has no splits, and its name does not say `{split}`\n\
             hint: leave the split out, or give the split's own file"
        );
        return Err(DatasetError::layout(path, reason));
    }
    Ok(DatasetLocation { format, path: path.to_owned() })
}

/// `data.yaml`, or the only file that names classes or splits. Others are strangers, such as `dvc.yaml`.
fn yaml(
    folder: &Path,
    options: &ReadOptions,
    strangers: &mut Vec<String>,
) -> Result<Option<PathBuf>, DatasetError> {
    let found = files::here(folder, &["yaml", "yml"])?;
    let named = found.iter().find(|file| file.file_stem().is_some_and(|stem| stem == "data"));
    if let Some(file) = named {
        return Ok(Some(file.clone()));
    }
    let (mut known, others): (Vec<PathBuf>, Vec<PathBuf>) =
        found.into_iter().partition(|file| contents::is_yolo(file));
    if known.is_empty() && options.format == Some(Format::Yolo) {
        known.clone_from(&others);
    }
    strangers.extend(others.iter().map(|file| files::relative(file, folder)));
    let dataset = known.iter().find(|file| file.file_stem().is_some_and(|stem| stem == "dataset"));
    match (dataset, known.as_slice()) {
        (Some(file), _) | (None, [file]) => Ok(Some(file.clone())),
        (None, []) => Ok(None),
        (None, several) => {
            let names: Vec<String> =
                several.iter().map(|file| files::relative(file, folder)).collect();
            let reason = format!(
                "holds several files of YOLO: {}\nhint: give one of them",
                files::listed(&names)
            );
            Err(DatasetError::layout(folder, reason))
        }
    }
}

/// The file of COCO annotations in a folder.
enum Json {
    /// The one that is meant.
    One(PathBuf),
    /// There are some, but none of the split; the names of theirs.
    OtherSplits(Vec<String>),
    /// There is none.
    None,
}

/// Finds the file of COCO annotations: below `annotations`, in the folder, or in that of a split. Files without
/// `images` are strangers.
fn json(
    folder: &Path,
    options: &ReadOptions,
    strangers: &mut Vec<String>,
) -> Result<Json, DatasetError> {
    let mut found = Vec::new();
    let annotations = files::folder(folder, &["annotations", "annotation"]);
    for place in annotations.iter().map(PathBuf::as_path).chain([folder]) {
        found.extend(annotation_files(place, folder, options, strangers)?);
    }
    if found.is_empty() || options.split.is_some() {
        for (name, place) in files::folders(folder) {
            let is_wanted =
                options.split.as_ref().is_some_and(|split| splits::is_same(&name, split));
            if splits::is_usual(&name) || is_wanted {
                found.extend(annotation_files(&place, folder, options, strangers)?);
            }
        }
    }
    if let Some(split) = &options.split {
        let all = found.clone();
        // The very name goes before another name of the split.
        for name in splits::names(split) {
            found = all.iter().filter(|file| is_of_name(file, &name)).cloned().collect();
            if !found.is_empty() {
                break;
            }
        }
        if found.is_empty() && !all.is_empty() {
            let mut names: Vec<String> = all.iter().map(|file| split_of(file, folder)).collect();
            names.sort();
            names.dedup();
            return Ok(Json::OtherSplits(names));
        }
    }
    match found.as_slice() {
        [] => Ok(Json::None),
        [file] => Ok(Json::One(file.clone())),
        several => {
            // If there are several files, those named like COCO's own are taken.
            let named = |file: &&PathBuf| {
                file.file_name().is_some_and(|n| n.to_string_lossy().starts_with("instances_"))
            };
            let instances: Vec<&PathBuf> = several.iter().filter(named).collect();
            if let [file] = instances.as_slice() {
                return Ok(Json::One((*file).clone()));
            }
            let names: Vec<String> = several.iter().map(|f| f.display().to_string()).collect();
            let reason = format!(
                "holds several files of annotations: {}\nhint: give one of them, or the split",
                files::listed(&names)
            );
            Err(DatasetError::layout(folder, reason))
        }
    }
}

/// Lists the files of a folder that may hold COCO's annotations of objects, by their names and
/// contents.
fn annotation_files(
    folder: &Path,
    root: &Path,
    options: &ReadOptions,
    strangers: &mut Vec<String>,
) -> Result<Vec<PathBuf>, DatasetError> {
    let mut found = files::here(folder, &["json"])?;
    let panoptic = options.format == Some(Format::CocoPanoptic);
    found.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let others = ["captions_", "person_keypoints_", "stuff_", "image_info_"];
        !others.iter().any(|other| name.starts_with(other))
            && name.starts_with("panoptic_") == panoptic
    });
    let (known, others): (Vec<PathBuf>, Vec<PathBuf>) =
        found.into_iter().partition(|file| contents::json(file) == JsonKind::Coco);
    if known.is_empty() && options.format.is_some() && others.len() == 1 {
        return Ok(others);
    }
    strangers.extend(others.iter().map(|file| files::relative(file, root)));
    Ok(known)
}

/// Returns the split that a file is of, by the name of its folder or its own, or else its own name.
fn split_of(file: &Path, root: &Path) -> String {
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if splits::is_usual(&folder) {
        return folder.into_owned();
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let word = words(&stem).find(|word| splits::is_usual(word.trim_end_matches(char::is_numeric)));
    word.map_or_else(|| files::relative(file, root), str::to_owned)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(['_', '-', '.', ' '])
}

/// Returns whether a file is of a split, under any of the split's names.
fn is_of_split(file: &Path, split: &str) -> bool {
    splits::names(split).iter().any(|name| is_of_name(file, name))
}

/// Returns whether a name has the split as one of its words: `instances_val2017.json` is of `val`.
fn is_of_name(file: &Path, split: &str) -> bool {
    let split = split.to_lowercase();
    let is_split = |text: &str| {
        words(text).any(|word| {
            word.strip_prefix(&split).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
        })
    };
    let lower = |name: &std::ffi::OsStr| name.to_string_lossy().to_lowercase();
    let stem = lower(file.file_stem().unwrap_or_default());
    let folder = std::path::absolute(file).unwrap_or_default();
    let folder = lower(folder.parent().and_then(Path::file_name).unwrap_or_default());
    is_split(&stem) || stem == split || folder == split
}

fn unknown(folder: &Path, strangers: &[String]) -> Result<String, DatasetError> {
    // YOLO without data.yaml is common enough to be named.
    let labels = files::below(&folder.join("labels"), &["txt"])?;
    let is_number =
        |line: &str| line.split_whitespace().next().is_some_and(|w| w.parse::<f64>().is_ok());
    if let Some(first) = labels.first()
        && text::read(first, 1 << 20).is_ok_and(|text| text.lines().next().is_some_and(is_number))
    {
        return Ok("looks like YOLO, but has no data.yaml with the names of the classes\n\
                   hint: write one with `names:`, `train:` and `val:`, or a classes.txt with a name per line"
            .to_owned());
    }
    let of_kitti = super::kitti::splits(folder);
    if of_kitti.len() > 1 {
        let splits = files::listed(&of_kitti);
        return Ok(format!("holds several splits of KITTI: {splits}\nhint: give the split"));
    }
    for (kind, reason) in
        [(JsonKind::Labelme, contents::LABELME), (JsonKind::CreateMl, contents::CREATE_ML)]
    {
        let of_kind = |name: &&String| contents::json(&folder.join(name)) == kind;
        let names: Vec<&String> = strangers.iter().filter(of_kind).collect();
        if !names.is_empty() {
            let names = files::listed(&names);
            return Ok(format!("holds JSON files ({names}) of {reason}"));
        }
    }
    if let Some(reason) = super::kitti::almost(folder) {
        return Ok(reason);
    }
    let passed_over = match strangers {
        [] => String::new(),
        _ => format!("; passed over, for they hold no data set: {}", files::listed(strangers)),
    };
    let hint = match strangers.len() {
        0 => "give the file of annotations itself, or the format and the split",
        1 => "give the file of annotations itself, or its format",
        _ => "give one of them, or the split, or the format",
    };
    Ok(format!(
        "holds no data set that is known; looked for data.yaml (YOLO), *.json and annotations/*.json with `images` \
         (COCO), Annotations/*.xml (VOC), label_2/*.txt and labels/*.txt (KITTI){passed_over}\nhint: {hint}"
    ))
}
