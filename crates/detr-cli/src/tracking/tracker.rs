//! The tracker: takes what a run tells, and passes it on to the files and the console.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use detr_infer::cli::{Console, Progress};
use serde_json::json;

use super::appender::Appender;
use super::clock::{rfc3339, span, unix_now};
use super::history::{self, History};
use super::pace::{Pace, Place};
use super::rows::{self, StepRow, Validation, ValidationRow};
use super::samples::{self, Sample};
use super::status::{Best, State, Status, StatusFile};
use super::tables::{self, StepTable};
use super::tensorboard::Events;
use super::troubles::Troubles;
use super::{METRICS_FILE, environment, plots};
use crate::eval::write_report;

/// Time between pictures of the loss, beside those after every validation.
const PLOT_EVERY: Duration = Duration::from_secs(60);

/// What is known of a run before its first step.
#[derive(Clone, Debug)]
pub(crate) struct RunInfo {
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// Steps of all epochs.
    pub(crate) steps: u64,
    /// Epochs.
    pub(crate) epochs: u64,
    /// Epochs between validations; 0 for none.
    pub(crate) validate_every: u64,
    /// Steps between lines on the console.
    pub(crate) log_every: u64,
    /// The architecture.
    pub(crate) model: String,
    /// The file of settings.
    pub(crate) config: String,
    /// The device, as it is shown.
    pub(crate) device: String,
    /// The seed.
    pub(crate) seed: u64,
}

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
pub(crate) struct Tracker<'a> {
    info: RunInfo,
    console: &'a Console,
    bar: Option<Progress>,
    /// `None` until the first step, or until the run was resumed.
    files: Option<Files>,
    log: Appender,
    history: History,
    status: Status,
    status_file: StatusFile,
    troubles: Troubles,
    pace: Pace,
    /// Steps of which TensorBoard is to hear: sums since the last time, by name.
    scalars: Sums,
    /// Seconds of work of the process before this one.
    earlier: f64,
    started: Instant,
    plotted: Instant,
    validating: Option<Instant>,
    /// The table of the classes of the last validation.
    classes: Option<String>,
}

struct Files {
    lines: Appender,
    events: Events,
    /// `None` while they cannot be made.
    tables: Option<Tables>,
}

struct Tables {
    layout: StepTable,
    steps: Appender,
    validations: Appender,
}

impl<'a> Tracker<'a> {
    /// For a run that is about to start or to go on; [`resumed`](Self::resumed) says which.
    pub(crate) fn new(info: RunInfo, console: &'a Console) -> Self {
        let before = Status::read(&info.folder).unwrap_or_default();
        let started = Some(before.started).filter(|started| !started.is_empty());
        let mut status = Status {
            steps: info.steps,
            epochs: info.epochs,
            epoch: 1,
            model: info.model.clone(),
            config: info.config.clone(),
            device: info.device.clone(),
            started: started.unwrap_or_else(|| rfc3339(unix_now())),
            seconds: before.seconds,
            ..Status::default()
        };
        status.enter_process();
        let mut tracker = Self {
            log: Appender::new(info.folder.join("log.txt")),
            bar: console.is_interactive().then(|| console.progress_with_words()),
            earlier: before.seconds,
            info,
            console,
            files: None,
            history: History::default(),
            status,
            status_file: StatusFile::default(),
            troubles: Troubles::default(),
            pace: Pace::default(),
            scalars: Sums::default(),
            started: Instant::now(),
            plotted: Instant::now(),
            validating: None,
            classes: None,
        };
        let written = environment::write(&tracker.info.folder, &tracker.info);
        tracker.tell_trouble(environment::ENVIRONMENT, written);
        tracker.write_status();
        tracker
    }

    /// The run goes on after a step; what the files say of later ones is taken out.
    pub(crate) fn resumed(&mut self, step: u64) {
        self.begin(step, true);
        self.line(&rows::event("resumed", step, json!({})));
        self.note(&format!("goes on after step {step} of {}", self.info.steps));
        self.write_status();
    }

