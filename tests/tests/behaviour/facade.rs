//! The crate `detr` as other programs use it: a package outside of this workspace.

use crate::support::{cargo, profile_flags, root, target};

/// Only what the README shows to users, in a thread.
const MAIN: &str = r#"
use std::sync::Arc;

use detr::{Backend, Checkpoint, Detection, ModelConfig, PredictOptions, Precision, Predictor, RgbImage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let selected = detr::backend::select(Backend::Auto, 0, Precision::F32)?;
    let checkpoint = match std::env::args().nth(1) {
        Some(path) => Checkpoint::open(path.as_ref(), None)?,
        None => Checkpoint::recipe(&ModelConfig::preset("detr-r18")?, 0, &selected.device),
    };
    let options = PredictOptions { threshold: 0.5, ..PredictOptions::default() };
    let predictor = Predictor::new(&checkpoint, &selected, Precision::F32)?.with_options(options)?;
    let predictor = Arc::new(predictor);
    let shared = Arc::clone(&predictor);
    let thread = std::thread::spawn(move || shared.predict(&RgbImage::new(64, 48)));
    let detections: Vec<Detection> = thread.join().map_err(|_| "the thread died")??;
    for detection in detections {
        println!("{} {} {:?}", detection.name, detection.score, detection.bbox);
    }
    Ok(())
}
"#;

#[test]
fn an_outside_crate_builds_against_the_facade() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let facade = root().join("crates/detr");
    // The settings of this workspace, so that what it has built already is not built again.
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let profiles = workspace.find("[profile.").map_or("", |at| &workspace[at..]);
    let profiles = profiles
        .split("\n\n")
        // A profile for a package that is a member here, and a path over there.
        .filter(|part| !part.contains("package.detr"))
        .collect::<Vec<_>>()
        .join("\n\n");
    let manifest = format!(
        "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\ndetr = {{ path = {facade:?} }}\n\n\
         {profiles}"
    );
    std::fs::create_dir(at("src")).unwrap();
    std::fs::write(at("Cargo.toml"), manifest).unwrap();
    std::fs::write(at("src/main.rs"), MAIN).unwrap();
    std::fs::copy(root().join("Cargo.lock"), at("Cargo.lock")).unwrap();
    // Default features and the target folder of this test: every dependency is compiled already.
    let mut build = cargo();
    build.args(["build", "--quiet", "--offline", "--manifest-path"]).arg(at("Cargo.toml"));
    build.arg("--target-dir").arg(target().0).args(profile_flags());
    let output = build.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
