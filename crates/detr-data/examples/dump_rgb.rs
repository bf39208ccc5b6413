//! Writes what the decoder and the resizer make of images as raw RGB, for a comparison with other
//! libraries: `cargo run --release -p detr-data --example dump_rgb -- OUT IMAGE...` makes
//! `OUT/STEM.WxH.rgb` and, resized for a model, `OUT/STEM.resized.WxH.rgb`.

use std::path::{Path, PathBuf};

use detr_data::{DecodeOptions, RgbImage, read_image, resize_bilinear};
use detr_types::fs::atomic_write;
use detr_types::{ImageSize, PreprocessSpec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let out = arguments.next().ok_or("usage: dump_rgb OUT IMAGE...")?;
    for path in arguments {
        let image = read_image(&path, &DecodeOptions::default())?;
        let size = ImageSize::new(image.height(), image.width());
        let resized = resize_bilinear(&image, PreprocessSpec::default().target_size(size));
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        write(&out, &stem, &image)?;
        write(&out, &format!("{stem}.resized"), &resized)?;
    }
    Ok(())
}

fn write(folder: &Path, stem: &str, image: &RgbImage) -> std::io::Result<()> {
    let name = format!("{stem}.{}x{}.rgb", image.width(), image.height());
    atomic_write(&folder.join(name), |file| file.write_all(image.as_raw()))
}
