//! The promises of the loader, on generated samples and on files.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use detr_types::fs::atomic_write;
use detr_types::{ClassTable, ImageSize, PreprocessSpec};
use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder};

use super::*;
use crate::dataset::{Dataset, ImageRecord, ObjectRecord};
use crate::decode::ImageError;
use crate::target::{Target, TargetCounts};
use crate::transforms::{Augmentation, Purpose, SampleRng};

/// Samples from nothing: tiny images whose size and colour follow from (seed, epoch, id).
struct Synthetic {
    samples: usize,
    seed: u64,
    /// Panics on this sample.
    panics_on: Option<usize>,
    /// Fails on these, for good.
    broken: HashSet<usize>,
    /// The number of times that the file system fails on every sample.
    stalls: usize,
    loads: AtomicUsize,
}

impl Synthetic {
    fn new(samples: usize, seed: u64) -> Self {
        let broken = HashSet::new();
        Self { samples, seed, panics_on: None, broken, stalls: 0, loads: AtomicUsize::new(0) }
    }
}

impl SampleSource for Synthetic {
    fn len(&self) -> usize {
        self.samples
    }

    fn image_id(&self, index: usize) -> i64 {
        1000 + i64::try_from(index).unwrap()
    }

    fn stated_size(&self, index: usize) -> Option<ImageSize> {
        let wide = u32::from(index.is_multiple_of(3));
        Some(ImageSize::new(10 + 20 * wide, 30 - 20 * wide))
    }

    fn normalization(&self) -> PreprocessSpec {
        PreprocessSpec::default()
    }

    fn load(&self, index: usize, epoch: u64) -> Result<LoadedSample, SampleError> {
        let loads = self.loads.fetch_add(1, Ordering::Relaxed);
        assert!(self.panics_on != Some(index), "sample {index} is not liked");
        let image_id = self.image_id(index);
        if self.broken.contains(&index) {
            return Err(SampleError { image_id, error: ImageError::Empty });
        }
        if loads % (self.stalls + 1) != self.stalls {
            let error = ImageError::Io { error: std::io::Error::other("stale handle") };
            return Err(SampleError { image_id, error });
        }
        let mut dice = SampleRng::new(self.seed, epoch, Purpose::Sample(image_id));
        let size = ImageSize::new(dice.between(4, 24), dice.between(4, 24));
        let level = u8::try_from(dice.between(0, 255)).unwrap();
        let image = RgbImage::from_pixel(size.width, size.height, image::Rgb([level, 7, 9]));
        let target = Target {
            image_id,
            original_size: size,
            size,
            boxes: Vec::new(),
            labels: Vec::new(),
            areas: Vec::new(),
            iscrowd: Vec::new(),
            masks: None,
        };
        Ok(LoadedSample { image, target, counts: TargetCounts::default(), scratch_bytes: 100 })
    }
}

