//! Messages about classes that only the model or only the data of an evaluation have.

use detr_data::Category;
use detr_infer::cli::{CliError, Console};
use detr_types::ClassTable;
use detr_validate::CategoryMap;

/// Names that a message lists at most.
const LISTED: usize = 10;

/// Finds the classes that model and data share; says which ones only one of them has.
///
/// # Errors
/// [`CliError::Usage`] if they share none.
pub(super) fn shared_classes(
    model: &ClassTable,
    data: &[Category],
    console: &Console,
) -> Result<CategoryMap, CliError> {
    let map = CategoryMap::new(model, data.iter().map(|class| (class.id, class.name.as_str())));
    if map.is_empty() {
        return Err(no_common_class(model, data));
    }
    if !map.only_data.is_empty() {
        console.note(&format!(
            "note: the model does not know these classes of the data, whose objects count as not \
             found: {}",
            listed(&map.only_data)
        ));
    }
    if !map.only_model.is_empty() {
        console.note(&format!(
            "note: the data have no such classes, whose detections do not count: {}",
            listed(&map.only_model)
        ));
    }
    Ok(map)
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

fn listed(names: &[impl AsRef<str>]) -> String {
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
        let message = no_common_class(&table, &data).to_string();
        assert!(message.contains("the model knows Person, class 2\n"), "{message}");
        assert!(message.ends_with("hint: --map person=Person renames a class of the data"));
    }
}
