//! `detr models`: what is converted is the same model.

use serde_json::Value;

use super::{pictures, text, tiny};
use crate::support::{detr, detr_infer, golden, names_in};

#[test]
fn a_converted_model_gives_the_same_results() {
    let folder = pictures();
    let original = tiny(&["*.png", "--json"]).inside(folder.path()).run().expect(0);
    let convert = || detr(["models", "convert"]).arg(golden("detr_tiny_zip.pth")).arg("model");
    let outcome = convert().inside(folder.path()).run().expect(0);
    assert!(outcome.stderr.contains("wrote 133 tensors"), "{}", outcome.stderr);
    let model = folder.path().join("model");
    assert_eq!(names_in(&model), ["model.json", "model.safetensors"]);

    let report = detr(["models", "inspect", "--json"]).arg(&model).run().expect(0).json();
    let card: Value = serde_json::from_str(&text(&model, "model.json")).unwrap();
    assert_eq!(report["format"], "detr artifact");
    assert_eq!(report["sha256"], card["weights"]["sha256"]);
    assert_eq!(report["architecture"], card["architecture"]);
    assert_eq!(report["provenance"]["source"], "detr_tiny_zip.pth");

    let args = ["*.png", "--json", "--threshold", "0.05", "--model", "model"];
    let converted = detr_infer(args).quick().inside(folder.path()).run().expect(0);
    assert_eq!(converted.stdout, original.stdout);

    // Weights that are not those of the card are nothing to rely on.
    let changed = folder.path().join("changed");
    std::fs::create_dir(&changed).unwrap();
    for name in names_in(&model) {
        std::fs::copy(model.join(&name), changed.join(&name)).unwrap();
    }
    let mut bytes = std::fs::read(changed.join("model.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(changed.join("model.safetensors"), bytes).unwrap();
    let outcome = detr(["models", "inspect"]).arg(&changed).run().expect(3);
    assert!(outcome.stderr.contains("but model.json says"), "{}", outcome.stderr);
    assert!(outcome.ends_with_hint());

    let again = convert().inside(folder.path()).run().expect(2);
    assert!(again.stderr.contains("the folder is not empty"), "{}", again.stderr);
    assert!(again.ends_with_hint());
    convert().arg("--force").inside(folder.path()).run().expect(0);
}

#[test]
fn every_layout_of_the_same_weights_gives_the_same_results() {
    let folder = pictures();
    let outputs = ["detr_tiny_zip.pth", "detr_tiny_legacy.pth", "detr_tiny.expected.safetensors"]
        .map(|file| {
            let run = detr_infer(["*.png", "--json", "--threshold", "0.05", "--model"]);
            let run = run.arg(golden(file)).quick().inside(folder.path());
            // Only the pickled arguments tell the number of heads; shapes do not.
            let arch = folder.path().join("arch.toml");
            let report = detr(["models", "inspect"]).arg(golden("detr_tiny_zip.pth")).run();
            let toml = report.expect(0).stdout.split_once("# architecture").unwrap().1.to_owned();
            std::fs::write(&arch, toml.split_once('\n').unwrap().1).unwrap();
            run.arg("--arch").arg(arch).run().expect(0).stdout
        });
    assert_eq!(outputs[0], outputs[1]);
    assert_eq!(outputs[0], outputs[2]);
}

#[test]
fn class_names_of_the_users_own_are_used() {
    let folder = pictures();
    let names = (0..91).fold(String::new(), |text, label| text + &format!("thing {label}\n"));
    std::fs::write(folder.path().join("names.txt"), &names).unwrap();
    let convert = || detr(["models", "convert"]).arg(golden("detr_tiny_zip.pth")).arg("model");
    let run = convert().args(["--class-names", "names.txt"]).inside(folder.path());
    run.run().expect(0);
    let args = ["1.png", "--jsonl", "--threshold", "0.05", "--model", "model"];
    let result = detr_infer(args).quick().inside(folder.path()).run().expect(0).json_lines();
    let first = &result[0]["detections"][0];
    assert_eq!(first["name"], format!("thing {}", first["label"]));

    // Names come from strangers; a terminal must not obey them.
    std::fs::write(folder.path().join("odd.txt"), names.replace("thing 0", "a\x1b[2Jb")).unwrap();
    let run = convert().args(["--force", "--class-names", "odd.txt"]).inside(folder.path());
    run.run().expect(0);
    let text = detr(["models", "inspect", "model"]).inside(folder.path()).run().expect(0).stdout;
    assert!(text.contains("a\\u{1b}[2Jb") && !text.contains('\x1b'), "{text}");

    std::fs::write(folder.path().join("few.txt"), "a\nb\n").unwrap();
    let run = convert().args(["--force", "--class-names", "few.txt"]).inside(folder.path());
    let outcome = run.run().expect(2);
    assert!(outcome.stderr.contains("2 lines, but the model has 91 labels"), "{}", outcome.stderr);
}

#[test]
fn a_recipe_needs_no_file_and_says_that_it_is_untrained() {
    let folder = pictures();
    let outcome = detr_infer(["1.png"]).quick().inside(folder.path()).run().expect(0);
    assert!(outcome.stderr.contains("untrained weights"), "{}", outcome.stderr);
    let list = detr(["models", "list", "--json"]).run().expect(0).json();
    let presets: Vec<&str> =
        list.as_array().unwrap().iter().map(|preset| preset["name"].as_str().unwrap()).collect();
    assert!(presets.contains(&"detr-r50") && presets.contains(&"detr-demo"), "{presets:?}");
}

#[test]
fn a_backbone_alone_is_inspected_and_converted_but_detects_nothing() {
    let folder = pictures();
    let file = golden("torchvision_resnet18_narrow_zip.pth");
    let report = detr(["models", "inspect", "--json"]).arg(&file).run().expect(0).json();
    assert_eq!(report["backbone_only"], true);
    let text = detr(["models", "inspect"]).arg(&file).run().expect(0).stdout;
    assert!(text.contains("# architecture\n") && !text.contains("--arch"), "{text}");
    let run = detr(["models", "convert"]).arg(&file).arg("backbone").inside(folder.path());
    run.run().expect(0);
    for model in [&file, &folder.path().join("backbone")] {
        let run = detr_infer(["1.png", "--model"]).arg(model).quick().inside(folder.path());
        let outcome = run.run().expect(3);
        assert!(outcome.stderr.contains("a ResNet backbone alone"), "{}", outcome.stderr);
    }
}
