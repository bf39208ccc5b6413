//! Weights files: damaged, hostile, or of another model.

mod deformable;

use serde_json::json;

use crate::support::images::truncated;
use crate::support::weights::{Safetensors, deflated_zeros, zip};
use crate::support::{detr, folder_with, golden};

use super::{check_refused, folder, with_model};

/// File name, bytes, and what the error says.
type Bad = (&'static str, Vec<u8>, &'static str);

fn read(file: &str) -> Vec<u8> {
    std::fs::read(golden(file)).unwrap()
}

pub(super) fn bad() -> Vec<Bad> {
    [safetensors(), pickles(), others(), deformable::bad()].concat()
}

fn safetensors() -> Vec<Bad> {
    let tiny = Safetensors::tiny();
    let bytes = tiny.bytes();
    let (name, inner) = ("class_embed.weight", "transformer.decoder.layers.1.linear2.weight");
    let long_header = [&u64::MAX.to_le_bytes(), &bytes[8..]].concat();
    let short_header = [&16_u64.to_le_bytes(), &bytes[8..]].concat();
    let mut no_json = bytes.clone();
    no_json[20] = 0;
    let range = tiny.range(name);
    let beyond = [range.start, tiny.data.len() + 1000];
    let deep = "[".repeat(200_000);
    let deep = [(deep.len() as u64 + 1).to_le_bytes().as_slice(), b"{", deep.as_bytes()].concat();
    let renamed = |from: &'static str, to: &'static str| {
        let rename = |name: &str| {
            name.strip_prefix(from)
                .map_or(Some(name.to_owned()), |rest| Some(format!("{to}{rest}")))
        };
        tiny.renamed(rename).bytes()
    };
    vec![
        ("cut-8.safetensors", bytes[..8].to_vec(), "neither a PyTorch"),
        ("cut-in-header.safetensors", bytes[..1000].to_vec(), "neither a PyTorch"),
        ("cut-50.safetensors", truncated(&bytes, 50), "damaged"),
        ("cut-1.safetensors", bytes[..bytes.len() - 1].to_vec(), "damaged"),
        ("trailing.safetensors", [bytes.as_slice(), b"x"].concat(), "damaged"),
        ("long-header.safetensors", long_header, "neither a PyTorch"),
        ("short-header.safetensors", short_header, "damaged"),
        ("no-json.safetensors", no_json, "damaged"),
        ("deep-json.safetensors", deep, "damaged"),
        (
            "beyond.safetensors",
            tiny.clone().with(name, "data_offsets", json!(beyond)).bytes(),
            "damaged",
        ),
        (
            "backwards.safetensors",
            tiny.clone().with(name, "data_offsets", json!([8, 4])).bytes(),
            "damaged",
        ),
        (
            "overlap.safetensors",
            tiny.clone().with(name, "data_offsets", json!([0, range.len()])).bytes(),
            "damaged",
        ),
        (
            "negative.safetensors",
            tiny.clone().with(name, "data_offsets", json!([-4, 0])).bytes(),
            "damaged",
        ),
        (
            "wrong-type.safetensors",
            tiny.clone().with(name, "dtype", json!("F64")).bytes(),
            "damaged",
        ),
        ("no-type.safetensors", tiny.clone().with(name, "dtype", json!("F31")).bytes(), "damaged"),
        ("other-type.safetensors", tiny.clone().with(name, "dtype", json!("I32")).bytes(), name),
        (
            "shape-size.safetensors",
            tiny.clone().with(name, "shape", json!([92, 33])).bytes(),
            "damaged",
        ),
        (
            "shape-overflow.safetensors",
            tiny.clone().with(name, "shape", json!([u64::MAX, u64::MAX])).bytes(),
            "damaged",
        ),
        (
            "turned.safetensors",
            tiny.clone().with(name, "shape", json!([32, 92])).bytes(),
            "hidden_dim is 92",
        ),
        (
            "turned-inside.safetensors",
            tiny.clone().with(inner, "shape", json!([64, 32])).bytes(),
            "transformer.decoder.layers.1.linear2.weight: the model has [32, 64], the file [64, 32]",
        ),
        (
            "no-entry.safetensors",
            tiny.clone().with(name, "shape", json!("wide")).bytes(),
            "damaged",
        ),
        ("empty-table.safetensors", tiny.renamed(|_| None).bytes(), "none of its 0 tensors"),
        (
            "unknown.safetensors",
            tiny.renamed(|name| Some(format!("x.{name}"))).bytes(),
            "none of its",
        ),
        (
            "missing.safetensors",
            tiny.renamed(|n| (!n.contains("linear1")).then(|| n.to_owned())).bytes(),
            "missing",
        ),
        (
            "extra.safetensors",
            renamed("class_embed.bias", "class_embed.offset"),
            "class_embed.offset",
        ),
        ("nan.safetensors", tiny.clone().with_value(name, f32::NAN).bytes(), "NaN or infinite"),
        (
            "inf.safetensors",
            tiny.clone().with_value("query_embed.weight", f32::INFINITY).bytes(),
            "query_embed.weight",
        ),
        (
            "minus-inf.safetensors",
            tiny.clone().with_value("class_embed.bias", f32::NEG_INFINITY).bytes(),
            "class_embed.bias",
        ),
    ]
}

