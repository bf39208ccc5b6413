//! Writes generated pictures that keep a JPEG decoder as busy as photographs do:
//! `cargo run --release -p detr-data --example photos -- FOLDER [COUNT]`. Each is 640 pixels wide and
//! 480 high, clouds of detail at every scale with hard-edged shapes on them, at the quality of
//! photographs on the web. The same bytes on every machine; `cargo xtask bench data` measures them.

use std::path::PathBuf;

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

const WIDTH: u16 = 640;
const HEIGHT: u16 = 480;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: photos FOLDER [COUNT]")?);
    let count: u64 = match arguments.next() {
        Some(text) => text.to_str().ok_or("COUNT is no number")?.parse()?,
        None => 24,
    };
    for number in 1..=count {
        let mut jpeg = Vec::new();
        let mut encoder = Encoder::new(&mut jpeg, 95);
        // What the images of COCO have.
        encoder.set_sampling_factor(SamplingFactor::F_1_1);
        encoder.encode(&picture(&mut Random(number)), WIDTH, HEIGHT, ColorType::Rgb)?;
        let path = folder.join(format!("{number:03}.jpg"));
        detr_types::fs::atomic_write(&path, |out| out.write_all(&jpeg))?;
    }
    Ok(())
}

/// `[HEIGHT, WIDTH, 3]`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
fn picture(random: &mut Random) -> Vec<u8> {
    let (width, height) = (usize::from(WIDTH), usize::from(HEIGHT));
    let mut levels = vec![0.0; width * height * 3];
    for colour in 0..3 {
        let base = random.between(70.0, 170.0);
        levels.iter_mut().skip(colour).step_by(3).for_each(|level| *level = base);
    }
    // Half the size, a little over half the contrast, as in nature. Light first, then colour.
    for (cell, contrast) in [(320, 60.0), (160, 40.0), (80, 26.0), (40, 17.0), (20, 11.0)] {
        clouds(&mut levels, cell, [contrast; 3], random);
        for colour in 0..3 {
            let mut only = [0.0; 3];
            only[colour] = 0.3 * contrast;
            clouds(&mut levels, cell, only, random);
        }
    }
    for (cell, contrast) in [(10, 10.0), (5, 11.0), (2, 15.0)] {
        clouds(&mut levels, cell, [contrast; 3], random);
    }
    for _ in 0..12 {
        ellipse(&mut levels, random);
    }
    levels.into_iter().map(|level| level.clamp(0.0, 255.0) as u8).collect()
}

/// Adds random values on a grid of cells, linear between them.
#[allow(clippy::cast_precision_loss)] // small
fn clouds(levels: &mut [f64], cell: usize, contrast: [f64; 3], random: &mut Random) {
    let width = usize::from(WIDTH);
    let columns = width / cell + 2;
    let grid: Vec<f64> = (0..columns * (usize::from(HEIGHT) / cell + 2))
        .map(|_| random.between(-1.0, 1.0))
        .collect();
    for (at, pixel) in levels.chunks_exact_mut(3).enumerate() {
        let (x, y) = (at % width, at / width);
        let (right, down) = ((x % cell) as f64 / cell as f64, (y % cell) as f64 / cell as f64);
        let corner = y / cell * columns + x / cell;
        let row = |at: usize| grid[at] * (1.0 - right) + grid[at + 1] * right;
        let value = row(corner) * (1.0 - down) + row(corner + columns) * down;
        for (level, contrast) in pixel.iter_mut().zip(contrast) {
            *level += value * contrast;
        }
    }
}

/// Shifts the colours inside an ellipse.
#[allow(clippy::cast_precision_loss)] // small
fn ellipse(levels: &mut [f64], random: &mut Random) {
    let width = usize::from(WIDTH);
    let (x, y) = (random.between(0.0, f64::from(WIDTH)), random.between(0.0, f64::from(HEIGHT)));
    let (a, b) = (random.between(15.0, 120.0), random.between(15.0, 120.0));
    let shift = [(); 3].map(|()| random.between(-80.0, 80.0));
    for (at, pixel) in levels.chunks_exact_mut(3).enumerate() {
        let (dx, dy) = (((at % width) as f64 - x) / a, ((at / width) as f64 - y) / b);
        if dx * dx + dy * dy < 1.0 {
            pixel.iter_mut().zip(shift).for_each(|(level, shift)| *level += shift);
        }
    }
}

/// The splitmix64 generator.
struct Random(u64);

impl Random {
    #[allow(clippy::cast_precision_loss)] // 53 bits
    fn between(&mut self, low: f64, high: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        low + (high - low) * ((z >> 11) as f64 / (1u64 << 53) as f64)
    }
}
