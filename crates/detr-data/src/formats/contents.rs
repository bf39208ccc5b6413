//! The kind of a JSON or YAML file by its contents: other tools leave files beside many data sets, such as a `dvc.yaml` or a
//! `label_map.json`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::{splits, text};

/// The kind of a JSON file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonKind {
    /// An object with the list `images`, as COCO has it.
    Coco,
    /// The annotations of one image as labelme writes them.
    Labelme,
    /// A list of images with boxes around their centres, as `CreateML` has it.
    CreateMl,
    /// Something else.
    Other,
}

/// Bytes of a JSON file that are looked at. A larger one without other signs is taken for annotations.
const MOST: u64 = 1 << 28;

/// The reason to refuse files of labelme, and what to do.
pub(super) const LABELME: &str = "one image's annotations by labelme, whose JSON is not read\n\
     hint: make one COCO file of the folder with labelme's `labelme2coco.py`, and give that";

/// The reason to refuse files of `CreateML`, and what to do.
pub(super) const CREATE_ML: &str = "annotations of CreateML, which are not read\n\
     hint: export the data set as COCO, YOLO or Pascal VOC instead";

/// Bytes of a list that are looked at.
const LIST: usize = 1 << 16;

/// Returns the kind of a JSON file by the names of its outermost fields.
pub(super) fn json(path: &Path) -> JsonKind {
    let metadata = path.metadata();
    if metadata.as_ref().is_ok_and(|metadata| !metadata.is_file()) {
        return JsonKind::Other;
    }
    match File::open(path) {
        Ok(file) => json_of(BufReader::with_capacity(1 << 16, file.take(MOST))),
        // Reading it says why it cannot be read.
        Err(_) => JsonKind::Coco,
    }
}

/// Returns the kind of a text of JSON.
pub(super) fn json_of(input: impl BufRead) -> JsonKind {
    let mut bytes = input.bytes().map_while(Result::ok);
    let (mut depth, mut key) = (0_usize, Vec::new());
    let (mut is_key, mut is_images, mut shapes, mut image_path) = (false, false, false, false);
    let mut looked_at = 0_u64;
    while let Some(byte) = bytes.next() {
        looked_at += 1;
        match byte {
            b'{' | b'[' => {
                if depth == 0 && byte == b'[' {
                    return list(bytes);
                }
                if depth == 1 && is_images {
                    return if byte == b'[' { JsonKind::Coco } else { JsonKind::Other };
                }
                depth += 1;
                is_key = depth == 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => is_key = true,
            b'"' => {
                key.clear();
                let mut escaped = false;
                for byte in bytes.by_ref() {
                    looked_at += 1;
                    match byte {
                        b'"' if !escaped => break,
                        b'\\' => escaped = !escaped,
                        _ => escaped = false,
                    }
                    if key.len() < 32 {
                        key.push(byte);
                    }
                }
                if depth == 1 && is_key {
                    is_key = false;
                    is_images = key == b"images";
                    shapes |= key == b"shapes";
                    image_path |= key == b"imagePath";
                    if shapes && image_path {
                        return JsonKind::Labelme;
                    }
                }
            }
            // Only white space and the byte order mark may stand before the object.
            _ if depth == 0 && !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(&byte) => {
                return JsonKind::Other;
            }
            _ => {}
        }
    }
    if looked_at >= MOST { JsonKind::Coco } else { JsonKind::Other }
}

/// Returns the kind of a list by the names of fields near its beginning.
fn list(bytes: impl Iterator<Item = u8>) -> JsonKind {
    let near: Vec<u8> = bytes.take(LIST).collect();
    let near = String::from_utf8_lossy(&near);
    let has = |name: &str| near.contains(&format!("\"{name}\""));
    if has("annotations") && has("coordinates") { JsonKind::CreateMl } else { JsonKind::Other }
}

/// Returns whether a YAML file names classes or splits, as YOLO's does. Only its outermost lines are looked at, so
/// that a broken file is told as well.
pub(super) fn is_yolo(path: &Path) -> bool {
    let Ok(text) = text::read(path, 1 << 20) else { return false };
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let line = line.trim_start_matches(['{', '"', '\'']);
        let Some((key, value)) = line.split_once(':') else { continue };
        let key = key.trim_end_matches(['"', '\'']);
        let value = value.split(" #").next().unwrap_or_default().trim();
        if key == "names" {
            return true;
        }
        // Settings of other programs have tables or numbers under these names.
        let mut is_list = || lines.peek().is_some_and(|next| next.trim_start().starts_with("- "));
        let is_place = |value: &str| {
            value.parse::<f64>().is_err() && !["true", "false", "null", "~"].contains(&value)
        };
        if splits::is_usual(key) && if value.is_empty() { is_list() } else { is_place(value) } {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_its_outermost_fields() {
        for (text, kind) in [
            (r#"{"info": {"images": 3}, "images": []}"#, JsonKind::Coco),
            ("\u{feff} {\"annotations\": [{\"a\": \"}\"}], \"images\": [", JsonKind::Coco),
            (r#"{"shapes": [{"label": "a"}], "imagePath": "a.jpg"}"#, JsonKind::Labelme),
            (r#"{"categories": [{"images": []}]}"#, JsonKind::Other),
            (r#"{"name": "images", "list": []}"#, JsonKind::Other),
            (r#"{"images": 3}"#, JsonKind::Other),
            (r#"[{"images": []}]"#, JsonKind::Other),
            (
                r#"[{"image": "a", "annotations": [{"label": "b", "coordinates": {"x": 1}}]}]"#,
                JsonKind::CreateMl,
            ),
            ("", JsonKind::Other),
            ("hello", JsonKind::Other),
        ] {
            assert_eq!(json_of(text.as_bytes()), kind, "{text}");
        }
    }

    #[test]
    fn yaml_is_told_by_names_and_splits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        for (text, expected) in [
            ("names: [cat", true),
            ("'names':\n  0: cat\n", true),
            ("train: images/train # here\n", true),
            ("train:\n  - a\n  - b\n", true),
            ("stages:\n  names: 3\n", false),
            ("train:\n  epochs: 3\n", false),
            ("test: true\n", false),
            ("", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(is_yolo(&path), expected, "{text}");
        }
    }
}