    /// A step.
    pub(crate) fn step(&mut self, row: &StepRow) {
        self.begin(0, false);
        self.line(&row.line());
        let table = self.files.as_mut().and_then(|files| files.tables.as_mut());
        let written = table.map(|table| table.steps.append(table.layout.add(row).as_bytes()));
        self.tell_trouble("metrics.csv", written.unwrap_or(Ok(())));

        let next_epoch = row.epoch != self.status.epoch;
        self.pace.add(row);
        self.scalars.add(row);
        self.history.add_step(row);
        self.status.step = row.step;
        self.status.epoch = row.epoch;
        self.status.loss = Some(row.loss);
        let place = self.place(row.step);
        if let Some(bar) = &self.bar {
            bar.set(index(row.step), index(place.steps));
            bar.say(&self.pace.glance(row, &place));
        }
        if row.step.is_multiple_of(self.info.log_every.max(1)) || row.step == place.steps {
            let line = self.pace.line(row, &place);
            // The bar shows it already.
            if self.bar.is_none() || next_epoch {
                self.note(&line)
            } else {
                self.log(&line)
            }
            self.write_events(row.step);
        }
        if self.plotted.elapsed() > PLOT_EVERY {
            self.plot();
        }
        self.update_status();
    }

    /// A step that changed nothing, and the images of its batch.
    pub(crate) fn skipped(&mut self, step: u64, epoch: u64, reason: &str, images: &[i64]) {
        self.begin(0, false);
        let fields = json!({ "epoch": epoch, "reason": reason, "images": images });
        self.line(&rows::event("skipped", step, fields));
        self.status.step = step;
        self.status.skipped += 1;
        self.warn(&format!("step {step} skipped: {reason}"));
        self.update_status();
    }

    /// A checkpoint.
    pub(crate) fn saved(&mut self, path: &Path) {
        let step = self.status.step;
        let path = path.strip_prefix(&self.info.folder).unwrap_or(path);
        self.line(&rows::event("saved", step, json!({ "path": path })));
        self.log(&format!("checkpoint {}", path.display()));
    }

    /// A checkpoint that could not be written.
    pub(crate) fn not_saved(&mut self, reason: &str) {
        let step = self.status.step;
        self.line(&rows::event("not_saved", step, json!({ "reason": reason })));
        self.warn(&format!("no checkpoint could be written: {reason}"));
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
        let summary = row.summary();
        self.line(&summary.line());
        let table = self.files.as_mut().and_then(|files| files.tables.as_mut());
        let line = tables::validation_line(&summary);
        let written = table.map(|table| table.validations.append(line.as_bytes()));
        self.tell_trouble("validation.csv", written.unwrap_or(Ok(())));

        if let Some(began) = self.validating.take() {
            self.pace.add_validation(began.elapsed().as_secs_f64());
        }
        self.history.add_validation(summary.clone());
        self.status.ap = existing(summary.metrics.ap);
        self.status.best = best(&self.history);
        for line in told(&summary, row.best) {
            self.note(&line);
        }
        self.classes = Some(row.metrics.class_table());
        let report = write_report(&self.validation_folder(row.epoch, row.ema), &row.metrics);
        self.tell_trouble("the report of the validation", report);
        let tags = super::METRICS.iter().zip(summary.metrics.values());
        let tags = tags.filter(|(_, value)| *value >= 0.0);
        let kind = if row.ema { "validation_ema" } else { "validation" };
        let scalars: Vec<_> = tags.map(|(tag, value)| (format!("{kind}/{tag}"), value)).collect();
        self.write_scalars(row.step, &scalars);
        self.plot();
        self.write_status();
    }

    /// Where the report of a validation is.
    pub(crate) fn validation_folder(&self, epoch: u64, ema: bool) -> PathBuf {
        let end = if ema { "-ema" } else { "" };
        self.info.folder.join("eval").join(format!("epoch-{epoch}{end}"))
    }

