//! Messages about classes that only the model or only the data of an evaluation have, be it `detr eval` or the
//! validation in `detr train`.

use detr_data::Category;
use detr_infer::cli::CliError;
use detr_types::ClassTable;
use detr_validate::CategoryMap;

/// Names that a message lists at most.
const LISTED: usize = 5;

/// The way in which the user of a command renames a class of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renaming {
    /// The flag `--map`.
    Flag,
    /// The setting `data.val.classes.map`.
    Setting,
}

impl Renaming {
    /// Tells how `old` becomes `new`.
    fn describe(self, old: &str, new: &str) -> String {
        match self {
            Self::Flag => format!("--map {old}={new}"),
            Self::Setting => format!("data.val.classes.map = {{ {old:?} = {new:?} }}"),
        }
    }
}

/// Finds the classes that model and data share, by name as [`CategoryMap`] does. Returns the map and a note for each
/// side that has classes which the other one lacks.
///
/// # Errors
/// [`CliError::Usage`] if they share none.
pub(crate) fn shared_classes(
    model: &ClassTable,
    data: &[Category],
    renaming: Renaming,
) -> Result<(CategoryMap, Vec<String>), CliError> {
    let map = CategoryMap::new(model, data.iter().map(|class| (class.id, class.name.as_str())));
    if map.is_empty() {
        return Err(no_common_class(model, data, renaming));
    }
    let mut notes = Vec::new();
    if !map.only_data.is_empty() {
        notes.push(format!(
            "the model does not know these classes of the data, whose objects count as not \
             found: {}",
            listed(&map.only_data)
        ));
    }
    if !map.only_model.is_empty() {
        notes.push(format!(
            "the data have no such classes, whose detections do not count: {}",
            listed(&map.only_model)
        ));
    }
    Ok((map, notes))
}

fn no_common_class(model: &ClassTable, data: &[Category], renaming: Renaming) -> CliError {
    let of_model: Vec<&str> = model.categories().map(|class| class.name.as_str()).collect();
    let of_data: Vec<&str> = data.iter().map(|category| category.name.as_str()).collect();
    let similar = of_data.iter().find_map(|old| {
        let new = of_model.iter().find(|new| new.to_lowercase() == old.to_lowercase())?;
        Some(format!("{} renames a class of the data", renaming.describe(old, new)))
    });
    let hint = similar.unwrap_or_else(|| {
        format!(
            "give data of the classes that the model was trained on, or rename with {}",
            renaming.describe("OLD", "NEW")
        )
    });
    CliError::Usage(format!(
        "the model and the data have no class in common, so nothing could be scored\n\
         the model knows {}\nthe data have {}\nhint: {hint}",
        listed(&of_model),
        listed(&of_data)
    ))
}

/// Lists the first of some names, and how many more there are.
pub(crate) fn listed(names: &[impl AsRef<str>]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let first = names.iter().take(LISTED).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => first,
        more => format!("{first}, and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_of_another_spelling_is_hinted_at() {
        let class = |(label, name): (usize, &str)| detr_types::Category {
            label,
            id: 1,
            name: name.to_owned(),
            is_thing: true,
        };
        let classes = ["Person", "class 2"].into_iter().enumerate().map(class).collect();
        let table = ClassTable::new(2, classes).unwrap();
        let data =
            [Category { id: 1, name: "person".to_owned(), supercategory: None, is_thing: true }];
        let message = no_common_class(&table, &data, Renaming::Flag).to_string();
        assert!(message.contains("the model knows Person, class 2\n"), "{message}");
        assert!(message.ends_with("hint: --map person=Person renames a class of the data"));
        let message = no_common_class(&table, &data, Renaming::Setting).to_string();
        let hint = "hint: data.val.classes.map = { \"person\" = \"Person\" } renames";
        assert!(message.contains(hint), "{message}");
    }
}
