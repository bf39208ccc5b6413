//! The tracker: takes what a run tells, and passes it on to its files and to the console.

use std::path::{Path, PathBuf};
use std::time::Instant;

use detr_infer::cli::{Console, Progress};
use detr_track::RunInfo;
use detr_track::clock::{rfc3339, span, unix_now};
use detr_track::history::History;
use detr_track::pace::{Pace, Place, numbers};
use detr_track::records::{self as rows, StepRow, ValidationRow};
use detr_track::sinks::environment;
use detr_track::status::{Best, STATUS, State, Status, StatusFile};
use serde_json::json;

use super::records::Records;
use super::samples::{self, Sample};

#[cfg(test)]
mod tests;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome<'a> {
    /// All is done.
    Finished,
    /// It was asked to stop.
    Interrupted,
    /// It cannot go on.
    Failed(&'a str),
}

/// Everything that a run leaves behind, beside checkpoints and the model.
pub(crate) struct Tracker {
    info: RunInfo,
    console: Console,
    bar: Option<Progress>,
    records: Records,
    status: Status,
    status_file: StatusFile,
    pace: Pace,
    /// Seconds of work of the processes before this one.
    earlier: f64,
    started: Instant,
    validating: Option<Instant>,
    /// Images that were replaced, as last told.
    bad_images: usize,
    /// The table of the classes of the last validation.
    classes: Option<String>,
}

impl Tracker {
    /// For a run that is about to start or to go on; [`resumed`](Self::resumed) says which.
    pub(crate) fn new(info: RunInfo, console: &Console) -> Self {
        let before = Status::read(&info.folder).unwrap_or_default();
        // A run that goes on by its own copy of the settings is still one of the file that it began with.
        let is_copy = Path::new(&info.config).parent() == Some(&info.folder);
        let config =
            if is_copy && !before.config.is_empty() { before.config } else { info.config.clone() };
        let started = Some(before.started).filter(|started| !started.is_empty());
        let mut status = Status {
            steps: info.steps,
            epochs: info.epochs,
            epoch: 1,
            model: info.model.clone(),
            config,
            device: info.device.clone(),
            started: started.unwrap_or_else(|| rfc3339(unix_now())),
            ..Status::default()
        };
        status.enter_process();
        let mut tracker = Self {
            bar: console.is_interactive().then(|| console.progress_with_words()),
            records: Records::new(info.folder.clone()),
            earlier: before.seconds,
            info,
            console: console.clone(),
            status,
            status_file: StatusFile::default(),
            pace: Pace::default(),
            started: Instant::now(),
            validating: None,
            bad_images: 0,
            classes: None,
        };
        let written = environment::write(&tracker.info.folder, &tracker.info);
        tracker.records.note_trouble(environment::ENVIRONMENT, written);
        tracker.write_status();
        tracker
    }

    /// The run goes on after a step; what the files say of later ones is taken out.
    pub(crate) fn resumed(&mut self, step: u64) {
        self.begin(step, true);
        self.records.line(&rows::event("resumed", step, json!({})));
        self.note(&format!("goes on after step {step} of {}", self.info.steps));
        self.write_status();
    }

    /// Steps of all epochs, where the loop knows better than [`RunInfo`] did.
    pub(crate) fn expect(&mut self, steps: u64) {
        self.info.steps = steps;
        self.status.steps = steps;
    }

    /// A step.
    pub(crate) fn step(&mut self, row: &StepRow) {
        self.begin(0, false);
        let is_new_epoch = row.epoch != self.status.epoch;
        self.records.step(row);
        self.pace.add(row);
        self.status.step = row.step;
        self.status.epoch = row.epoch;
        self.status.loss = Some(row.loss).filter(|loss| loss.is_finite());
        let place = self.place(row.step);
        if let Some(bar) = &self.bar {
            bar.set(index(row.step), index(place.steps));
            bar.say(&self.pace.glance(row, &place));
        }
        if row.step.is_multiple_of(self.info.log_every.max(1)) || row.step == place.steps {
            let line = self.pace.line(row, &place);
            // The bar shows it already.
            if self.bar.is_none() || is_new_epoch {
                self.note(&line);
            } else {
                self.records.log(&line);
            }
            self.records.tell_tensorboard(row.step);
            if row.bad_images > std::mem::replace(&mut self.bad_images, row.bad_images) {
                let count = row.bad_images;
                self.warn(&format!("images that cannot be read and were replaced: {count}"));
            }
        }
        self.update_status();
    }

    /// A step that changed nothing, and the images of its batch.
    pub(crate) fn skipped(&mut self, step: u64, epoch: u64, reason: &str, images: &[i64]) {
        self.begin(0, false);
        let fields = json!({ "epoch": epoch, "reason": reason, "images": images });
        self.records.line(&rows::event("skipped", step, fields));
        self.status.step = step;
        self.status.skipped += 1;
        self.warn(&format!("step {step} skipped: {reason}"));
        self.update_status();
    }

    /// A step in f16 whose gradients were too large: the loss scale is lower now.
    pub(crate) fn overflowed(&mut self, step: u64, scale: f64) {
        self.begin(0, false);
        self.records.line(&rows::event("overflowed", step, json!({ "loss_scale": scale })));
        self.note(&format!("step {step}: the loss scale is {scale} now"));
        self.update_status();
    }

    /// A checkpoint.
    pub(crate) fn saved(&mut self, path: &Path) {
        let path = path.strip_prefix(&self.info.folder).unwrap_or(path);
        let fields = json!({ "path": path });
        self.records.line(&rows::event("saved", self.status.step, fields));
        self.records.log(&format!("checkpoint {}", path.display()));
    }

