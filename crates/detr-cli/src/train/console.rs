//! The run on the console: messages on stderr, and a progress bar where stderr is a terminal.

use detr_infer::cli::{Console, Progress};
use detr_track::{
    Delivery, Event, Level, Message, RunContext, RunEnd, Sink, SinkResult, StepRecord,
};

/// The sink that shows a run to the user.
pub(super) struct ConsoleSink {
    console: Console,
    bar: Option<Progress>,
    /// Number of the epoch at the last step.
    epoch: u64,
    /// Whether the last step was the first of its epoch.
    is_new_epoch: bool,
}

impl ConsoleSink {
    /// Creates the sink of a console.
    pub(super) fn new(console: &Console) -> Self {
        Self { console: console.clone(), bar: None, epoch: 0, is_new_epoch: false }
    }
}

impl Sink for ConsoleSink {
    fn begin(&mut self, _: &RunContext) -> SinkResult {
        self.bar = self.console.is_interactive().then(|| self.console.progress_with_words());
        Ok(Delivery::Idle)
    }

    fn start(&mut self, run: &RunContext) -> SinkResult {
        self.epoch = run.epoch();
        Ok(Delivery::Idle)
    }

    fn step(&mut self, step: &StepRecord, run: &RunContext) -> SinkResult {
        self.is_new_epoch = step.epoch != std::mem::replace(&mut self.epoch, step.epoch);
        if let Some(bar) = &self.bar {
            bar.set(count(step.step), count(run.info().steps));
            bar.say(&run.describe(step));
        }
        Ok(Delivery::Written)
    }

    fn event(&mut self, event: &Event, _: &RunContext) -> SinkResult {
        if let (Event::ValidationProgress { done, total }, Some(bar)) = (event, &self.bar) {
            bar.set(*done, *total);
            bar.say(&format!("validating {done}/{total}"));
        }
        Ok(Delivery::Written)
    }

    fn message(&mut self, message: &Message, _: &RunContext) -> SinkResult {
        match message.level {
            Level::Log => {}
            // The bar shows the progress already.
            Level::Progress if self.bar.is_some() && !self.is_new_epoch => {}
            Level::Progress | Level::Note => self.console.note(&message.text),
            Level::Warning => self.console.warn(&message.text),
        }
        Ok(Delivery::Written)
    }

    fn finish(&mut self, _: &RunEnd, _: &RunContext) -> SinkResult {
        self.bar = None;
        Ok(Delivery::Written)
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
