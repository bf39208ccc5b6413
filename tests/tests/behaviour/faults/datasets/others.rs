//! KITTI, YOLO and VOC.

use super::{Case, check_all};
use crate::support::images::{picture, png};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let picture = png(picture(2, 60, 40));
    let mut kitti = |name: &str, label: &[u8], code, message| {
        let files = vec![
            ("image_2/1.png", picture.clone()),
            ("label_2/1.txt", label.to_vec()),
            ("image_2/2.png", picture.clone()),
            ("label_2/2.txt", CAR.as_bytes().to_vec()),
        ];
        cases.push(Case { name: format!("kitti: {name}"), files, path: ".", code, message });
    };
    kitti("good", CAR.as_bytes(), 0, "2 images, 2 objects");
    kitti("empty label", b"", 0, "image without objects");
    kitti("few columns", b"Car 0 0\n", 1, "expected 15 columns");
    kitti(
        "words for numbers",
        CAR.replace(" 5.00 5.00", " left 5.00").as_bytes(),
        1,
        "columns 5 to 8",
    );
    kitti("NaN", CAR.replace(" 5.00 5.00", " nan 5.00").as_bytes(), 1, "not finite");
    kitti(
        "corners the wrong way",
        CAR.replace("25.00", "1.00").as_bytes(),
        1,
        "box of negative size",
    );
    kitti(
        "far away",
        CAR.replace("5.00", "500.00").replace("2500.00", "900.00").as_bytes(),
        1,
        "box",
    );
    kitti("not text", b"\xff\xfe\0\0", 3, "UTF-8");
    kitti(
        "a region to ignore",
        format!("{}{CAR}", CAR.replace("Car", "DontCare")).as_bytes(),
        0,
        "region to be ignored",
    );
    kitti("a long line", "9".repeat(1 << 20).as_bytes(), 1, "expected 15 columns");

    let mut yolo = |name: &str, yaml: &str, label: &[u8], code, message| {
        let files = vec![
            ("data.yaml", yaml.as_bytes().to_vec()),
            ("images/train/1.png", picture.clone()),
            ("labels/train/1.txt", label.to_vec()),
        ];
        cases.push(Case { name: format!("yolo: {name}"), files, path: ".", code, message });
    };
    let good = b"0 0.5 0.5 0.2 0.2\n";
    yolo("good", YAML, good, 0, "1 image, 1 object");
    yolo("names by number", "train: images/train\nnames: {0: cat, 1: dog}\n", good, 0, "1 object");
    yolo("no names", "train: images/train\n", good, 3, "names");
    yolo("broken yaml", "train: [images\nnames: [a\n", good, 3, "data.yaml:");
    yolo("no train", "names: [cat]\n", good, 3, "train");
    yolo("missing folder", "train: images/nowhere\nnames: [cat]\n", good, 3, "nowhere");
    yolo("out of the folder", "train: ../..\nnames: [cat]\n", good, 3, "..");
    yolo("absolute", "train: /etc\nnames: [cat]\n", good, 3, "/etc");
    yolo("an alias bomb", &yaml_bomb(), good, 3, "data.yaml");
    yolo("deep yaml", &format!("names: {}", "[".repeat(100_000)), good, 3, "data.yaml");
    yolo("an unknown class", YAML, b"7 0.5 0.5 0.2 0.2\n", 1, "1.txt:1");
    yolo("a negative class", YAML, b"-1 0.5 0.5 0.2 0.2\n", 1, "1.txt:1");
    yolo("four numbers", YAML, b"0 0.5 0.5 0.2\n", 1, "1.txt:1");
    yolo("a word", YAML, b"0 0.5 x 0.2 0.2\n", 1, "1.txt:1");
    yolo("NaN", YAML, b"0 nan 0.5 0.2 0.2\n", 1, "not finite");
    yolo("no width", YAML, b"0 0.5 0.5 0 0.2\n", 1, "box without area");
    yolo("in pixels", YAML, b"0 500 300 200 200\n", 1, "box outside of its image");

    let mut voc = |name: &str, xml: String, code, message| {
        let files =
            vec![("JPEGImages/1.png", picture.clone()), ("Annotations/1.xml", xml.into_bytes())];
        cases.push(Case { name: format!("voc: {name}"), files, path: ".", code, message });
    };
    let xml = |from: &str, to: &str| VOC.replace(from, to);
    voc("good", VOC.to_owned(), 0, "1 image, 1 object");
    voc("cut", VOC[..VOC.len() / 2].to_owned(), 3, "1.xml:");
    voc("not xml", "hello".to_owned(), 3, "1.xml:");
    voc("empty", String::new(), 3, "1.xml:");
    voc("no box", xml("bndbox", "box"), 1, "bndbox");
    voc("a word", xml("<xmin>5</xmin>", "<xmin>left</xmin>"), 1, "xmin");
    voc("no corner", xml("<ymax>25</ymax>", ""), 1, "ymax");
    voc("NaN", xml("<xmin>5</xmin>", "<xmin>NaN</xmin>"), 1, "not finite");
    voc("no class", xml("<name>cat</name>", ""), 1, "name");
    voc(
        "corners the wrong way",
        xml("<xmax>25</xmax>", "<xmax>2</xmax>"),
        1,
        "box of negative size",
    );
    voc("a path", xml("1.png", "../../etc/passwd"), 1, "leads out of the data set");
    // VOC names images like their XML files.
    voc("another name", xml("1.png", "2.png"), 0, "image found by the name of its XML file");
    voc("deep", "<a>".repeat(100_000), 3, "1.xml");
    voc("an entity bomb", xml_bomb(), 3, "1.xml");
    cases
}

const CAR: &str = "Car 0.00 0 0.00 5.00 5.00 25.00 25.00 0 0 0 0 0 0 0\n";
const YAML: &str = "train: images/train\nnames: [cat, dog]\n";
const VOC: &str = "<annotation><filename>1.png</filename>\
    <size><width>60</width><height>40</height><depth>3</depth></size>\
    <object><name>cat</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>25</xmax><ymax>25</ymax>\
    </bndbox></object></annotation>";

/// Writes nine levels of nine aliases each.
fn yaml_bomb() -> String {
    let levels =
        (1..9).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
    format!("a0: &a0 [x, x]\n{}names: *a8\ntrain: images/train\n", levels.collect::<String>())
}

/// Writes nine levels of ten entities each.
fn xml_bomb() -> String {
    let levels =
        (1..9).map(|n| format!("<!ENTITY a{n} \"{}\">", format!("&a{};", n - 1).repeat(10)));
    format!(
        "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY a0 \"xxxxxxxxxx\">{}]><annotation><filename>&a8;</filename></annotation>",
        levels.collect::<String>()
    )
}

#[test]
fn broken_files_of_other_formats_are_refused_or_counted() {
    check_all(&cases());
}
