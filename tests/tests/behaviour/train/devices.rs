//! Runs on other devices than one CPU: what they learn from, and what several learn together.

use detr_types::env;
use safetensors::SafeTensors;

use super::small::{STEPS, Small};
use crate::support::detr;
use crate::support::devices::skipped;

#[test]
fn two_devices_learn_what_one_does_from_their_batches_together() {
    let small = Small::new();
    let settings = ["model.arch=deformable-detr-tiny", "train.epochs=1"];
    small.train("two", &settings).args(["--device", "0,0"]).run().expect(0);
    let settings = [&settings[..], &["train.accumulate=2"]].concat();
    small.train("one", &settings).run().expect(0);
    assert_eq!(small.images("two"), small.images("one"));
    let read = |run: &str| small.learned(run, STEPS / 2).swap_remove(0);
    let (one, two) = (read("one"), read("two"));
    let [one, two] = [&one, &two].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    for (name, expected) in one.iter() {
        let values = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let found = values(two.tensor(name).unwrap().data());
        for (a, b) in values(expected.data()).into_iter().zip(found) {
            assert!((a - b).abs() <= 1e-5, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn every_backend_learns_from_the_same_images_in_the_same_order() {
    let small = Small::new();
    // Few steps, of many images: a software adapter needs seconds for each.
    let settings = ["train.epochs=1", "data.loader.batch_size=12"];
    small.train("flex", &settings).run().expect(0);
    let expected = small.images("flex");
    assert_eq!(expected.len(), 2);
    let listed = detr(["devices", "--json"]).run().expect(0).json();
    let devices = listed["devices"].as_array().unwrap();
    for backend in ["ndarray", "wgpu"] {
        if !devices.iter().any(|device| device["backend"] == backend) {
            let required = backend == "wgpu" && env::is_on(env::DETR_REQUIRE_WGPU);
            assert!(!required, "no {backend}: {listed}");
            skipped(&format!("{backend} is not there"));
            continue;
        }
        small.train_on(backend, backend, &settings).run().expect(0);
        assert_eq!(small.images(backend), expected, "{backend}");
    }
}
