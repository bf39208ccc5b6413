//! Line charts as SVG, one below the other: the courses of a training, of one run or several, and the curves of
//! precision over recall.

use std::fmt::Write;

use crate::curves::CurveSet;

/// Size of a chart and of the field in it, in the picture's own units.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 72.0;
const TOP: f64 = 44.0;
const FIELD: [f64; 2] = [640.0, 312.0];
/// Lines in the legend; more would not fit.
const LEGEND: usize = 16;
/// Colours that differ for most eyes (Okabe and Ito 2008), used in turn.
const COLOURS: [&str; 7] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a800"];
/// Points up to which each is marked.
const MARKED: usize = 60;

/// Lines over a common axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// The title above the chart.
    pub title: String,
    /// The label of the horizontal axis.
    pub x: String,
    /// The label of the vertical axis.
    pub y: String,
    /// Lines, the most important first.
    pub lines: Vec<ChartLine>,
    /// Whether both axes go from 0 to 1, whatever the points are.
    pub from_0_to_1: bool,
}

impl Chart {
    /// Makes a chart whose axes go as far as its points.
    #[must_use]
    pub fn new(title: &str, x: &str, y: &str, lines: Vec<ChartLine>) -> Self {
        let [title, x, y] = [title, x, y].map(str::to_owned);
        Self { title, x, y, lines, from_0_to_1: false }
    }
}

/// A line of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChartLine {
    /// Name in the legend.
    pub name: String,
    /// Points from left to right; those that are not finite leave a gap.
    pub points: Vec<[f64; 2]>,
}

/// A range that ends on round numbers, and the distance of its grid lines.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    /// Covers the values, from 0 on if they are not far above it.
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return Self { low: 0.0, high: 1.0, step: 0.2 };
        }
        let low = if low > 0.0 && low < 0.7 * high { 0.0 } else { low };
        let span = (high - low).max(low.abs().max(high.abs()) * 1e-6).max(1e-12);
        let step = round_step(span / 6.0);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let last = if last > first { last } else { first + 1.0 };
        Self { low: first * step, high: last * step, step }
    }

    /// Returns the place of a value along the axis, from 0 to 1.
    fn place(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Returns the places of grid lines; they are few, whatever the numbers are.
    fn ticks(self) -> impl Iterator<Item = f64> {
        (0..=12)
            .map(move |index| self.low + f64::from(index) * self.step)
            .take_while(move |value| *value <= self.high + 0.01 * self.step)
    }

    /// Writes a number with as many digits as the grid needs.
    fn label(self, value: f64) -> String {
        if self.step >= 1e6 || self.step < 1e-5 {
            return format!("{value:.1e}");
        }
        let digits = (0..5).find(|&digits| {
            let scaled = self.step * 10_f64.powi(digits);
            (scaled - scaled.round()).abs() < 1e-6 * scaled
        });
        let digits = usize::try_from(digits.unwrap_or(5)).unwrap_or(5);
        // No "-0".
        format!("{:.digits$}", if value.abs() < self.step * 1e-6 { 0.0 } else { value })
    }
}

