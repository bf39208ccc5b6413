//! Whole runs, given to a tracker.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use detr_eval::{Counts, IouKind, Metrics, Summary};

use super::Tracker;
use crate::{
    BestValidation, Delivery, Event, History, Level, METRICS_FILE, Message, ReportedState,
    RunContext, RunEnd, RunInfo, RunStatus, Sink, SinkError, SinkResult, StepRecord,
    ValidationRecord, folder_sinks,
};

fn info(folder: &Path) -> RunInfo {
    RunInfo {
        folder: folder.to_owned(),
        steps: 8,
        epochs: 2,
        validate_every: 1,
        log_every: 2,
        model: "detr-tiny".to_owned(),
        config: "a.toml".to_owned(),
        device: "flex".to_owned(),
        ..RunInfo::default()
    }
}

fn tracker(folder: &Path) -> Tracker {
    Tracker::new(info(folder), folder_sinks(folder))
}

fn step(step: u64) -> StepRecord {
    let loss = 10.0 - f64::from(u32::try_from(step).unwrap());
    let losses = vec![("loss_ce".to_owned(), loss / 2.0)];
    StepRecord { step, epoch: 1 + step / 5, loss, losses, seconds: 0.1, ..StepRecord::default() }
}

pub(crate) fn validation(step: u64, epoch: u64, ap: f64) -> ValidationRecord {
    let metrics = Metrics {
        iou: IouKind::Bbox,
        max_detections: [1, 10, 100],
        counts: Counts::default(),
        summary: Summary::from([ap; 12]),
        classes: Vec::new(),
        confusion: None,
        curves: Vec::new(),
    };
    ValidationRecord {
        step,
        epoch,
        metrics,
        masks: None,
        without_ema: None,
        best: true,
        bad_images: 0,
    }
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// Returns the first cells of the rows of a table.
fn steps(table: &str) -> Vec<u64> {
    table.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_run_that_was_killed_and_resumed_looks_like_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut killed = tracker(folder);
    (1..=4).for_each(|number| killed.step(&step(number)));
    killed.validation(&validation(4, 1, 0.5), &[]);
    killed.event(&Event::Saved { path: folder.join("checkpoints/step-4") });
    (5..=7).for_each(|number| killed.step(&step(number)));
    let (reason, images) = ("NaN".to_owned(), vec![3]);
    killed.event(&Event::Skipped { step: 8, epoch: 2, reason, images });
    killed.validation(&validation(8, 2, 0.9), &[]);
    drop(killed);

    let mut tracker = tracker(folder);
    tracker.resume(4);
    let before = tracker.run().best().unwrap();
    assert_eq!((before.ap, before.step, tracker.run().history().skipped), (0.5, 4, 0));
    (5..=8).for_each(|number| tracker.step(&step(number)));
    tracker.validation(&validation(8, 2, 0.25), &[]);
    tracker.finish(&RunEnd::Finished);

    let history = History::read(&folder.join(METRICS_FILE)).unwrap();
    assert_eq!((history.unreadable, history.skipped, history.last), (0, 0, Some(step(8))));
    let aps: Vec<f64> = history.validations.iter().map(|row| row.metrics.ap).collect();
    assert_eq!(aps, [0.5, 0.25]);
    assert_eq!(steps(&read(folder, "metrics.csv")), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(steps(&read(folder, "validation.csv")), [4, 8]);
    let status = RunStatus::read(folder).unwrap();
    assert_eq!((status.state, status.step, status.epoch), (ReportedState::Finished, 8, 2));
    assert_eq!(status.best, Some(BestValidation { ap: 0.5, step: 4, epoch: 1 }));
    for name in ["plots/loss.svg", "plots/ap.svg", "eval/epoch-2/metrics.json", "log.txt"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    assert!(read(folder, "environment.json").contains("\"earlier\""));
    assert!(read(folder, METRICS_FILE).contains("\"path\":\"checkpoints/step-4\""));
}

/// A file where the folder should be stands for any disk that takes nothing.
#[test]
fn a_disk_that_takes_nothing_stops_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    std::fs::write(&place, "in the way").unwrap();
    let mut tracker = tracker(&place);
    (1..=3).for_each(|number| tracker.step(&step(number)));
    tracker.validation(&validation(3, 1, 0.5), &[]);
    std::fs::remove_file(&place).unwrap();
    tracker.step(&step(4));
    tracker.finish(&RunEnd::Failed { reason: "lost".to_owned() });
    let history = History::read(&place.join(METRICS_FILE)).unwrap();
    assert_eq!((history.last.unwrap().step, history.validations.len()), (4, 1));
    assert_eq!(steps(&read(&place, "metrics.csv")), [1, 2, 3, 4]);
    let log = read(&place, "log.txt");
    assert_eq!(log.matches("metrics.jsonl cannot be written").count(), 1, "{log}");
    assert!(log.contains("metrics.jsonl can be written again"), "{log}");
    assert_eq!(RunStatus::read(&place).unwrap().error.as_deref(), Some("lost"));
}

/// A sink that fails at every step, beside one that collects all messages.
struct Broken;

impl Sink for Broken {
    fn step(&mut self, _: &StepRecord, _: &RunContext) -> SinkResult {
        Err(SinkError::new("the service", "offline"))
    }
}

#[derive(Clone, Default)]
struct MessageLog(Rc<RefCell<Vec<Message>>>);

impl Sink for MessageLog {
    fn message(&mut self, message: &Message, _: &RunContext) -> SinkResult {
        self.0.borrow_mut().push(message.clone());
        Ok(Delivery::Written)
    }
}

#[test]
fn a_sink_that_fails_is_told_of_once_and_disturbs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let heard = MessageLog::default();
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Broken), Box::new(heard.clone())];
    let mut tracker = Tracker::new(info(folder.path()), sinks);
    (1..=4).for_each(|number| tracker.step(&step(number)));
    let messages = heard.0.borrow();
    let [warning, first, second] = &messages[..] else { panic!("{messages:?}") };
    let text = "the service cannot be written, and is tried again: offline";
    assert_eq!(*warning, Message::new(Level::Warning, text));
    // Means of two steps each.
    assert!(first.level == Level::Progress && first.text.contains("loss 8.5000"), "{first:?}");
    assert!(second.text.contains("loss 6.5000"), "{second:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
