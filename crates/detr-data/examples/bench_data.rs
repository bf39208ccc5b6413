//! Times the training augmentation on one core: `cargo run --release -p detr-data --example
//! bench_data -- [--seconds N] IMAGE...` decodes, augments and normalises the images again and again
//! and prints images per second as JSON, with the share of each step. Seconds are those of the
//! processor where the system tells them (Linux), so that other programs disturb less. The peer is
//! `benches/peers/data_torchvision.py`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use detr_data::{
    Augmentation, DecodeOptions, Dice, ImageRecord, ObjectRecord, Purpose, Target, TargetRules,
    decode_image, normalize,
};
use detr_types::ClassTable;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut seconds = 10.0;
    let mut files = Vec::new();
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--seconds" {
            let value = arguments.next().ok_or("--seconds needs a number")?;
            seconds = value.to_str().ok_or("not a number")?.parse()?;
        } else {
            files.push(std::fs::read(PathBuf::from(argument))?);
        }
    }
    if files.is_empty() {
        return Err("usage: bench_data [--seconds N] IMAGE...".into());
    }
    let augmentation = Augmentation::training();
    let spec = augmentation.normalization();
    let rules = TargetRules::new(&ClassTable::coco());
    let mut spent = [Duration::ZERO; 3];
    let mut images: u64 = 0;
    let mut pixels = 0;
    let (start, cpu) = (Instant::now(), cpu_seconds());
    while start.elapsed().as_secs_f64() < seconds {
        let at = usize::try_from(images)? % files.len();
        let epoch = images / files.len() as u64;
        let id = i64::try_from(at)?;
        let begin = Instant::now();
        let image = decode_image(&files[at], &DecodeOptions::default())?;
        let decoded = Instant::now();
        let (mut sample, _) = rules.sample(&record(id), image);
        augmentation.apply(&mut sample, &mut Dice::new(0, epoch, Purpose::Sample(id)));
        let (image, target) = Target::finish(sample);
        let augmented = Instant::now();
        let normalized = normalize(&image, &spec);
        let end = Instant::now();
        std::hint::black_box((normalized, &target));
        for (spent, (from, to)) in
            spent.iter_mut().zip([(begin, decoded), (decoded, augmented), (augmented, end)])
        {
            *spent += to - from;
        }
        pixels += target.size.pixels();
        images += 1;
    }
    #[allow(clippy::cast_precision_loss)] // counts
    let count = images as f64;
    let wall: f64 = spent.iter().map(Duration::as_secs_f64).sum();
    let busy = cpu_seconds().zip(cpu).map_or(wall, |(end, start)| end - start);
    let per_image = spent.map(|time| time.as_secs_f64() / wall * busy * 1e3 / count);
    let total: f64 = per_image.iter().sum();
    #[allow(clippy::cast_precision_loss)] // counts
    let megapixels = pixels as f64 / count / 1e6;
    #[allow(clippy::print_stdout)] // an example
    {
        println!(
            "{{\"images_per_second\": {:.1}, \"without_decoding\": {:.1}, \"ms\": {{\"decode\": \
             {:.2}, \"augment\": {:.2}, \"normalize\": {:.2}}}, \"megapixels\": {megapixels:.3}}}",
            1e3 / total,
            1e3 / (total - per_image[0]),
            per_image[0],
            per_image[1],
            per_image[2]
        );
    }
    Ok(())
}

/// Seconds that this thread was running, as Linux counts them.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// Eight objects, as an image of COCO has on average.
fn record(id: i64) -> ImageRecord {
    let object = |number: i32| ObjectRecord {
        id: i64::from(number),
        category_id: 1,
        bbox: [f64::from(number) * 30.0, f64::from(number) * 20.0, 100.0, 120.0].into(),
        area: 12_000.0,
        iscrowd: false,
        segmentation: None,
    };
    ImageRecord {
        id,
        path: PathBuf::new(),
        file_name: String::new(),
        size: None,
        objects: (0..8).map(object).collect(),
    }
}