fn hash(batch: &Batch) -> u64 {
    let mut hasher = DefaultHasher::new();
    (batch.epoch, batch.index, batch.images.size, &batch.images.mask).hash(&mut hasher);
    batch.images.pixels.iter().for_each(|pixel| pixel.to_bits().hash(&mut hasher));
    for target in &batch.targets {
        (target.image_id, target.size, &target.labels).hash(&mut hasher);
        for b in &target.boxes {
            [b.cx, b.cy, b.w, b.h].map(f32::to_bits).hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn hashes(batches: Batches) -> Vec<u64> {
    batches.map(|batch| hash(&batch.unwrap())).collect()
}

fn ids(batches: Batches) -> Vec<i64> {
    batches.flat_map(|batch| batch.unwrap().targets).map(|target| target.image_id).collect()
}

fn loader(source: Synthetic, config: LoaderConfig) -> Loader {
    Loader::new(Arc::new(source), config).unwrap()
}

#[test]
fn batches_do_not_depend_on_the_number_of_workers() {
    let mut seen = HashSet::new();
    for seed in [1, 2, 3] {
        let runs: Vec<Vec<u64>> = [0, 1, 4, 16]
            .into_iter()
            .map(|workers| {
                let config =
                    LoaderConfig { seed, workers, batch_size: 4, buckets: 2, ..Default::default() };
                let loader = loader(Synthetic::new(203, seed), config);
                let all = hashes(loader.epoch(1, 0).unwrap());
                assert_eq!(all.len(), 51);
                all
            })
            .collect();
        assert!(runs.iter().all(|run| *run == runs[0]), "seed {seed}");
        assert!(seen.insert(runs[0].clone()), "seed {seed} repeats another");
    }
}

#[test]
fn starting_anywhere_gives_the_remaining_batches() {
    let config = LoaderConfig { workers: 3, batch_size: 3, ..Default::default() };
    let loader = loader(Synthetic::new(100, 5), config);
    let mut dice = SampleRng::new(11, 0, Purpose::Other(1));
    let epochs: Vec<Vec<u64>> =
        (0..3).map(|epoch| hashes(loader.epoch(epoch, 0).unwrap())).collect();
    assert_ne!(epochs[0], epochs[1]);
    for _ in 0..20 {
        let epoch = dice.below(3);
        let from = usize::try_from(dice.below(35)).unwrap();
        let batches = loader.epoch(epoch, from).unwrap();
        assert_eq!((batches.position(), batches.remaining()), ((epoch, from), 34 - from));
        assert_eq!(hashes(batches), epochs[usize::try_from(epoch).unwrap()][from..]);
    }
    assert!(matches!(loader.epoch(0, 35), Err(LoaderError::Position { batches: 34, .. })));
}

#[test]
fn memory_stays_within_the_budget() {
    let budget_bytes = 400_000;
    let config = LoaderConfig { workers: 8, batch_size: 4, budget_bytes, ..Default::default() };
    let loader = loader(Synthetic::new(5000, 7), config);
    let mut batches = loader.epoch(0, 0).unwrap();
    let mut count = 0;
    while let Some(batch) = batches.next() {
        assert_eq!(batch.unwrap().targets.len(), 4);
        if count % 300 == 0 {
            // While the consumer waits, the workers run ahead as far as they may.
            let start = Instant::now();
            while batches.ready() <= 4 {
                assert!(start.elapsed() < Duration::from_mins(1), "{} ahead", batches.ready());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        count += 1;
    }
    assert_eq!(count, 1250);
    assert!(batches.high_water_bytes() <= budget_bytes, "{}", batches.high_water_bytes());
}

#[test]
fn a_budget_that_is_too_small_still_yields_everything() {
    let config = LoaderConfig { workers: 4, batch_size: 5, budget_bytes: 1, ..Default::default() };
    let loader = loader(Synthetic::new(52, 7), config);
    let mut batches = loader.epoch(0, 0).unwrap();
    assert_eq!(batches.by_ref().map(|batch| batch.unwrap().targets.len()).sum::<usize>(), 52);
    // One batch of 5 at a time, of at most 24x24 pixels.
    assert!(batches.high_water_bytes() < 5 * (24 * 24 * 16 + 500));
}

#[test]
fn every_sample_is_used_once_and_ranks_share_the_work() {
    for (samples, world, batch_size, buckets) in [(103, 1, 4, 1), (103, 4, 3, 1), (50, 3, 4, 3)] {
        let mut all = Vec::new();
        let mut lengths = HashSet::new();
        for rank in 0..world {
            let config = LoaderConfig {
                batch_size,
                buckets,
                workers: 1,
                shard: Shard { rank, world },
                ..Default::default()
            };
            let loader = loader(Synthetic::new(samples, 1), config);
            lengths.insert(loader.batches_per_epoch());
            assert_eq!(loader.plan(4).len(), loader.batches_per_epoch());
            all.extend(ids(loader.epoch(4, 0).unwrap()));
        }
        let distinct: HashSet<i64> = all.iter().copied().collect();
        assert_eq!((lengths.len(), distinct.len()), (1, samples));
        assert_eq!(all.len(), samples.next_multiple_of(world));
    }
    let config = LoaderConfig { batch_size: 8, drop_last: true, ..Default::default() };
    assert_eq!(ids(loader(Synthetic::new(103, 1), config).epoch(0, 0).unwrap()).len(), 96);
    let config = LoaderConfig { shuffle: false, ..Default::default() };
    let in_order = ids(loader(Synthetic::new(5, 1), config).epoch(9, 0).unwrap());
    assert_eq!(in_order, [1000, 1001, 1002, 1003, 1004]);
    // If there are buckets, only the last batch may mix portrait and landscape images.
    let config = LoaderConfig { batch_size: 5, buckets: 2, ..Default::default() };
    let loader = loader(Synthetic::new(64, 1), config);
    let mut plan = loader.plan(0);
    plan.truncate(11);
    assert!(
        plan.iter()
            .all(|batch| batch.iter().all(|i| i.is_multiple_of(3) == batch[0].is_multiple_of(3)))
    );
}

#[test]
fn a_panicking_worker_ends_the_epoch_and_names_the_image() {
    for workers in [0, 1, 4] {
        let source = Synthetic { panics_on: Some(17), ..Synthetic::new(200, 1) };
        let config = LoaderConfig { workers, shuffle: false, ..Default::default() };
        let loader = loader(source, config);
        let mut batches = loader.epoch(3, 0).unwrap();
        let error = batches.find_map(Result::err).expect("an error, not a short epoch");
        let message = "sample 17 is not liked".to_owned();
        let expected = LoaderError::WorkerPanicked { image_id: 1017, epoch: 3, message };
        assert_eq!(error, expected);
        assert!(batches.next().is_none());
        // The loader itself can go on elsewhere.
        assert!(loader.epoch(3, 20).unwrap().all(|batch| batch.is_ok()));
    }
}

#[test]
fn bad_images_are_replaced_and_reported_up_to_the_limit() {
    let broken: HashSet<usize> = [3, 4, 60].into();
    for workers in [0, 4] {
        let source = Synthetic { broken: broken.clone(), ..Synthetic::new(80, 1) };
        let config = LoaderConfig { workers, shuffle: false, ..Default::default() };
        let good = loader(source, config.clone());
        let batches: Vec<Batch> = good.epoch(0, 0).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.len(), 40);
        // 3 stands beside 2, and 4 before 5; both are replaced by 5.
        let ids: Vec<i64> = batches[1..3].iter().flat_map(ids_of).collect();
        assert_eq!(ids, [1002, 1005, 1005, 1005]);
        let replaced: Vec<i64> = batches[1].replaced.iter().map(|bad| bad.image_id).collect();
        assert_eq!(replaced, [1003, 1004]);
        assert_eq!(good.bad_images().len(), 3);
        assert!(good.bad_images()[2].reason.starts_with("is empty"));

        let source = Synthetic { broken: broken.clone(), ..Synthetic::new(80, 1) };
        let strict = loader(source, LoaderConfig { max_bad_images: Some(1), ..config });
        let results: Vec<_> = strict.epoch(0, 0).unwrap().collect();
        // The first batch is good, the second meets two bad images.
        assert_eq!(results.len(), 2);
        let error = results[1].as_ref().unwrap_err();
        assert!(matches!(error, LoaderError::TooManyBad { bad: 2, limit: 1, .. }), "{error}");
    }
    let broken = (0..5).collect();
    let all = loader(Synthetic { broken, ..Synthetic::new(5, 1) }, LoaderConfig::default());
    assert!(all.epoch(0, 0).unwrap().next().unwrap().is_err());
}

#[test]
fn failing_reads_are_tried_again_and_waiting_for_it_can_be_stopped() {
    let config = LoaderConfig { workers: 1, retry_delay_ms: 1, ..Default::default() };
    let stalls = |stalls| Synthetic { stalls, ..Synthetic::new(20, 1) };
    let patient = loader(stalls(3), config.clone());
    assert_eq!(ids(patient.epoch(0, 0).unwrap()).len(), 20);
    assert!(patient.bad_images().is_empty());
    let mut batches = loader(stalls(4), config.clone()).epoch(0, 0).unwrap();
    let replaced = batches.next().unwrap().unwrap().replaced;
    assert!(replaced[0].reason.contains("stale handle"), "{replaced:?}");
    // An hour before the first retry: only a stop ends this.
    let config = LoaderConfig { workers: 3, retry_delay_ms: 3_600_000, ..config };
    drop(loader(stalls(1), config).epoch(0, 0).unwrap());
}

fn ids_of(batch: &Batch) -> Vec<i64> {
    batch.targets.iter().map(|target| target.image_id).collect()
}

#[test]
fn a_consumer_that_stops_early_waits_for_no_more_than_the_samples_in_work() {
    let source = Arc::new(Synthetic::new(100_000, 1));
    let config = LoaderConfig { workers: 4, budget_bytes: 100_000, ..Default::default() };
    let loader = Loader::new(source.clone(), config).unwrap();
    let mut batches = loader.epoch(0, 0).unwrap();
    assert!(batches.next().unwrap().is_ok());
    drop(batches);
    let loads = source.loads.load(Ordering::Relaxed);
    assert!(loads < 1000, "{loads} samples were loaded for one batch");
    // Threads hold the source; all of them are gone.
    assert_eq!(Arc::strong_count(&source), 2);
    drop(loader.epoch(0, 0).unwrap());
    assert_eq!(Arc::strong_count(&source), 2);
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let config = |text: &str| toml::from_str::<LoaderConfig>(text).unwrap();
    for (text, message) in [
        ("batch_size = 0", "batch_size is 0, expected 1 to 65536"),
        ("workers = 5000", "workers is 5000"),
        ("batch_size = 9\ndrop_last = true", "8 images, which is not enough"),
    ] {
        let loader = Loader::new(Arc::new(Synthetic::new(8, 1)), config(text));
        let error = loader.err().unwrap().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert!(toml::from_str::<LoaderConfig>("batchsize = 2").is_err());
    let shard = Shard { rank: 2, world: 2 };
    assert!(LoaderConfig { shard, ..Default::default() }.validate().is_err());
    assert!(Loader::new(Arc::new(Synthetic::new(0, 1)), config("")).is_err());
}

/// Writes a data set of JPEG files into a folder.
fn files(folder: &Path, count: i64) -> Arc<Dataset> {
    let images = (1..=count).map(|id| {
        let (width, height) = (40 + u16::try_from(id).unwrap(), 30);
        let level = u8::try_from(id * 9).unwrap();
        let pixels = vec![level; 3 * usize::from(width) * usize::from(height)];
        let mut jpeg = Vec::new();
        Encoder::new(&mut jpeg, 90).encode(&pixels, width, height, ColorType::Rgb).unwrap();
        let file_name = format!("{id}.jpg");
        let path = folder.join(&file_name);
        atomic_write(&path, |file| file.write_all(&jpeg)).unwrap();
        let object = ObjectRecord {
            id,
            category_id: 1 + id % 3,
            bbox: [2.0, 3.0, 10.0, 12.0].into(),
            area: 120.0,
            iscrowd: false,
            segmentation: None,
        };
        ImageRecord { id, path, file_name, size: None, objects: vec![object] }
    });
    Arc::new(Dataset { images: images.collect(), ..Dataset::default() })
}

fn file_loader(dataset: &Arc<Dataset>, mode: CacheMode, bytes: u64) -> Loader {
    let augmentation = Augmentation::training();
    let coco = ClassTable::coco();
    let source = DatasetSource::new(dataset.clone(), &coco, augmentation, 1).unwrap();
    let source = source.with_cache(mode, bytes);
    let config = LoaderConfig { retry_delay_ms: 1, ..Default::default() };
    Loader::new(Arc::new(source), config).unwrap()
}

#[test]
fn a_vanishing_file_is_replaced_unless_it_is_cached() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = files(folder.path(), 12);
    let plain = file_loader(&dataset, CacheMode::None, 0);
    let cached = file_loader(&dataset, CacheMode::Memory, 1 << 20);
    let ahead = file_loader(&dataset, CacheMode::DiskPage, 1 << 20);
    let expected: Vec<Vec<u64>> = (0..2).map(|e| hashes(plain.epoch(e, 0).unwrap())).collect();
    assert_eq!(hashes(cached.epoch(0, 0).unwrap()), expected[0]);
    assert_eq!(hashes(ahead.epoch(0, 0).unwrap()), expected[0]);

    std::fs::remove_file(&dataset.images[4].path).unwrap();
    assert_eq!(hashes(cached.epoch(1, 0).unwrap()), expected[1]);
    let batches: Vec<Batch> = plain.epoch(1, 0).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.len(), 6);
    let bad: Vec<_> = batches.iter().flat_map(|batch| &batch.replaced).collect();
    assert_eq!(bad.len(), 1);
    assert!(bad[0].image_id == 5 && bad[0].reason.contains("5.jpg"), "{bad:?}");
}

#[test]
fn the_cache_keeps_to_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = files(folder.path(), 4);
    let size = |at: usize| dataset.images[at].path.metadata().unwrap().len();
    let limit = size(0) + size(1);
    let paths = dataset.images.iter().map(|record| record.path.clone()).collect();
    let cache = cache::Cache::new(CacheMode::Memory, limit, paths);
    for (index, record) in dataset.images.iter().enumerate() {
        assert_eq!(cache.read(index, &record.path, 1 << 20).unwrap().len() as u64, size(index));
    }
    assert_eq!(cache.held(), limit);
}
