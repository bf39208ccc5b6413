//! Which class of a model is which class of the data: one of the same id and name, or else of the
//! same name.

use std::collections::{HashMap, HashSet};

use detr_data::Category;
use detr_infer::cli::{CliError, Console};
use detr_types::ClassTable;

/// Names that a message lists at most.
const LISTED: usize = 10;

/// Ids of the data's categories by label of the model.
#[derive(Debug)]
pub(super) struct Classes(HashMap<usize, i64>);

impl Classes {
    /// Finds the classes that model and data share; says which ones only one of them has.
    ///
    /// # Errors
    /// [`CliError::Usage`] if they share none.
    pub(super) fn new(
        model: &ClassTable,
        data: &[Category],
        console: &Console,
    ) -> Result<Self, CliError> {
        let mut ids = HashMap::new();
        let mut only_model = Vec::new();
        for class in model.categories() {
            let of_name = || data.iter().filter(|category| category.name == class.name);
            let same = of_name().find(|category| u64::try_from(category.id) == Ok(class.id));
            match same.or_else(|| of_name().next()) {
                Some(category) => drop(ids.insert(class.label, category.id)),
                None => only_model.push(class.name.as_str()),
            }
        }
        if ids.is_empty() {
            return Err(no_common_class(model, data));
        }
        let known: HashSet<i64> = ids.values().copied().collect();
        let unknown = data.iter().filter(|category| !known.contains(&category.id));
        let only_data: Vec<&str> = unknown.map(|category| category.name.as_str()).collect();
        if !only_data.is_empty() {
            console.note(&format!(
                "note: the model does not know these classes of the data, whose objects count as \
                 not found: {}",
                listed(&only_data)
            ));
        }
        if !only_model.is_empty() {
            console.note(&format!(
                "note: the data have no such classes, whose detections do not count: {}",
                listed(&only_model)
            ));
        }
        Ok(Self(ids))
    }

    /// The category of a label, if the data have it.
    pub(super) fn category(&self, label: usize) -> Option<i64> {
        self.0.get(&label).copied()
    }
}

fn no_common_class(model: &ClassTable, data: &[Category]) -> CliError {
    let of_model: Vec<&str> = model.categories().map(|class| class.name.as_str()).collect();
    let of_data: Vec<&str> = data.iter().map(|category| category.name.as_str()).collect();
    let similar = of_data.iter().find_map(|old| {
        let new = of_model.iter().find(|new| new.eq_ignore_ascii_case(old))?;
        Some(format!("--map {old}={new} renames a class of the data"))
    });
    let hint = similar.unwrap_or_else(|| {
        "give data of the classes that the model was trained on, or rename with --map OLD=NEW"
            .to_owned()
    });
    CliError::Usage(format!(
        "the model and the data have no class in common, so nothing could be scored\n\
         the model knows {}\nthe data have {}\nhint: {hint}",
        listed(&of_model),
        listed(&of_data)
    ))
}

fn listed(names: &[&str]) -> String {
    let first = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => first,
        more => format!("{first}, and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use detr_infer::cli::LogArgs;

    use super::*;

    fn matched(model: &[(u64, &str)], data: &[(i64, &str)]) -> Result<Vec<Option<i64>>, CliError> {
        let class = |(label, &(id, name)): (usize, &(u64, &str))| detr_types::Category {
            label,
            id,
            name: name.to_owned(),
        };
        let table = ClassTable::new(model.len(), model.iter().enumerate().map(class).collect());
        let category = |&(id, name): &(i64, &str)| Category {
            id,
            name: name.to_owned(),
            supercategory: None,
            is_thing: true,
        };
        let data: Vec<Category> = data.iter().map(category).collect();
        let console = Console::new(&LogArgs { quiet: true, verbose: 0 });
        let classes = Classes::new(&table.unwrap(), &data, &console)?;
        Ok((0..model.len()).map(|label| classes.category(label)).collect())
    }

    #[test]
    fn classes_are_matched_by_name_and_id_then_by_name() {
        let data = [(1, "person"), (3, "car"), (5, "car"), (-2, "tram")];
        let model = [(3, "person"), (5, "car"), (9, "car"), (8, "bus"), (2, "tram")];
        let found = matched(&model, &data).unwrap();
        assert_eq!(found, [Some(1), Some(5), Some(3), None, Some(-2)]);
        let message = matched(&[(1, "Person"), (2, "class 2")], &data).unwrap_err().to_string();
        assert!(message.contains("the model knows Person, class 2\n"), "{message}");
        assert!(message.ends_with("hint: --map person=Person renames a class of the data"));
    }
}
