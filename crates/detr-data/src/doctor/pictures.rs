//! Statistics as bar charts, in one SVG without dependencies.

use std::fmt::Write;

use super::stats::{Bin, Stats};

/// Height of a bar with its gap, in pixels.
const ROW: usize = 18;
/// The left end of the bars, in pixels.
const LEFT: usize = 200;
/// Length of the longest bar.
const LONGEST: usize = 480;
/// Most bars in a chart; of more classes the most frequent are shown.
const MOST: usize = 100;

impl Stats {
    /// Draws bar charts of the classes, the box sizes and the objects per image, as SVG.
    #[must_use]
    pub fn to_svg(&self) -> String {
        charts(self)
    }
}

fn charts(stats: &Stats) -> String {
    let mut classes: Vec<Bin> = stats
        .categories
        .iter()
        .map(|category| Bin { label: category.name.clone(), count: category.objects })
        .collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.count));
    let title = match classes.len() {
        count if count > MOST => format!("objects per class, the {MOST} most frequent of {count}"),
        _ => "objects per class".to_owned(),
    };
    classes.truncate(MOST);
    let (mut body, mut y) = (String::new(), 10);
    chart(&mut body, &mut y, &title, &classes);
    chart(&mut body, &mut y, "boxes by side in pixels (root of the area)", &stats.box_side_bins);
    chart(&mut body, &mut y, "images by number of objects", &stats.objects_per_image_bins);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"{y}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn chart(svg: &mut String, y: &mut usize, title: &str, bins: &[Bin]) {
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    *y += 2 * ROW;
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"10\" y=\"{y}\" font-size=\"15\" font-weight=\"bold\">{title}</text>"
    );
    *y += ROW / 2;
    for Bin { label, count } in bins {
        let length = count * LONGEST / most;
        let (text, end) = (*y + 13, LEFT + length + 6);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{length}\" height=\"{}\" fill=\"#4477aa\"/>\
             <text x=\"{end}\" y=\"{text}\">{count}</text>",
            LEFT - 8,
            escape(label),
            *y + 2,
            ROW - 4,
        );
        *y += ROW;
    }
    *y += ROW / 2;
}

/// Shortens the text of a label to its place, and escapes it.
fn escape(text: &str) -> String {
    let short: String = match text.chars().count() {
        0..=28 => text.to_owned(),
        _ => text.chars().take(27).chain(['…']).collect(),
    };
    let printable: String = short.chars().filter(|c| !c.is_control()).collect();
    printable.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