/// 1, 2 or 5 times a power of ten, at least the value.
fn round_step(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|digit| digit * power)
        .into_iter()
        // A value that is one of them to within rounding is one of them.
        .find(|&s| s >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// Charts as one picture, one below the other.
#[must_use]
#[allow(clippy::cast_precision_loss)] // a handful of charts
pub fn charts_svg(charts: &[Chart]) -> String {
    let height = HEIGHT * charts.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (index, chart) in charts.iter().enumerate() {
        draw(&mut svg, chart, HEIGHT * index as f64);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, chart: &Chart, top: f64) {
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let [x, y] = [0, 1].map(|axis| {
        if chart.from_0_to_1 {
            Scale { low: 0.0, high: 1.0, step: 0.1 }
        } else {
            Scale::over(points().map(|point| point[axis]))
        }
    });
    let top = top + TOP;
    text(svg, [LEFT, top - 18.0], "font-size=\"16\"", &chart.title);
    grid(svg, chart, [x, y], top);
    let place = |point: &[f64; 2]| {
        [LEFT + x.place(point[0]) * FIELD[0], top + (1.0 - y.place(point[1])) * FIELD[1]]
    };
    // The most important on top of the others.
    for (rank, line) in chart.lines.iter().enumerate().rev() {
        for part in line.points.split(|point| !point.iter().all(|value| value.is_finite())) {
            let part: Vec<[f64; 2]> = part.iter().map(place).collect();
            polyline(svg, &part, rank);
        }
    }
    for (row, line) in chart.lines.iter().take(LEGEND).enumerate() {
        let (left, y) = (LEFT + FIELD[0] + 20.0, row_y(top, row));
        let _ = writeln!(svg, "<path d=\"M{left} {}h22\" {}/>", y - 4.0, style(row));
        // The end of a path says more than its beginning.
        let cut = line.name.chars().count().saturating_sub(34);
        let name: String = line.name.chars().skip(cut).collect();
        text(svg, [left + 28.0, y], "", &name);
    }
    if chart.lines.len() > LEGEND {
        let more = format!("and {} more", chart.lines.len() - LEGEND);
        text(svg, [LEFT + FIELD[0] + 20.0, row_y(top, LEGEND)], "fill=\"#555\"", &more);
    }
}

#[allow(clippy::cast_precision_loss)] // a handful of rows
fn row_y(top: f64, row: usize) -> f64 {
    top + 12.0 + 18.0 * row as f64
}

/// Returns the dash of a line, one of its own if colours come again, and grey for lines without a name.
fn style(rank: usize) -> String {
    if rank >= LEGEND {
        return "fill=\"none\" stroke=\"#ccc\"".to_owned();
    }
    let dash = ["none", "7 3", "2 2"][(rank / COLOURS.len()) % 3];
    let width = if rank == 0 { 2.2 } else { 1.4 };
    let colour = COLOURS[rank % COLOURS.len()];
    format!(
        "fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-dasharray=\"{dash}\""
    )
}

fn polyline(svg: &mut String, points: &[[f64; 2]], rank: usize) {
    if points.len() > 1 {
        let list: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(svg, "<polyline points=\"{}\" {}/>", list.join(" "), style(rank));
    }
    if points.len() <= MARKED {
        let colour = COLOURS[rank % COLOURS.len()];
        for [x, y] in points {
            let _ =
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>");
        }
    }
}

fn grid(svg: &mut String, chart: &Chart, [x, y]: [Scale; 2], top: f64) {
    let bottom = top + FIELD[1];
    for value in x.ticks() {
        let at = LEFT + x.place(value) * FIELD[0];
        let _ = writeln!(svg, "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#e4e4e4\"/>");
        let label = x.label(value);
        text(svg, [at, bottom + 18.0], "text-anchor=\"middle\" fill=\"#555\"", &label);
    }
    for value in y.ticks() {
        let at = top + (1.0 - y.place(value)) * FIELD[1];
        let right = LEFT + FIELD[0];
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#e4e4e4\"/>");
        let label = y.label(value);
        text(svg, [LEFT - 8.0, at + 4.0], "text-anchor=\"end\" fill=\"#555\"", &label);
    }
    let middle = LEFT + FIELD[0] / 2.0;
    text(svg, [middle, bottom + 38.0], "text-anchor=\"middle\"", &chart.x);
    let y = top + FIELD[1] / 2.0;
    let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 18 {y:.1})\"");
    text(svg, [18.0, y], &turned, &chart.y);
}

