//! A picture of the curves, as SVG: small enough for a writer of our own, sharp at any size.

use std::fmt::Write;

use crate::curves::CurveSet;

/// Size of the picture and of the field in it, in its own units.
const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 48.0;
const FIELD: [f64; 2] = [560.0, 448.0];

/// The line of the mean.
const MEAN: &str = "stroke=\"black\" stroke-width=\"3\"";
/// Classes that get a line in the legend, best first; more would not fit.
const LEGEND: usize = 20;
/// Colours that differ for most eyes (Okabe and Ito 2008), used in turn.
pub(crate) const COLOURS: [&str; 7] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a800"];

/// Precision over recall: the mean in black, every class in a thin line, the best and the mean by
/// name and average precision.
#[must_use]
pub fn curves_svg(curves: &CurveSet, title: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let iou = curves.iou.map_or("0.50:0.95".to_owned(), |iou| format!("{iou:.2}"));
    text(&mut svg, [LEFT, 28.0], "font-size=\"16\"", &format!("{title} (IoU {iou})"));
    grid(&mut svg);
    let mut order: Vec<_> = curves.classes.iter().collect();
    order.sort_by(|a, b| b.ap.total_cmp(&a.ap));
    // The best on top of the others.
    for (rank, class) in order.iter().enumerate().rev() {
        line(&mut svg, &curves.recall, &class.precision, &style(rank));
    }
    line(&mut svg, &curves.recall, &curves.mean, MEAN);

    let column = LEFT + FIELD[0] + 16.0;
    let mean = crate::mean::mean_of_existing(curves.classes.iter().map(|class| class.ap));
    legend(&mut svg, column, 0, MEAN, &format!("{}  mean", number(mean)));
    for (rank, class) in order.iter().take(LEGEND).enumerate() {
        let name: String = class.name.chars().take(24).collect();
        let words = format!("{}  {name}", number(class.ap));
        legend(&mut svg, column, rank + 1, &style(rank), &words);
    }
    if order.len() > LEGEND {
        let more = format!("and {} more", order.len() - LEGEND);
        text(&mut svg, [column, row_y(LEGEND + 1)], "fill=\"#555\"", &more);
    }
    svg.push_str("</svg>\n");
    svg
}

/// The line of a class by its rank: colour and dash of its own, grey for those without a name.
fn style(rank: usize) -> String {
    if rank >= LEGEND {
        return "stroke=\"#ccc\"".to_owned();
    }
    let colour = COLOURS[rank % COLOURS.len()];
    let dash = ["none", "7 3", "2 2"][rank / COLOURS.len()];
    format!("stroke=\"{colour}\" stroke-width=\"1.5\" stroke-dasharray=\"{dash}\"")
}

fn number(ap: f64) -> String {
    if ap < 0.0 { "-".to_owned() } else { format!("{ap:.3}") }
}

/// Where a point of the field is in the picture.
fn place(recall: f64, precision: f64) -> [f64; 2] {
    [LEFT + recall * FIELD[0], TOP + (1.0 - precision) * FIELD[1]]
}

fn grid(svg: &mut String) {
    for tenth in 0..=10 {
        let value = f64::from(tenth) / 10.0;
        let ([x, bottom], [right, y]) = (place(value, 0.0), place(1.0, value));
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom:.1}M{LEFT} {y:.1}H{right:.1}\" stroke=\"#ddd\"/>"
        );
        let label = format!("{value:.1}");
        text(svg, [x, bottom + 18.0], "text-anchor=\"middle\" fill=\"#555\"", &label);
        text(svg, [LEFT - 8.0, y + 4.0], "text-anchor=\"end\" fill=\"#555\"", &label);
    }
    let [middle, bottom] = place(0.5, 0.0);
    text(svg, [middle, bottom + 40.0], "text-anchor=\"middle\"", "recall");
    let [_, y] = place(0.0, 0.5);
    let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 20 {y:.1})\"");
    text(svg, [20.0, y], &turned, "precision");
}

fn line(svg: &mut String, recall: &[f64], precision: &[f64], style: &str) {
    let mut points = String::new();
    for (&recall, &precision) in recall.iter().zip(precision) {
        if precision >= 0.0 {
            let [x, y] = place(recall, precision);
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
    }
    let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" {style}/>", points.trim_end());
}

#[allow(clippy::cast_precision_loss)] // a handful of rows
fn row_y(row: usize) -> f64 {
    TOP + 12.0 + 21.0 * row as f64
}

fn legend(svg: &mut String, x: f64, row: usize, style: &str, words: &str) {
    let y = row_y(row);
    let (tick, end) = (y - 4.0, x + 22.0);
    let _ = writeln!(svg, "<path d=\"M{x} {tick}H{end}\" {style}/>");
    text(svg, [x + 28.0, y], "", words);
}

/// Words at a place, made harmless.
pub(crate) fn text(svg: &mut String, [x, y]: [f64; 2], style: &str, words: &str) {
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
        assert!(svg.contains("and 10 more") && svg.contains("one &amp; two (IoU 0.50)"));
        assert!(svg.contains("&lt;b&gt;&amp;29 ") && !svg.contains("<b>"));
        assert!(svg.contains("points=\"64.0,48.0 344.0,272.0 624.0,496.0\""));
        curves.classes.clear();
        curves.mean = vec![-1.0; 3];
        assert!(!curves_svg(&curves, "").contains("NaN"));
    }
}