    /// Pictures of images of a validation.
    pub(crate) fn samples(&mut self, epoch: u64, ema: bool, samples: &[Sample]) {
        let folder = self.validation_folder(epoch, ema).join("samples");
        let written = samples::write(&folder, samples);
        self.tell_trouble("the pictures of the validation", written);
    }

    /// Says something, also to `log.txt`.
    pub(crate) fn note(&mut self, message: &str) {
        self.console.note(message);
        self.log(message);
    }

    /// Says something that must not be missed, also to `log.txt`.
    pub(crate) fn warn(&mut self, message: &str) {
        self.console.warn(message);
        self.log(&format!("note: {message}"));
    }

    /// The end of the run.
    pub(crate) fn finish(mut self, outcome: Outcome<'_>) {
        self.bar = None;
        let time = span(self.started.elapsed().as_secs_f64());
        self.status.eta_seconds = None;
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
                self.log(&format!("interrupted after {time}"));
            }
            Outcome::Failed(reason) => {
                self.status.state = State::Failed;
                self.status.error = Some(reason.to_owned());
                self.log(&format!("failed after {time}: {reason}"));
            }
        }
        if self.files.is_some() {
            self.write_events(self.status.step);
            self.plot();
        }
        self.write_status();
    }

    /// Opens the files, once.
    fn begin(&mut self, step: u64, resumed: bool) {
        if self.files.is_some() {
            return;
        }
        let folder = self.info.folder.clone();
        let lines = folder.join(METRICS_FILE);
        match history::cut(&lines, step) {
            Ok(cut) if cut.torn > 0 => {
                let lines = if cut.torn == 1 { "line" } else { "lines" };
                self.warn(&format!("{METRICS_FILE}: {} torn {lines} left out", cut.torn));
            }
            Ok(_) => {}
            Err(error) => self.tell_trouble("the metrics of earlier steps", Err(error)),
        }
        self.history = History::read(&lines).unwrap_or_default();
        self.status.step = step;
        self.status.epoch = self.history.last.as_ref().map_or(1, |row| row.epoch);
        self.status.skipped = self.history.skipped;
        self.status.ap = self.history.validations.last().and_then(|row| existing(row.metrics.ap));
        self.status.best = best(&self.history);
        let host = self.status.host.clone().unwrap_or_else(|| "unknown".to_owned());
        let (events, written) =
            Events::start(&folder.join("tensorboard"), &host, resumed.then_some(step));
        self.files = Some(Files { lines: Appender::new(lines), events, tables: None });
        self.tell_trouble("tensorboard", written);
        self.make_tables();
    }

    /// Makes the tables of `metrics.jsonl`, unless they are there.
    fn make_tables(&mut self) {
        let Some(files) = self.files.as_mut().filter(|files| files.tables.is_none()) else {
            return;
        };
        let folder = &self.info.folder;
        let [steps, validations] = ["metrics.csv", "validation.csv"].map(|name| folder.join(name));
        let made = tables::rebuild(&folder.join(METRICS_FILE), &steps, &validations);
        let made = made.map(|layout| {
            let (steps, validations) = (Appender::new(steps), Appender::new(validations));
            files.tables = Some(Tables { layout, steps, validations });
        });
        self.tell_trouble("metrics.csv", made);
    }

    fn line(&mut self, line: &str) {
        let Some(files) = &mut self.files else { return };
        let written = files.lines.append(format!("{line}\n").as_bytes());
        self.tell_trouble(METRICS_FILE, written);
    }

    /// A message in `log.txt`, with the time before its first line.
    fn log(&mut self, message: &str) {
        let time = rfc3339(unix_now());
        let written = self.log.append(format!("{time} {message}\n").as_bytes());
        // Not by `warn`, which would end here again.
        if let Some(news) = self.troubles.news("log.txt", written) {
            self.console.warn(&news);
        }
    }

    fn tell_trouble<E: std::fmt::Display>(&mut self, name: &'static str, result: Result<(), E>) {
        if let Some(news) = self.troubles.news(name, result) {
            self.warn(&news);
        }
    }

    /// Means of the steps since the last time.
    fn write_events(&mut self, step: u64) {
        let scalars = self.scalars.take();
        if !scalars.is_empty() {
            self.write_scalars(step, &scalars);
        }
    }

    fn write_scalars(&mut self, step: u64, scalars: &[(String, f64)]) {
        let Some(files) = &mut self.files else { return };
        let written = files.events.add(step, scalars);
        self.tell_trouble("tensorboard", written);
    }

    fn plot(&mut self) {
        self.plotted = Instant::now();
        self.make_tables();
        let written = plots::write(&self.info.folder.join("plots"), &self.history);
        self.tell_trouble("plots", written);
    }

    fn update_status(&mut self) {
        self.clock_status();
        if let Some(written) = self.status_file.update(&self.info.folder, &mut self.status) {
            self.tell_trouble(super::STATUS, written);
        }
    }

    fn write_status(&mut self) {
        self.clock_status();
        let written: io::Result<()> = self.status_file.write(&self.info.folder, &mut self.status);
        self.tell_trouble(super::STATUS, written);
    }

    fn clock_status(&mut self) {
        self.status.seconds = self.earlier + self.started.elapsed().as_secs_f64();
        if self.status.state == State::Running {
            self.status.eta_seconds =
                self.pace.eta(self.status.step, &self.place(self.status.step));
        }
    }

    fn place(&self, step: u64) -> Place {
        let RunInfo { steps, epochs, validate_every, .. } = self.info;
        let done = step.saturating_mul(epochs).checked_div(steps).unwrap_or(epochs);
        let of = |epochs: u64| epochs.checked_div(validate_every).unwrap_or(0);
        Place {
            steps,
            epochs,
            validations: of(epochs).saturating_sub(of(done)),
            ap: self.status.ap,
        }
    }
}

