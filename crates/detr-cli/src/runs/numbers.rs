//! COCO's numbers of several validations, side by side.

use detr_track::ValidationSummary;

use super::table::{number, table};

/// Heads of the columns, in COCO's order.
const NAMES: [&str; 12] =
    ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR", "ARs", "ARm", "ARl"];

/// Writes a line for each validation, by a name.
pub(super) fn table_of(rows: &[(String, &ValidationSummary)]) -> String {
    let head: Vec<&str> = ["", "epoch", "step"].into_iter().chain(NAMES).collect();
    let cells = |(name, row): &(String, &ValidationSummary)| {
        let values = row.metrics.values().map(|value| number(Some(value).filter(|v| *v >= 0.0), 3));
        let start = [name.clone(), row.epoch.to_string(), row.step.to_string()];
        start.into_iter().chain(values).collect()
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let right: Vec<usize> = (1..head.len()).collect();
    table(&head, &rows, &right)
}
