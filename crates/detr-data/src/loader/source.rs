//! The sources of samples: the interface that the loader sees, and data sets behind it.

use std::sync::Arc;

use detr_types::{ClassTable, ImageSize, PreprocessSpec};
use image::RgbImage;

use super::cache::{Cache, CacheMode};
use super::{LoaderError, SampleError};
use crate::dataset::Dataset;
use crate::decode::{DecodeOptions, ImageError, decode_image};
use crate::target::{Target, TargetCounts, TargetRules};
use crate::transforms::{Augmentation, Purpose, SampleRng};

/// A list of samples that can be loaded in any order and on any thread.
pub trait SampleSource: Send + Sync + 'static {
    /// Returns the number of samples.
    fn len(&self) -> usize;

    /// Returns whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the id of a sample's image.
    fn image_id(&self, index: usize) -> i64;

    /// Returns the size of a sample's image as far as it is known without reading it.
    fn stated_size(&self, index: usize) -> Option<ImageSize>;

    /// Returns the mean and standard deviation of the pixels that batches are normalised with.
    fn normalization(&self) -> PreprocessSpec;

    /// Loads and augments a sample. The result depends on nothing but the arguments.
    ///
    /// # Errors
    /// An image that cannot be read or decoded.
    fn load(&self, index: usize, epoch: u64) -> Result<LoadedSample, SampleError>;
}

/// A sample that is ready for a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedSample {
    /// The augmented pixels, not yet normalised.
    pub image: RgbImage,
    /// Its objects.
    pub target: Target,
    /// The number of annotations that were kept and dropped, by reason.
    pub counts: TargetCounts,
    /// Bytes that were held on the way and are free again: the file and its pixels.
    pub scratch_bytes: u64,
}

impl LoadedSample {
    /// Returns the size in memory in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.image.len() as u64 + self.target.bytes()
    }
}

/// A data set with the rules that make training samples of it.
pub struct DatasetSource {
    dataset: Arc<Dataset>,
    rules: TargetRules,
    augmentation: Augmentation,
    seed: u64,
    decode: DecodeOptions,
    cache: Cache,
}

impl DatasetSource {
    /// Creates a source without masks, without cache, and with the default limits of decoding.
    ///
    /// # Errors
    /// A number of the augmentation that cannot work.
    pub fn new(
        dataset: Arc<Dataset>,
        classes: &ClassTable,
        augmentation: Augmentation,
        seed: u64,
    ) -> Result<Self, LoaderError> {
        augmentation.validate()?;
        Ok(Self {
            dataset,
            rules: TargetRules::new(classes),
            augmentation,
            seed,
            decode: DecodeOptions::default(),
            cache: Cache::default(),
        })
    }

    /// Sets whether samples have masks of the objects.
    #[must_use]
    pub fn with_masks(self, masks: bool) -> Self {
        Self { rules: self.rules.with_masks(masks), ..self }
    }

    /// Sets other limits of decoding.
    #[must_use]
    pub fn with_decode(self, decode: DecodeOptions) -> Self {
        Self { decode, ..self }
    }

    /// Adds a cache of image files of at most `bytes`.
    #[must_use]
    pub fn with_cache(self, mode: CacheMode, bytes: u64) -> Self {
        let files = self.dataset.images.iter().map(|record| record.path.clone()).collect();
        Self { cache: Cache::new(mode, bytes, files), ..self }
    }

    /// Returns the data set.
    #[must_use]
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// Reads the image of a sample as it is, without augmentation.
    ///
    /// # Errors
    /// An image that cannot be read or decoded.
    pub fn read(&self, index: usize) -> Result<RgbImage, SampleError> {
        self.read_counted(index).map(|(_, image)| image)
    }

    /// Reads an image; also the bytes of the file and its pixels.
    fn read_counted(&self, index: usize) -> Result<(usize, RgbImage), SampleError> {
        let record = &self.dataset.images[index];
        let image = self.cache.read(index, &record.path, self.decode.limits.file_bytes);
        let image = image.and_then(|bytes| {
            decode_image(&bytes, &self.decode)
                .map(|image| (bytes.len() + image.len(), image))
                .map_err(|error| ImageError::At {
                    path: record.path.clone(),
                    error: Box::new(error),
                })
        });
        image.map_err(|error| SampleError { image_id: record.id, error })
    }
}

impl SampleSource for DatasetSource {
    fn len(&self) -> usize {
        self.dataset.images.len()
    }

    fn image_id(&self, index: usize) -> i64 {
        self.dataset.images[index].id
    }

    fn stated_size(&self, index: usize) -> Option<ImageSize> {
        self.dataset.images[index].size
    }

    fn normalization(&self) -> PreprocessSpec {
        self.augmentation.normalization()
    }

    fn load(&self, index: usize, epoch: u64) -> Result<LoadedSample, SampleError> {
        let record = &self.dataset.images[index];
        let (scratch, image) = self.read_counted(index)?;
        let (mut sample, counts) = self.rules.sample(record, image);
        let mut dice = SampleRng::new(self.seed, epoch, Purpose::Sample(record.id));
        self.augmentation.apply(&mut sample, &mut dice);
        let (image, target) = Target::finish(sample);
        Ok(LoadedSample { image, target, counts, scratch_bytes: scratch as u64 })
    }
}