/// Sums of what steps say, by the tags of TensorBoard.
#[derive(Default)]
struct Sums(Vec<(String, f64, u32)>);

impl Sums {
    fn add(&mut self, row: &StepRow) {
        let own = [
            ("train/loss", row.loss),
            ("train/lr", row.lr),
            ("train/grad_norm", row.grad_norm),
            ("time/step_seconds", row.seconds),
            ("time/waited_seconds", row.waited),
        ];
        let own = own.map(|(tag, value)| (tag.to_owned(), value));
        let losses = row.losses.iter().map(|(name, value)| (format!("losses/{name}"), *value));
        for (tag, value) in own.into_iter().chain(losses).filter(|(_, value)| value.is_finite()) {
            match self.0.iter_mut().find(|(of, ..)| *of == tag) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1),
                None => self.0.push((tag, value, 1)),
            }
        }
    }

    /// Means; the sums begin anew.
    fn take(&mut self) -> Vec<(String, f64)> {
        let sums = std::mem::take(&mut self.0).into_iter();
        sums.map(|(tag, sum, count)| (tag, sum / f64::from(count))).collect()
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

/// The twelve numbers in two lines.
fn told(row: &Validation, best: bool) -> [String; 2] {
    let number = |value: f64| if value < 0.0 { "-".to_owned() } else { format!("{value:.3}") };
    let s = &row.metrics;
    let [ap, ap50, ap75, ap_s, ap_m, ap_l, few, some, ar, ar_s, ar_m, ar_l] =
        s.values().map(number);
    let of = if row.ema { " of the average" } else { "" };
    let star = if best { "; the best so far" } else { "" };
    [
        format!(
            "epoch {}{of}: AP {ap}, AP50 {ap50}, AP75 {ap75}; small {ap_s}, medium {ap_m}, large {ap_l}{star}",
            row.epoch
        ),
        format!(
            "  AR of 1, 10, 100: {few}, {some}, {ar}; small {ar_s}, medium {ar_m}, large {ar_l}"
        ),
    ]
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use detr_eval::{Counts, IouKind, Metrics, Summary};
    use detr_infer::cli::LogArgs;

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
        ValidationRow { step, epoch, metrics, best: true, ema: false }
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
}
