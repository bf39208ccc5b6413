//! The result as people know it: pycocotools' twelve lines, and a table of the classes.

use std::fmt;

use detr_types::counted;

use crate::metrics::{ClassMetrics, Confusion, Metrics};

impl Metrics {
    /// Writes the twelve lines, in pycocotools' order and wording.
    #[must_use]
    pub fn summary_lines(&self) -> [String; 12] {
        let [few, some, all] = self.max_detections;
        let sweep = "0.50:0.95";
        let rows = [
            (true, sweep, "all", all),
            (true, "0.50", "all", all),
            (true, "0.75", "all", all),
            (true, sweep, "small", all),
            (true, sweep, "medium", all),
            (true, sweep, "large", all),
            (false, sweep, "all", few),
            (false, sweep, "all", some),
            (false, sweep, "all", all),
            (false, sweep, "small", all),
            (false, sweep, "medium", all),
            (false, sweep, "large", all),
        ];
        let values = self.summary.values();
        std::array::from_fn(|index| {
            let (is_precision, iou, area, limit) = rows[index];
            let (title, short) = if is_precision {
                ("Average Precision", "(AP)")
            } else {
                ("Average Recall", "(AR)")
            };
            let value = values[index];
            format!(
                " {title:<18} {short} @[ IoU={iou:<9} | area={area:>6} | maxDets={limit:>3} ] = \
                 {value:0.3}"
            )
        })
    }

    /// Writes one line per class, with a head.
    #[must_use]
    pub fn class_table(&self) -> String {
        let width = self.classes.iter().map(|class| class.name.chars().count()).max();
        let width = width.unwrap_or(0).max("class".len());
        let mut text = format!(
            " {:<width$}  {:>8}  {:>6}  {:>6}  {:>6}  {:>6}  {:>6}  {:>8}\n",
            "class", "objects", "AP", "AP50", "AP75", "AR", "F1", "at score"
        );
        for class in &self.classes {
            text.push_str(&class_line(class, width));
            text.push('\n');
        }
        text
    }
}

impl Confusion {
    /// Writes one line per class, with a head: what became of its objects, and how many detections
    /// of it mean nothing. The matrix itself is too wide for people.
    #[must_use]
    pub fn table(&self) -> String {
        let nothing = self.classes.len();
        let width = self.classes.iter().map(|name| name.chars().count()).max();
        let width = width.unwrap_or(0).max("class".len());
        let mut text = format!(
            " detections from score {} on, at IoU {:.2}; spurious ones mean no object\n \
             {:<width$}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  taken for\n",
            self.score, self.iou, "class", "objects", "found", "confused", "missed", "spurious"
        );
        for (class, name) in self.classes.iter().enumerate() {
            let row = &self.counts[class];
            let mut others: Vec<usize> =
                (0..nothing).filter(|&other| other != class && row[other] > 0).collect();
            others.sort_by_key(|&other| std::cmp::Reverse(row[other]));
            let confused: u64 = others.iter().map(|&other| row[other]).sum();
            let often = others.iter().take(3);
            let often: Vec<String> =
                often.map(|&other| format!("{} ({})", self.classes[other], row[other])).collect();
            let line = format!(
                " {name:<width$}  {:>8}  {:>8}  {confused:>8}  {:>8}  {:>8}  {}",
                row.iter().sum::<u64>(),
                row[class],
                row[nothing],
                self.counts[nothing][class],
                often.join(", ")
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn class_line(class: &ClassMetrics, width: usize) -> String {
    let number = |value: f64| if value < 0.0 { "-".to_owned() } else { format!("{value:.3}") };
    let (f1, score) = match class.best_f1 {
        Some(best) => (number(best.f1), format!("{:.3}", best.score)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let ClassMetrics { name, objects, ap, ap50, ap75, ar, .. } = class;
    let [ap, ap50, ap75, ar] = [*ap, *ap50, *ap75, *ar].map(number);
    format!(
        " {name:<width$}  {objects:>8}  {ap:>6}  {ap50:>6}  {ap75:>6}  {ar:>6}  {f1:>6}  {score:>8}"
    )
}

impl fmt::Display for Metrics {
    /// Writes the twelve lines, and the numbers of objects and detections that were left out, if
    /// any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.summary_lines() {
            writeln!(f, "{line}")?;
        }
        let counts = &self.counts;
        write!(
            f,
            " {}, {}, {}",
            counted(counts.images, "image"),
            counted(counts.objects, "object"),
            counted(counts.detections, "detection")
        )?;
        for (count, what) in [
            (counts.images_without_detections, "images without detections"),
            (counts.below_threshold, "detections below the score threshold left out"),
            (counts.unknown_category, "detections of unknown classes left out"),
            (counts.duplicate_images, "images given again and left out"),
            (counts.other_images, "images not asked for left out"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_confusion_of_a_class_is_one_line() {
        let confusion = Confusion {
            score: 0.5,
            iou: 0.5,
            classes: vec!["car".to_owned(), "bus".to_owned()],
            counts: vec![vec![5, 2, 1], vec![0, 3, 0], vec![4, 0, 0]],
        };
        let text = confusion.table();
        let lines: Vec<Vec<&str>> =
            text.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["car", "8", "5", "2", "1", "4", "bus", "(2)"]);
        assert_eq!(lines[1], ["bus", "3", "3", "0", "0", "0"]);
    }
}
