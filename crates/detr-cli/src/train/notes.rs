//! The messages of a run about its data and weights before its first step: on the console at once, and in the log when there
//! is one.

use detr_data::{Dataset, TargetCounts, TargetRules};
use detr_infer::cli::{CliError, Console};
use detr_track::Tracker;
use detr_types::{ClassTable, counted};

use crate::data::left_out;

/// Notes that were shown and are not in the log yet.
pub(super) struct StartNotes<'a> {
    console: &'a Console,
    texts: Vec<String>,
}

impl<'a> StartNotes<'a> {
    /// Creates an empty list.
    pub(super) const fn new(console: &'a Console) -> Self {
        Self { console, texts: Vec::new() }
    }

    /// Says something that is good to know.
    pub(super) fn say(&mut self, text: &str) {
        self.console.note(text);
        self.texts.push(text.to_owned());
    }

    /// Says something that must not be missed.
    pub(super) fn warn(&mut self, text: &str) {
        self.console.warn(text);
        self.texts.push(format!("note: {text}"));
    }

    /// Says how much data a setting leads to, and what reading it left out.
    pub(super) fn dataset(&mut self, setting: &str, dataset: &Dataset) {
        self.say(&format!(
            "{setting}: {}, {}, {}",
            counted(dataset.images.len(), "image"),
            counted(dataset.object_count(), "object"),
            counted(dataset.categories.len(), "class")
        ));
        for note in left_out(dataset) {
            self.say(&format!("note: {setting}: {note}"));
        }
    }

    /// Writes all notes to the log of a run.
    pub(super) fn log(self, tracker: &mut Tracker) {
        self.texts.iter().for_each(|text| tracker.log(text));
    }
}

/// Refuses training data on which there is nothing to learn.
///
/// # Errors
/// [`CliError::Data`] with the reasons.
pub(super) fn refuse_nothing_to_learn(
    train: &Dataset,
    classes: &ClassTable,
) -> Result<(), CliError> {
    let rules = TargetRules::new(classes);
    let mut counts = TargetCounts::default();
    train.images.iter().for_each(|image| counts += rules.counts(image));
    if counts.kept > 0 { Ok(()) } else { Err(nothing_to_learn(train, counts)) }
}

/// Refuses data of which nothing is kept.
pub(super) fn nothing_to_learn(train: &Dataset, counts: TargetCounts) -> CliError {
    let reasons: Vec<String> = [
        (counts.crowd, "crowds, which training ignores"),
        (counts.degenerate, "boxes without area on their image"),
        (counts.unknown_class, "objects of classes without a label"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    let reasons = if reasons.is_empty() {
        "they have no objects".to_owned()
    } else {
        format!("they have {} and nothing else", reasons.join(", "))
    };
    CliError::Data(format!(
        "data.train: there is nothing to learn on its {}: {reasons}\n\
         hint: is this the right folder, split or filter? `detr data check` says what is wrong with the data",
        counted(train.images.len(), "image")
    ))
}
