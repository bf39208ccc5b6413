//! `plots/loss.svg` and `plots/ap.svg`: the loss over steps, and AP over epochs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use detr_eval::{Chart, ChartLine, charts_svg};
use detr_types::fs::atomic_write;

use crate::series::{Series, smooth};
use crate::{
    Delivery, History, RunContext, RunEnd, Sample, Sink, SinkError, SinkResult, StepRecord,
    ValidationRecord,
};

/// Name of the folder, and of the sink in messages.
const PLOTS: &str = "plots";
/// Time between plots, beside those after every validation.
const EVERY: Duration = Duration::from_mins(1);

/// The writer of the plots, at every validation and once a minute.
#[derive(Debug)]
pub struct Plots {
    folder: PathBuf,
    started: bool,
    drawn: Instant,
}

impl Plots {
    /// Creates the sink for a run's folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.join(PLOTS), started: false, drawn: Instant::now() }
    }

    fn draw(&mut self, run: &RunContext) -> SinkResult {
        self.drawn = Instant::now();
        write(&self.folder, run.history()).map_err(|error| SinkError::new(PLOTS, error))?;
        Ok(Delivery::Written)
    }
}

impl Sink for Plots {
    fn start(&mut self, _: &RunContext) -> SinkResult {
        self.started = true;
        Ok(Delivery::Idle)
    }

    fn step(&mut self, _: &StepRecord, run: &RunContext) -> SinkResult {
        if self.drawn.elapsed() > EVERY { self.draw(run) } else { Ok(Delivery::Idle) }
    }

    fn validation(&mut self, _: &ValidationRecord, _: &[Sample], run: &RunContext) -> SinkResult {
        self.draw(run)
    }

    fn finish(&mut self, _: &RunEnd, run: &RunContext) -> SinkResult {
        if self.started { self.draw(run) } else { Ok(Delivery::Idle) }
    }
}

/// Writes `loss.svg`, and `ap.svg` once there was a validation.
fn write(folder: &Path, history: &History) -> io::Result<()> {
    let save = |name: &str, charts: &[Chart]| {
        let svg = charts_svg(charts);
        atomic_write(&folder.join(name), |file| file.write_all(svg.as_bytes()))
    };
    save("loss.svg", &[loss(history), terms(history)])?;
    if history.validations.is_empty() { Ok(()) } else { save("ap.svg", &[precision(history)]) }
}

/// Returns the chart of the weighted sum of the losses.
fn loss(history: &History) -> Chart {
    let points = history.loss.points();
    let line = |name: &str, points| ChartLine { name: name.to_owned(), points };
    let lines = vec![line("smoothed", smooth(&points)), line("loss", points)];
    Chart::new("Loss", "step", "weighted sum", lines)
}

/// Returns the chart of the losses of the last decoder layer, before they are weighted.
fn terms(history: &History) -> Chart {
    let line = |(name, series): &(String, Series)| ChartLine {
        name: name.clone(),
        points: smooth(&series.points()),
    };
    let lines = history.losses.iter().map(line).collect();
    Chart::new("Losses of the last layer, smoothed", "step", "without weight", lines)
}

/// Returns the chart of average precision, as COCO's summary has it.
#[allow(clippy::cast_precision_loss)] // epochs are few
fn precision(history: &History) -> Chart {
    let names = ["AP", "AP50", "AP75", "AP small", "AP medium", "AP large"];
    let lines = names.iter().enumerate().map(|(index, name)| {
        let last = history.validations.last().map_or(-1.0, |row| row.metrics.values()[index]);
        let name = if last < 0.0 { (*name).to_owned() } else { format!("{name}  {last:.3}") };
        ChartLine { name, points: history.metric_over_epochs(index) }
    });
    let raw = history.validations.iter().filter_map(|row| Some((row.epoch, row.without_ema?.ap)));
    let raw = ChartLine {
        name: "AP without the average".to_owned(),
        points: raw.filter(|(_, ap)| *ap >= 0.0).map(|(epoch, ap)| [epoch as f64, ap]).collect(),
    };
    let lines = lines.chain([raw]).filter(|line| !line.points.is_empty()).collect();
    Chart::new("Average precision", "epoch", "AP", lines)
}
