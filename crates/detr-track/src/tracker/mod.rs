//! The tracker: takes the records of a run and passes them on to its sinks.

mod monitored_sink;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Instant;

use self::monitored_sink::MonitoredSink;
use crate::messages::{self, Level, Message};
use crate::{
    Event, METRICS_FILE, RunContext, RunEnd, RunInfo, Sample, Sink, SinkResult, StepRecord,
    ValidationRecord,
};

/// The records of a run on their way to any number of sinks.
///
/// A sink that fails does not disturb the others: the user is told once, by a message to all sinks, and once more
/// when it works again.
pub struct Tracker {
    run: RunContext,
    sinks: Vec<MonitoredSink>,
    /// Whether the first record came.
    started: bool,
    progress: MeanLoss,
    /// When the validation at hand began.
    validating: Option<Instant>,
    /// Number of replaced images that the user was told of.
    bad_images: usize,
    /// Metrics of the classes in the last validation, as text.
    class_table: Option<String>,
    /// News of failing sinks that the user has not been told yet.
    news: Vec<String>,
}

/// The mean loss of the steps since the last message on the progress.
#[derive(Debug, Default)]
struct MeanLoss {
    sum: f64,
    count: u32,
}

impl MeanLoss {
    fn add(&mut self, loss: f64) {
        self.sum += loss;
        self.count += 1;
    }

    /// Returns the mean of the losses since the last call; there is at least one.
    fn take(&mut self) -> f64 {
        let Self { sum, count } = std::mem::take(self);
        sum / f64::from(count)
    }
}

impl Tracker {
    /// Creates the tracker of a run that is set up and will train next. The sinks are called in the given order.
    #[must_use]
    pub fn new(info: RunInfo, sinks: Vec<Box<dyn Sink>>) -> Self {
        let mut tracker = Self {
            run: RunContext::new(info),
            sinks: sinks.into_iter().map(MonitoredSink::new).collect(),
            started: false,
            progress: MeanLoss::default(),
            validating: None,
            bad_images: 0,
            class_table: None,
            news: Vec::new(),
        };
        tracker.call(|sink, run| sink.begin(run));
        tracker.tell_news();
        tracker
    }

    /// Returns the run as it stands.
    #[must_use]
    pub const fn run(&self) -> &RunContext {
        &self.run
    }

    /// Corrects the number of steps of all epochs, where the loop knows better than [`RunInfo`] did.
    pub const fn set_total_steps(&mut self, steps: u64) {
        self.run.set_total_steps(steps);
    }

    /// Goes on after a step of an earlier process: records of later steps no longer count.
    pub fn resume(&mut self, step: u64) {
        self.start(step, true);
        self.event(&Event::Resumed { step });
    }

    /// Records a step. The user is told of the progress every [`log_every`](RunInfo::log_every) steps.
    pub fn step(&mut self, record: &StepRecord) {
        self.start(0, false);
        self.run.add_step(record);
        self.progress.add(record.loss);
        self.call(|sink, run| sink.step(record, run));
        if self.run.is_logged(record.step) {
            let loss = self.progress.take();
            let text = messages::progress(record, loss, &self.run);
            self.say(&Message::new(Level::Progress, text));
            let bad_images = std::mem::replace(&mut self.bad_images, record.bad_images);
            if record.bad_images > bad_images {
                let count = record.bad_images;
                let text = format!("images that cannot be read and were replaced: {count}");
                self.say(&Message::new(Level::Warning, text));
            }
        }
        self.tell_news();
    }

    /// Records a validation, and the detections on some of its images.
    pub fn validation(&mut self, record: &ValidationRecord, samples: &[Sample]) {
        self.start(0, false);
        if record.bad_images > 0 {
            let text = format!(
                "{} images of the validation cannot be read, and count as ones on which nothing was found",
                record.bad_images
            );
            self.say(&Message::new(Level::Warning, text));
        }
        let seconds = self.validating.take().map(|began| began.elapsed().as_secs_f64());
        self.run.add_validation(record, seconds);
        self.call(|sink, run| sink.validation(record, samples, run));
        for line in messages::validation(record) {
            self.say(&Message::new(Level::Note, line));
        }
        self.class_table = Some(record.metrics.class_table());
        self.tell_news();
    }

    /// Records something that happened beside the steps and validations.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Skipped { step, .. } => {
                self.start(0, false);
                self.run.add_skipped(*step);
            }
            Event::Overflowed { step, .. } => {
                self.start(0, false);
                self.run.set_step(*step);
            }
            Event::ValidationProgress { .. } => {
                self.validating.get_or_insert_with(Instant::now);
            }
            Event::Resumed { .. } | Event::Saved { .. } | Event::NotSaved { .. } => {}
        }
        self.call(|sink, run| sink.event(event, run));
        if let Some(message) = messages::event(event, &self.run) {
            self.say(&message);
        }
        self.tell_news();
    }

    /// Tells the user something that is good to know.
    pub fn note(&mut self, text: &str) {
        self.say(&Message::new(Level::Note, text));
    }

    /// Tells the user something that must not be missed.
    pub fn warn(&mut self, text: &str) {
        self.say(&Message::new(Level::Warning, text));
    }

    /// Writes to the log what the user knows already.
    pub fn log(&mut self, text: &str) {
        self.say(&Message::new(Level::Log, text));
    }

    /// Ends the records of the run.
    pub fn finish(&mut self, end: &RunEnd) {
        let classes = self.class_table.take().filter(|_| *end == RunEnd::Finished);
        if let Some(classes) = classes {
            self.say(&Message::new(Level::Note, classes.trim_end()));
        }
        self.say(&messages::end(end, &self.run));
        self.call(|sink, run| sink.finish(end, run));
        self.tell_news();
    }

    /// Prepares the sinks for the first record, unless that came already.
    fn start(&mut self, step: u64, resumed: bool) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        self.run.start(step, resumed);
        match self.run.history().unreadable {
            0 => {}
            1 => self.news.push(format!("{METRICS_FILE}: 1 torn line left out")),
            lines => self.news.push(format!("{METRICS_FILE}: {lines} torn lines left out")),
        }
        self.call(|sink, run| sink.start(run));
    }

    fn say(&mut self, message: &Message) {
        self.call(|sink, run| sink.message(message, run));
    }

    fn call(&mut self, mut work: impl FnMut(&mut dyn Sink, &RunContext) -> SinkResult) {
        for sink in &mut self.sinks {
            self.news.extend(sink.call(|sink| work(sink, &self.run)));
        }
    }

    /// Tells the user of the failing sinks; only once, because one that fails may be among those that are told.
    fn tell_news(&mut self) {
        for text in std::mem::take(&mut self.news) {
            self.say(&Message::new(Level::Warning, text));
        }
    }
}