    /// A checkpoint or a model that could not be written.
    pub(crate) fn not_saved(&mut self, reason: &str) {
        let fields = json!({ "reason": reason });
        self.records.line(&rows::event("not_saved", self.status.step, fields));
        self.warn(&format!("not written, the run goes on: {reason}"));
    }

    /// Images of a validation that are done.
    pub(crate) fn validating(&mut self, done: usize, all: usize) {
        self.validating.get_or_insert_with(Instant::now);
        if let Some(bar) = &self.bar {
            bar.set(done, all);
            bar.say(&format!("validating {done}/{all}"));
        }
        self.update_status();
    }

    /// A validation; its report goes to [`validation_folder`](Self::validation_folder).
    pub(crate) fn validated(&mut self, row: &ValidationRow) {
        self.begin(0, false);
        if let Some(began) = self.validating.take() {
            self.pace.add_validation(began.elapsed().as_secs_f64());
        }
        let folder = self.validation_folder(row.epoch);
        self.records.validated(row, folder);
        for line in numbers(row) {
            self.note(&line);
        }
        self.classes = Some(row.metrics.class_table());
        self.status.ap = existing(row.metrics.summary.ap);
        self.status.best = best(self.records.history());
        self.write_status();
    }

    /// Where the report of a validation is.
    pub(crate) fn validation_folder(&self, epoch: u64) -> PathBuf {
        self.info.folder.join("eval").join(format!("epoch-{epoch}"))
    }

    /// Pictures of images of a validation.
    pub(crate) fn samples(&mut self, epoch: u64, samples: &[Sample]) {
        let folder = self.validation_folder(epoch).join("samples");
        let written = samples::write(&folder, samples);
        self.records.note_trouble("the pictures of a validation", written);
        self.pass_news();
    }

    /// Says something, also to `log.txt`.
    pub(crate) fn note(&mut self, message: &str) {
        self.console.note(message);
        self.records.log(message);
    }

    /// Says something that must not be missed, also to `log.txt`.
    pub(crate) fn warn(&mut self, message: &str) {
        self.console.warn(message);
        self.records.log(&format!("note: {message}"));
    }

    /// The end of the run.
    pub(crate) fn finish(&mut self, outcome: Outcome<'_>) {
        self.bar = None;
        let time = span(self.started.elapsed().as_secs_f64());
        match outcome {
            Outcome::Finished => {
                self.status.state = State::Finished;
                self.status.eta_seconds = Some(0.0);
                if let Some(classes) = self.classes.take() {
                    self.note(classes.trim_end());
                }
                self.note(&format!("finished after {time}"));
            }
            Outcome::Interrupted => {
                self.status.state = State::Interrupted;
                self.records.log(&format!("interrupted after {time}"));
            }
            Outcome::Failed(reason) => {
                self.status.state = State::Failed;
                self.status.error = Some(reason.to_owned());
                self.records.log(&format!("failed after {time}: {reason}"));
            }
        }
        self.records.finish(self.status.step);
        self.write_status();
    }

    /// Opens the files at the first of all events.
    fn begin(&mut self, step: u64, resumed: bool) {
        let host = self.status.host.as_deref().unwrap_or("unknown");
        if !self.records.begin(step, resumed, host) {
            return;
        }
        let history = self.records.history();
        self.status.step = step;
        self.status.epoch = history.last.as_ref().map_or(1, |row| row.epoch);
        self.status.skipped = history.skipped;
        self.status.ap = history.validations.last().and_then(|row| existing(row.metrics.ap));
        self.status.best = best(history);
    }

    fn update_status(&mut self) {
        self.clock_status();
        if let Some(written) = self.status_file.update(&self.info.folder, &mut self.status) {
            self.records.note_trouble(STATUS, written);
        }
        self.pass_news();
    }

    fn write_status(&mut self) {
        self.clock_status();
        let written = self.status_file.write(&self.info.folder, &mut self.status);
        self.records.note_trouble(STATUS, written);
        self.pass_news();
    }

    /// Says what the records have trouble with; once, because `log.txt` may be among them.
    fn pass_news(&mut self) {
        for news in self.records.take_news() {
            self.warn(&news);
        }
    }

    fn clock_status(&mut self) {
        let Status { state, step, .. } = self.status;
        self.status.seconds = self.earlier + self.started.elapsed().as_secs_f64();
        match state {
            State::Running => self.status.eta_seconds = self.pace.eta(step, &self.place(step)),
            State::Finished => {}
            State::Interrupted | State::Failed => self.status.eta_seconds = None,
        }
    }

    fn place(&self, step: u64) -> Place {
        let RunInfo { steps, epochs, validate_every, .. } = self.info;
        let done = step.saturating_mul(epochs).checked_div(steps).unwrap_or(epochs);
        // There is always one after the last epoch.
        let all = if validate_every == 0 { 0 } else { epochs.div_ceil(validate_every) };
        let left = all.saturating_sub(done.checked_div(validate_every).unwrap_or(0));
        Place { steps, epochs, validations: left, ap: self.status.ap }
    }
}

/// A number that COCO's metrics give as -1 where there is none.
fn existing(value: f64) -> Option<f64> {
    (value >= 0.0).then_some(value)
}

fn best(history: &History) -> Option<Best> {
    let best = history.best().filter(|best| best.metrics.ap >= 0.0)?;
    Some(Best { ap: best.metrics.ap, step: best.step, epoch: best.epoch })
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
