//! `eval/epoch-N/samples/`: pictures of some images of every validation. How they are drawn is left to the program,
//! which has the decoder and the fonts.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

use crate::{Delivery, RunContext, Sample, Sink, SinkError, SinkResult, ValidationRecord};

/// The longest name of a picture in characters, without its ending.
const MAX_NAME: usize = 100;

/// The writer of pictures of validations, which draws each with a function of the program's: it is given the sample
/// and the path of the PNG file to write. Pictures that cannot be written are not kept.
pub struct SamplePictures<F> {
    draw: F,
}

impl<F> SamplePictures<F>
where
    F: FnMut(&Sample, &Path) -> Result<(), Box<dyn Error + Send + Sync>>,
{
    /// Creates the sink; pictures go to `samples` in
    /// [`RunInfo::validation_folder`](crate::RunInfo::validation_folder).
    pub const fn new(draw: F) -> Self {
        Self { draw }
    }

    fn write(&mut self, folder: &Path, samples: &[Sample]) -> SinkResult {
        let mut taken = BTreeSet::new();
        for (index, sample) in samples.iter().enumerate() {
            let mut name = name(sample);
            if !taken.insert(name.clone()) {
                name = format!("{name}-{index}");
            }
            (self.draw)(sample, &folder.join(format!("{name}.png")))
                .map_err(|error| SinkError::new("the pictures of a validation", error))?;
        }
        Ok(if samples.is_empty() { Delivery::Idle } else { Delivery::Written })
    }
}

impl<F> Sink for SamplePictures<F>
where
    F: FnMut(&Sample, &Path) -> Result<(), Box<dyn Error + Send + Sync>>,
{
    fn validation(
        &mut self,
        validation: &ValidationRecord,
        samples: &[Sample],
        run: &RunContext,
    ) -> SinkResult {
        self.write(&run.info().validation_folder(validation.epoch).join("samples"), samples)
    }
}

/// Returns the name of a picture: the id and the name of its image, with letters that every file system takes.
fn name(sample: &Sample) -> String {
    let stem = sample.file.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("{}-{stem}", sample.image_id);
    let harmless = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
    name.chars().map(|letter| if harmless(letter) { letter } else { '_' }).take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_have_harmless_names_that_differ() {
        let sample = |image_id, file: &str| Sample {
            image_id,
            file: file.into(),
            detections: Vec::new(),
            truth: Vec::new(),
        };
        let long = "x".repeat(200);
        let samples =
            [sample(1, "in/a:b.jpg"), sample(2, &long), sample(2, &format!("{long}y.png"))];
        let mut paths = Vec::new();
        SamplePictures::new(|_: &Sample, path: &Path| {
            paths.push(path.to_owned());
            Ok(())
        })
        .write("run".as_ref(), &samples)
        .unwrap();
        let cut = format!("2-{}", "x".repeat(98));
        let names = ["1-a_b".to_owned(), cut.clone(), format!("{cut}-2")];
        assert_eq!(paths, names.map(|name| Path::new("run").join(name + ".png")));
    }
}