fn pickles() -> Vec<Bad> {
    let zipped = read("detr_tiny_zip.pth");
    let legacy = read("detr_tiny_legacy.pth");
    let deep = |item: &str, times: usize, end: &str| {
        [b"\x80\x02".as_slice(), item.repeat(times).as_bytes(), end.as_bytes(), b"."].concat()
    };
    // The middle of the file is a tensor's data; the start is the pickle.
    let mut flipped = zipped.clone();
    let at = flipped.len() / 2;
    flipped[at] ^= 0x40;
    let mut flipped_pickle = zipped.clone();
    let start = zipped.windows(8).position(|bytes| bytes == b"data.pkl").unwrap();
    flipped_pickle[start + 3000] ^= 0x01;
    // Python's pickle.loads runs each of these.
    let system = b"\x80\x02cposix\nsystem\nX\x0b\0\0\0touch ranit\x85R.";
    let eval = b"\x80\x02cbuiltins\neval\nX\x1c\0\0\0open('ranit','w').write('x')\x85R.";
    let build = b"\x80\x02}X\x05\0\0\0modelcos\nsystem\nX\x0b\0\0\0touch ranit\x85Rs.";
    vec![
        ("cut-1.pth", truncated(&zipped, 1), "damaged"),
        ("cut-50.pth", truncated(&zipped, 50), "damaged"),
        ("cut-99.pth", truncated(&zipped, 99), "damaged"),
        ("cut-byte.pth", zipped[..zipped.len() - 1].to_vec(), "damaged"),
        ("trailing.pth", [zipped.as_slice(), b"more"].concat(), "4 bytes follow"),
        ("flipped.pth", flipped, "damaged"),
        ("flipped-pickle.pth", flipped_pickle, "flipped-pickle.pth"),
        ("legacy-cut-1.pth", truncated(&legacy, 1), "damaged"),
        ("legacy-cut-50.pth", truncated(&legacy, 50), "damaged"),
        ("legacy-cut-byte.pth", legacy[..legacy.len() - 1].to_vec(), "damaged"),
        ("no-pickle.pth", zip("archive/other.txt", 0, b"hello", 5), "damaged"),
        ("system.pth", system.to_vec(), "damaged"),
        ("eval.pth", eval.to_vec(), "damaged"),
        ("build.pth", build.to_vec(), ""),
        ("zip-system.pth", zip("archive/data.pkl", 0, system, 35), "damaged"),
        ("deep-list.pth", deep("]", 1_000_000, &"a".repeat(999_999)), "damaged"),
        ("deep-tuple.pth", [b"\x80\x02)", [0x85; 1_000_000].as_slice(), b"."].concat(), "damaged"),
        ("deep-mark.pth", deep("(", 1_000_000, &"t".repeat(1_000_000)), "damaged"),
        ("long-text.pth", b"\x80\x02X\xff\xff\xff\x7fabc.".to_vec(), "damaged"),
        ("no-memo.pth", b"\x80\x02j\xff\xff\xff\xff.".to_vec(), "damaged"),
        ("empty-stack.pth", b"\x80\x02.".to_vec(), "damaged"),
        ("just-a-start.pth", b"\x80\x02".to_vec(), "damaged"),
        ("number.pth", b"\x80\x02K\x01.".to_vec(), "damaged"),
        ("empty-dict.pth", b"\x80\x02}.".to_vec(), ""),
        ("expanded.pth", views(1, [1_000_000, 1000], [0, 0], 1), "0.w of shape [1000000, 1000]"),
        ("shared.pth", views(20, [1, 600], [0, 1], 600), "more than 8 times the file's"),
        ("other-tensors.pth", read("odd_zip.pth"), "none of its 14 tensors"),
        ("other-legacy.pth", read("odd_legacy.pth"), "none of its"),
    ]
}

