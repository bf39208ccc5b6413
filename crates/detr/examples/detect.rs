//! Prints what is in a picture: `cargo run --release -p detr --example detect -- IMAGE [MODEL]`.
//!
//! The program makes an untrained model if no weights are given, to show how the pieces fit; the
//! boxes then mean nothing.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program may print

use std::error::Error;
use std::path::Path;

use detr::backend::{self, Backend, Precision};
use detr::{Checkpoint, DecodeOptions, ModelConfig, PredictOptions, Predictor, read_image};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let image = args.next().ok_or("usage: detect IMAGE [MODEL]")?;

    let selected = backend::select(Backend::Auto, 0, Precision::F32)?;
    let (checkpoint, threshold) = if let Some(model) = args.next() {
        (Checkpoint::open(Path::new(&model), None)?, 0.7)
    } else {
        eprintln!("no model given: using untrained weights");
        let config = ModelConfig::preset("detr-r18")?;
        (Checkpoint::recipe(&config, 0, &selected.device), 0.05)
    };
    let options = PredictOptions { threshold, ..PredictOptions::default() };
    let predictor =
        Predictor::new(&checkpoint, &selected, Precision::F32)?.with_options(options)?;

    let image = read_image(Path::new(&image), &DecodeOptions::default())?;
    for detection in predictor.predict(&image)? {
        let b = detection.bbox;
        println!(
            "{:<16} {:.2}  x {:.0} to {:.0}, y {:.0} to {:.0}",
            detection.name, detection.score, b.x1, b.x2, b.y1, b.y2
        );
    }
    Ok(())
}
