//! Measures the time of each stage for `--timings`, and the throughput of a run.

use std::fmt::Write;
use std::time::Duration;

use detr_types::counted;
use serde_json::{Value, json};

use crate::StageTimes;

/// Times of a whole run, summed over its images.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    pub(super) images: u32,
    /// Time of the decoding threads, which work beside the rest.
    pub(super) decode: Duration,
    pub(super) stages: StageTimes,
    /// From the first to the last image.
    pub(super) wall: Duration,
}

impl Timings {
    /// Sets the images that went through the model, and the time they took.
    pub fn set(&mut self, images: usize, stages: StageTimes) {
        self.images = u32::try_from(images).unwrap_or(u32::MAX);
        self.stages = stages;
    }

    fn rows(&self) -> [(&'static str, Duration); 5] {
        [
            ("decode", self.decode),
            ("resize", self.stages.resize),
            ("backbone", self.stages.backbone),
            ("transformer", self.stages.transformer),
            ("postprocess", self.stages.postprocess),
        ]
    }

    /// Returns the figures of a run: images, images per second, time per image.
    #[must_use]
    pub fn throughput(&self) -> String {
        let (images, seconds) = (self.images, self.wall.as_secs_f64());
        let (rate, each) = (self.rate(), self.per_image(self.wall));
        format!(
            "{} in {seconds:.2} s: {rate:.2} images/s, {each:.1} ms per image",
            counted(images as usize, "image")
        )
    }

    fn per_image(&self, time: Duration) -> f64 {
        ms(time) / f64::from(self.images.max(1))
    }

    fn rate(&self) -> f64 {
        f64::from(self.images) / self.wall.as_secs_f64().max(1e-9)
    }

    /// Writes a table for people.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{:<12} {:>12} {:>12}\n", "stage", "ms/image", "ms in all");
        for (name, time) in self.rows() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<12} {:>12.2} {:>12.1}", self.per_image(time), ms(time));
        }
        let seconds = self.wall.as_secs_f64();
        let _ = write!(
            text,
            "{} in {seconds:.2} s, {:.2} images/s; decoding runs beside the rest",
            counted(self.images as usize, "image"),
            self.rate()
        );
        text
    }

    pub(super) fn json(&self) -> Value {
        let stages: serde_json::Map<String, Value> = self
            .rows()
            .into_iter()
            .map(|(name, time)| {
                (name.to_owned(), json!({ "per_image": self.per_image(time), "total": ms(time) }))
            })
            .collect();
        json!({
            "images": self.images,
            "seconds": self.wall.as_secs_f64(),
            "images_per_second": self.rate(),
            "stages_ms": stages,
        })
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