/// Makes a `.pth` whose tensors, named 0.w, 1.w and so on, all view one storage of `stored`
/// numbers.
fn views(count: u8, shape: [i32; 2], strides: [u8; 2], stored: i32) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for index in 0..count {
        let name = format!("{index}.w");
        pickle.extend([b'X', u8::try_from(name.len()).unwrap(), 0, 0, 0]);
        pickle.extend(name.as_bytes());
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage");
        pickle.extend(b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ");
        pickle.extend(stored.to_le_bytes());
        pickle.extend(b"tQK\0");
        pickle.extend([b"J".as_slice(), &shape[0].to_le_bytes(), b"J"].concat());
        pickle.extend([shape[1].to_le_bytes().as_slice(), &[0x86, b'K', strides[0]]].concat());
        pickle.extend([b'K', strides[1], 0x86, 0x89]);
        pickle.extend(b"ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    let size = u32::try_from(pickle.len()).unwrap();
    zip("archive/data.pkl", 0, &pickle, size)
}

fn others() -> Vec<Bad> {
    let mut tar = vec![0; 1024];
    tar[..8].copy_from_slice(b"data.pkl");
    tar[257..262].copy_from_slice(b"ustar");
    // 300 MB in less than 2.
    let zeros = deflated_zeros(1_200_000);
    vec![
        ("empty.pth", Vec::new(), "the file is empty"),
        ("empty.safetensors", Vec::new(), "the file is empty"),
        ("text.pth", b"these are not weights\n".to_vec(), "neither a PyTorch"),
        ("zeros.pth", vec![0; 100_000], "neither a PyTorch"),
        ("ones.safetensors", vec![0xff; 100_000], "neither a PyTorch"),
        ("page.pth", b"<!doctype html><html></html>".to_vec(), "neither a PyTorch"),
        ("tar.pth", tar, "neither a PyTorch"),
        ("bomb.pth", zip("archive/data.pkl", 8, &zeros, 309_600_001), "compressed entries"),
        ("onnx.pth", b"\x08\x07\x12\x07pytorch".to_vec(), "neither a PyTorch"),
        (
            "picture.pth",
            crate::support::images::png(crate::support::images::picture(1, 9, 9)),
            "neither a PyTorch",
        ),
    ]
}

/// Lists files that load, with what is special about them.
pub(super) fn good() -> Vec<(&'static str, Vec<u8>)> {
    let tiny = Safetensors::tiny();
    let mut counters = tiny.clone();
    let end = counters.data.len();
    counters.data.extend(7_i64.to_le_bytes());
    counters.header.insert(
        "backbone.0.body.bn1.num_batches_tracked".to_owned(),
        json!({ "dtype": "I64", "shape": [], "data_offsets": [end, end + 8] }),
    );
    let others = vec![
        ("plain.safetensors", tiny.bytes()),
        ("half.safetensors", tiny.converted("F16").bytes()),
        ("brain.safetensors", tiny.converted("BF16").bytes()),
        ("double.safetensors", tiny.converted("F64").bytes()),
        ("counters.safetensors", counters.bytes()),
        ("misnamed.pth", tiny.bytes()),
        ("misnamed.safetensors", read("detr_tiny_zip.pth")),
        ("hub.pth", read("detr_tiny_hub_zip.pth")),
        ("legacy.pth", read("detr_tiny_legacy.pth")),
        ("hub-legacy.bin", read("detr_tiny_hub_legacy.pth")),
    ];
    [others, deformable::good()].concat()
}

#[test]
fn weights_that_cannot_be_trusted_are_refused() {
    for (name, bytes, message) in bad() {
        let folder = folder();
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let outcome = with_model(folder.path(), name).run();
        check_refused(name, folder.path(), &outcome, 3, message);
        assert!(outcome.stderr.contains(&format!("error: {name}: ")), "{}", outcome.stderr);
        assert!(outcome.ends_with_hint(), "{name}: {}", outcome.stderr);
        assert!(!folder.path().join("ranit").exists(), "{name}: code ran");
        if let Some(peak) = outcome.peak_bytes {
            assert!(peak < 700 << 20, "{name}: {peak} bytes at the peak");
        }
        // A file that cannot be loaded is not converted either, and leaves nothing.
        let convert = detr(["models", "convert", name, "converted"]).inside(folder.path());
        let outcome = convert.run();
        check_refused(name, folder.path(), &outcome, 3, message);
        assert!(!folder.path().join("converted/model.json").exists(), "{name}");
        assert!(!folder.path().join("converted/model.safetensors").exists(), "{name}");
    }
}

#[test]
fn weights_in_every_type_and_container_are_loaded() {
    for (name, bytes) in good() {
        let folder = folder();
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let outcome = with_model(folder.path(), name).args(["--threshold", "0.05"]).run();
        let outcome = outcome.expect(0);
        assert!(outcome.stdout.starts_with("good.png 60x40: "), "{name}: {}", outcome.stdout);
        assert!(!outcome.stdout.contains("no objects"), "{name}: {}", outcome.stdout);
    }
}

#[test]
fn another_architecture_lists_the_first_ten_offenders() {
    let folder = folder();
    let lines = |arch: &str| {
        let run = with_model(folder.path(), golden("detr_tiny_zip.pth")).args(["--arch", arch]);
        let outcome = run.run();
        check_refused(arch, folder.path(), &outcome, 3, "the weights do not fit the model");
        assert!(outcome.ends_with_hint());
        outcome.stderr
    };
    let error = lines("detr-r50");
    assert!(error.contains(" missing:\n  ") && error.contains(" of another shape:\n  "), "{error}");
    let error = lines("detr-demo");
    assert!(error.contains(" unexpected:\n  "), "{error}");
    for section in error.split(":\n  ").skip(1) {
        let listed = section.lines().filter(|line| !line.starts_with("hint")).count();
        assert!(listed <= 12, "{section}");
    }
    assert!(error.contains("\n  and "), "{error}");
}

#[test]
fn an_architecture_given_for_other_tensors_says_what_is_missing() {
    let tiny = Safetensors::tiny();
    let headless = tiny.renamed(|n| (!n.contains("class_embed")).then(|| n.to_owned())).bytes();
    let foreign = tiny.renamed(|n| Some(format!("x.{n}"))).bytes();
    let backbone = read("torchvision_resnet18_narrow_zip.pth");
    for (name, bytes, message) in [
        ("headless.safetensors", headless, "the weights do not fit the model"),
        ("foreign.safetensors", foreign, "none of its"),
        ("backbone.pth", backbone, "backbone alone"),
    ] {
        let folder = folder();
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let outcome = with_model(folder.path(), name).args(["--arch", "detr-r18"]).run();
        check_refused(name, folder.path(), &outcome, 3, message);
        assert!(outcome.ends_with_hint(), "{name}: {}", outcome.stderr);
    }
}

#[test]
fn a_name_that_says_dc5_dilates_only_what_can_be_dilated() {
    let folder = folder();
    std::fs::write(folder.path().join("detr-dc5.pth"), read("detr_tiny_zip.pth")).unwrap();
    let outcome = with_model(folder.path(), "detr-dc5.pth").run().expect(0);
    assert!(!outcome.stderr.contains("dilated"), "{}", outcome.stderr);
}

/// Not what cannot be read, but where the result should go.
#[test]
fn an_artifact_that_cannot_be_written_is_no_fault_of_the_model() {
    let folder = folder();
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let run = detr(["models", "convert"]).arg(golden("detr_tiny_zip.pth")).arg("file/converted");
    let outcome = run.inside(folder.path()).run();
    check_refused("convert", folder.path(), &outcome, 1, "file/converted");
}

#[test]
fn architectures_that_cannot_be_are_refused() {
    let arch = |nheads: &str, queries: &str, rest: &str| {
        format!(
            "kind = \"detr\"\nnum_classes = 91\nnum_queries = {queries}\nhidden_dim = 32\n\
             nheads = {nheads}\nenc_layers = 1\ndec_layers = 1\ndim_feedforward = 64\n{rest}\n\
             backbone = {{ block = \"basic\", depths = [1, 1, 1, 1], stem = 4, widths = [4, 4, 4, 4] }}\n"
        )
    };
    let folder = folder_with([("good.png", Vec::new())]);
    for (text, message) in [
        (arch("7", "9", ""), "multiple of nheads (7)"),
        (arch("0", "9", ""), "nheads is 0"),
        (arch("4", "0", ""), "num_queries is 0"),
        (arch("4", "-1", ""), "num_queries"),
        (arch("4", "99999999999", ""), "num_queries"),
        (arch("4", "nan", ""), "num_queries"),
        (
            arch("4", "9999", "").replace("num_classes = 91", "num_classes = 99999"),
            "(num_classes + 1) make",
        ),
        (arch("4", "9", "").replace("[4, 4, 4, 4]", "[8192, 8192, 8192, 8192]"), "backbone.widths"),
        (arch("4", "9", "dropout = nan"), "dropout"),
        (arch("4", "9", "dropout = inf"), "dropout"),
        (arch("4", "9", "dropuot = 0.1"), "dropuot"),
        (arch("4", "9", "kind = 3"), "kind"),
        ("kind = \"yolo\"\n".to_owned(), "yolo"),
        (String::new(), "kind"),
        (format!("kind = {}", "[".repeat(200_000)), "arch.toml"),
        ("\0\0\0".to_owned(), "arch.toml"),
    ] {
        std::fs::write(folder.path().join("arch.toml"), &text).unwrap();
        let outcome = with_model(folder.path(), "recipe:arch.toml").run();
        check_refused(&text[..text.len().min(300)], folder.path(), &outcome, 2, message);
    }
}
