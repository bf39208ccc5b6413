//! Messages for the user about steps, validations and other events. Nothing is printed here; a sink such
//! as the command line's console shows them.

use std::path::Path;

use crate::clock::format_duration;
use crate::{Event, RunContext, RunEnd, StepRecord, ValidationRecord, machine};

/// A message for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The importance of the message.
    pub level: Level,
    /// The text, which may have several lines.
    pub text: String,
}

/// The importance of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the log only: who watches the run knows it already.
    Log,
    /// Progress of the run, which a progress bar may show instead.
    Progress,
    /// Good to know.
    Note,
    /// Must not be missed.
    Warning,
}

impl Message {
    /// Creates a message.
    pub fn new(level: Level, text: impl Into<String>) -> Self {
        Self { level, text: text.into() }
    }
}

impl RunContext {
    /// Describes a step in one line, for a progress bar.
    #[must_use]
    pub fn describe(&self, record: &StepRecord) -> String {
        progress(record, record.loss, self)
    }
}

/// Describes a step in one line, with a loss that may be a mean over several steps. The line begins with what
/// matters most, because a narrow terminal cuts off its end.
pub(crate) fn progress(record: &StepRecord, loss: f64, run: &RunContext) -> String {
    let (seconds, waited) =
        run.step_times().step_seconds().unwrap_or((record.seconds, record.waited));
    let eta = run.eta_seconds().map_or_else(|| "-".to_owned(), format_duration);
    let ap = run.last_ap().map_or_else(String::new, |ap| format!(", AP {ap:.3}"));
    let waiting = 100.0 * waited / seconds.max(1e-9);
    let memory = machine::resident_memory_mb();
    let memory = memory.map_or_else(String::new, |mb| format!(", {mb:.0} MB"));
    let StepRecord { step, epoch, lr, .. } = record;
    let (steps, epochs) = (run.info().steps, run.info().epochs);
    format!(
        "epoch {epoch}/{epochs} step {step}/{steps}, ETA {eta}: loss {loss:.4}{ap}, lr {lr:.1e}, \
         {seconds:.3} s/step, waiting {waiting:.0}%{memory}"
    )
}

/// Describes the twelve numbers of a validation in two lines, and those of masks in a third.
pub(crate) fn validation(record: &ValidationRecord) -> Vec<String> {
    let number = |value: f64| if value < 0.0 { "-".to_owned() } else { format!("{value:.3}") };
    let [ap, ap50, ap75, ap_s, ap_m, ap_l, few, some, ar, ar_s, ar_m, ar_l] =
        record.metrics.summary.values().map(number);
    let raw = record.without_ema.as_ref().map(|raw| number(raw.summary.ap));
    let raw = raw.map_or_else(String::new, |raw| format!(" (without EMA {raw})"));
    let star = if record.best { "; the best so far" } else { "" };
    let epoch = record.epoch;
    let masks = record.masks.map(|masks| {
        let [ap, ap50, ap75, small, medium, large, ..] = masks.values().map(number);
        format!("  masks: AP {ap}, AP50 {ap50}, AP75 {ap75}; small {small}, medium {medium}, large {large}")
    });
    let mut lines = vec![
        format!(
            "epoch {epoch}: AP {ap}{raw}, AP50 {ap50}, AP75 {ap75}; \
             small {ap_s}, medium {ap_m}, large {ap_l}{star}"
        ),
        format!(
            "  AR of 1, 10, 100: {few}, {some}, {ar}; small {ar_s}, medium {ar_m}, large {ar_l}"
        ),
    ];
    lines.extend(masks);
    lines
}

/// Describes another event; `None` for one that is not worth a message.
pub(crate) fn event(event: &Event, run: &RunContext) -> Option<Message> {
    Some(match event {
        Event::Resumed { step: 0 } => {
            let steps = run.info().steps;
            Message::new(
                Level::Warning,
                format!(
                    "no checkpoint is there, so the run starts over: it goes on after step 0 of {steps}"
                ),
            )
        }
        Event::Resumed { step } => {
            Message::new(Level::Note, format!("goes on after step {step} of {}", run.info().steps))
        }
        Event::Skipped { step, reason, .. } => {
            Message::new(Level::Warning, format!("step {step} skipped: {reason}"))
        }
        Event::Overflowed { step, loss_scale } => {
            Message::new(Level::Note, format!("step {step}: the loss scale is {loss_scale} now"))
        }
        Event::Saved { path } => {
            let path = in_folder(path, run);
            Message::new(Level::Log, format!("checkpoint {}", path.display()))
        }
        Event::NotSaved { reason } => {
            Message::new(Level::Warning, format!("not written, the run goes on: {reason}"))
        }
        Event::ValidationProgress { .. } => return None,
    })
}

/// Describes the end of a run.
pub(crate) fn end(end: &RunEnd, run: &RunContext) -> Message {
    let time = format_duration(run.elapsed().as_secs_f64());
    match end {
        RunEnd::Finished => Message::new(Level::Note, format!("finished after {time}")),
        RunEnd::Interrupted => Message::new(Level::Log, format!("interrupted after {time}")),
        RunEnd::Failed { reason } => {
            Message::new(Level::Log, format!("failed after {time}: {reason}"))
        }
    }
}

/// Returns a path relative to the folder of the run, if it lies there.
pub(crate) fn in_folder<'a>(path: &'a Path, run: &RunContext) -> &'a Path {
    path.strip_prefix(&run.info().folder).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunInfo;

    #[test]
    fn a_line_on_a_step_tells_pace_and_time_left() {
        let info = RunInfo { steps: 10, epochs: 2, validate_every: 1, ..RunInfo::default() };
        let mut run = RunContext::new(info);
        let record = |step| StepRecord {
            step,
            epoch: 1,
            loss: 1.0,
            lr: 1e-4,
            seconds: 2.0,
            waited: 0.5,
            ..StepRecord::default()
        };
        run.add_step(&record(1));
        run.add_step(&record(2));
        run.add_validation(&crate::tracker::tests::validation(2, 1, 0.25), Some(30.0));
        assert!(run.describe(&record(2)).contains("loss 1.0000"));
        let line = progress(&record(2), 2.0, &run);
        assert!(
            line.contains(": loss 2.0000, AP 0.250, lr 1.0e-4, 2.000 s/step, waiting 25%"),
            "{line}"
        );
        // 8 steps of 2 s, and 2 validations of 30.
        assert!(line.starts_with("epoch 1/2 step 2/10, ETA 1m16s:"), "{line}");
    }
}
