//! The pictures of a run: the loss over steps, and AP over epochs.

use std::io;
use std::path::Path;

use detr_eval::{Chart, ChartLine, charts_svg};
use detr_types::fs::atomic_write;

use crate::history::History;
use crate::records::Validation;
use crate::series::{Thinned, smoothed};

/// Writes `loss.svg`, and `ap.svg` once there was a validation.
///
/// # Errors
/// What the file system reports.
pub fn write(folder: &Path, history: &History) -> io::Result<()> {
    let save = |name: &str, charts: &[Chart]| {
        let svg = charts_svg(charts);
        atomic_write(&folder.join(name), |file| file.write_all(svg.as_bytes()))
    };
    save("loss.svg", &[loss(history), parts(history)])?;
    if history.validations.is_empty() { Ok(()) } else { save("ap.svg", &[precision(history)]) }
}

/// The weighted sum of the losses.
fn loss(history: &History) -> Chart {
    let points = history.loss.points();
    let line = |name: &str, points| ChartLine { name: name.to_owned(), points };
    Chart {
        title: "Loss".to_owned(),
        x: "step".to_owned(),
        y: "weighted sum".to_owned(),
        lines: vec![line("smoothed", smoothed(&points)), line("loss", points)],
    }
}

/// Its parts of the last decoder layer, before they are weighted.
fn parts(history: &History) -> Chart {
    let line = |(name, course): &(String, Thinned)| ChartLine {
        name: name.clone(),
        points: smoothed(&course.points()),
    };
    Chart {
        title: "Losses of the last layer, smoothed".to_owned(),
        x: "step".to_owned(),
        y: "without weight".to_owned(),
        lines: history.losses.iter().map(line).collect(),
    }
}

/// Average precision as COCO's summary has it.
#[allow(clippy::cast_precision_loss)] // epochs are few
fn precision(history: &History) -> Chart {
    let names = ["AP", "AP50", "AP75", "AP small", "AP medium", "AP large"];
    let lines = names.iter().enumerate().map(|(index, name)| {
        let last = history.validations.last().map_or(-1.0, |row| row.metrics.values()[index]);
        let name = if last < 0.0 { (*name).to_owned() } else { format!("{name}  {last:.3}") };
        ChartLine { name, points: course(&history.validations, index) }
    });
    let raw = history.validations.iter().filter_map(|row| Some((row.epoch, row.without_ema?.ap)));
    let raw = ChartLine {
        name: "AP without the average".to_owned(),
        points: raw.filter(|(_, ap)| *ap >= 0.0).map(|(epoch, ap)| [epoch as f64, ap]).collect(),
    };
    Chart {
        title: "Average precision".to_owned(),
        x: "epoch".to_owned(),
        y: "AP".to_owned(),
        lines: lines.chain([raw]).filter(|line| !line.points.is_empty()).collect(),
    }
}

/// One of the twelve numbers over epochs, where it exists.
#[allow(clippy::cast_precision_loss)] // epochs are few
pub fn course(validations: &[Validation], index: usize) -> Vec<[f64; 2]> {
    let points = validations.iter().map(|row| [row.epoch as f64, row.metrics.values()[index]]);
    points.filter(|point| point[1] >= 0.0).collect()
}
