//! Whole runs, told to a tracker.

use std::path::Path;

use detr_eval::{Counts, IouKind, Metrics, Summary};
use detr_infer::cli::{Console, LogArgs};
use detr_track::history::History;
use detr_track::records::{StepRow, ValidationRow};
use detr_track::status::{Best, State, Status};
use detr_track::{METRICS_FILE, RunInfo};

use super::{Outcome, Tracker};

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
        seed: 1,
        burn: "0".to_owned(),
    }
}

fn step(step: u64) -> StepRow {
    let loss = 10.0 - f64::from(u32::try_from(step).unwrap());
    let losses = vec![("loss_ce".to_owned(), loss / 2.0)];
    StepRow { step, epoch: 1 + step / 5, loss, losses, seconds: 0.1, ..StepRow::default() }
}

fn validation(step: u64, epoch: u64, ap: f64) -> ValidationRow {
    let metrics = Metrics {
        iou: IouKind::Bbox,
        max_detections: [1, 10, 100],
        counts: Counts::default(),
        summary: Summary::from([ap; 12]),
        classes: Vec::new(),
        confusion: None,
        curves: Vec::new(),
    };
    ValidationRow { step, epoch, metrics, without_ema: None, best: true }
}

fn console() -> Console {
    Console::new(&LogArgs { quiet: true, verbose: 0 })
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// First fields of the lines of a table below its head.
fn steps(table: &str) -> Vec<u64> {
    table.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_run_that_was_killed_and_resumed_looks_like_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, console) = (folder.path(), console());
    let mut killed = Tracker::new(info(folder), &console);
    (1..=4).for_each(|number| killed.step(&step(number)));
    killed.validated(&validation(4, 1, 0.5));
    killed.saved(&folder.join("checkpoints/step-4"));
    (5..=7).for_each(|number| killed.step(&step(number)));
    killed.skipped(8, 2, "NaN", &[3]);
    killed.validated(&validation(8, 2, 0.9));
    drop(killed);

    let mut tracker = Tracker::new(info(folder), &console);
    tracker.resumed(4);
    let before = tracker.status.best.unwrap();
    assert_eq!((before.ap, before.step, tracker.status.skipped), (0.5, 4, 0));
    (5..=8).for_each(|number| tracker.step(&step(number)));
    tracker.validated(&validation(8, 2, 0.25));
    tracker.finish(Outcome::Finished);

    let history = History::read(&folder.join(METRICS_FILE)).unwrap();
    assert_eq!((history.unreadable, history.skipped, history.last), (0, 0, Some(step(8))));
    let aps: Vec<f64> = history.validations.iter().map(|row| row.metrics.ap).collect();
    assert_eq!(aps, [0.5, 0.25]);
    assert_eq!(steps(&read(folder, "metrics.csv")), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(steps(&read(folder, "validation.csv")), [4, 8]);
    let status = Status::read(folder).unwrap();
    assert_eq!((status.state, status.step, status.epoch), (State::Finished, 8, 2));
    assert_eq!(status.best, Some(Best { ap: 0.5, step: 4, epoch: 1 }));
    for name in ["plots/loss.svg", "plots/ap.svg", "eval/epoch-2/metrics.json", "log.txt"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    assert!(read(folder, "environment.json").contains("\"earlier\""));
}

/// A file where the folder should be stands for any disk that takes nothing.
#[test]
fn a_disk_that_takes_nothing_stops_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let (place, console) = (folder.path().join("run"), console());
    std::fs::write(&place, "in the way").unwrap();
    let mut tracker = Tracker::new(info(&place), &console);
    (1..=3).for_each(|number| tracker.step(&step(number)));
    tracker.validated(&validation(3, 1, 0.5));
    std::fs::remove_file(&place).unwrap();
    tracker.step(&step(4));
    tracker.finish(Outcome::Failed("lost"));
    let history = History::read(&place.join(METRICS_FILE)).unwrap();
    assert_eq!((history.last.unwrap().step, history.validations.len()), (4, 1));
    assert_eq!(steps(&read(&place, "metrics.csv")), [1, 2, 3, 4]);
    let log = read(&place, "log.txt");
    assert_eq!(log.matches("metrics.jsonl cannot be written").count(), 1, "{log}");
    assert!(log.contains("metrics.jsonl can be written again"), "{log}");
    assert_eq!(Status::read(&place).unwrap().error.as_deref(), Some("lost"));
}