/// Draws precision over recall: the mean and every class, the best by name and average precision.
#[must_use]
pub fn curves_svg(curves: &CurveSet, title: &str) -> String {
    let line = |ap: f64, name: &str, precision: &[f64]| {
        let ap = if ap < 0.0 { "-".to_owned() } else { format!("{ap:.3}") };
        let name: String = name.chars().take(24).collect();
        let point =
            |(&recall, &precision)| [recall, if precision < 0.0 { f64::NAN } else { precision }];
        let points = curves.recall.iter().zip(precision).map(point).collect();
        ChartLine { name: format!("{ap}  {name}"), points }
    };
    let mean = crate::mean::mean_of_existing(curves.classes.iter().map(|class| class.ap));
    let mut classes: Vec<_> = curves.classes.iter().collect();
    classes.sort_by(|a, b| b.ap.total_cmp(&a.ap));
    let classes = classes.iter().map(|class| line(class.ap, &class.name, &class.precision));
    let iou = curves.iou.map_or("0.50:0.95".to_owned(), |iou| format!("{iou:.2}"));
    let lines = std::iter::once(line(mean, "mean", &curves.mean)).chain(classes).collect();
    let chart = Chart::new(&format!("{title} (IoU {iou})"), "recall", "precision", lines);
    charts_svg(&[Chart { from_0_to_1: true, ..chart }])
}

/// Writes words at a place, made harmless.
fn text(svg: &mut String, [x, y]: [f64; 2], style: &str, words: &str) {
    let mut safe = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            // XML has no form for most of them.
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{safe}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curves::ClassCurve;

    #[test]
    fn scales_cover_their_values_with_round_numbers() {
        for (values, expected) in [
            (vec![0.3, 5.7], (0.0, 6.0, 1.0)),
            (vec![0.0, 0.42], (0.0, 0.5, 0.1)),
            (vec![990.0, 1010.0], (990.0, 1010.0, 5.0)),
            (vec![3.0], (3.0, 3.000_000_5, 0.000_000_5)),
            (vec![f64::NAN], (0.0, 1.0, 0.2)),
            (vec![0.0], (0.0, 1e-12, 1e-12)),
        ] {
            let scale = Scale::over(values.iter().copied());
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1e-3);
            let found = (scale.low, scale.high, scale.step);
            let all = [(found.0, expected.0), (found.1, expected.1), (found.2, expected.2)];
            assert!(all.iter().all(|&(a, b)| near(a, b)), "{values:?} {found:?}");
            assert!((1..=13).contains(&scale.ticks().count()), "{values:?}");
        }
        assert_eq!(Scale { low: 0.0, high: 1.0, step: 0.05 }.label(0.15), "0.15");
    }

    #[test]
    fn odd_numbers_and_names_make_a_picture_all_the_same() {
        let points =
            vec![[0.0, 1.0], [1.0, f64::NAN], [2.0, f64::INFINITY], [3.0, 2.0], [4.0, 1.0]];
        let line = ChartLine { name: "<&\u{7}>".to_owned(), points };
        let lines = vec![line; 40];
        let chart = Chart { title: "t".to_owned(), lines, ..Chart::default() };
        let svg = charts_svg(&[chart, Chart::default()]);
        assert!(svg.contains("&lt;&amp; &gt;") && svg.contains("and 24 more"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        // The gap parts the line: one point alone, and a line of two.
        assert_eq!(svg.matches("<polyline").count(), 40);
        assert_eq!(svg.matches("<circle").count(), 120);
    }

    #[test]
    fn the_picture_has_every_curve_and_only_harmless_text() {
        let class = |index: u8| ClassCurve {
            category_id: index.into(),
            name: format!("<b>&{index}\u{7}"),
            ap: f64::from(index) / 100.0,
            precision: vec![1.0, 0.5, 0.0],
        };
        let mut curves = CurveSet {
            iou: Some(0.5),
            recall: vec![0.0, 0.5, 1.0],
            mean: vec![1.0, 0.5, 0.0],
            classes: (0..30).map(class).collect(),
        };
        let svg = curves_svg(&curves, "one & two");
        assert_eq!(svg.matches("<polyline").count(), 31);
        assert!(svg.contains("and 15 more") && svg.contains("one &amp; two (IoU 0.50)"));
        assert!(svg.contains("&lt;b&gt;&amp;29 ") && !svg.contains("<b>"));
        assert!(svg.contains("points=\"72.0,44.0 392.0,200.0 712.0,356.0\""));
        curves.classes.clear();
        curves.mean = vec![-1.0; 3];
        assert!(!curves_svg(&curves, "").contains("NaN"));
    }
}
