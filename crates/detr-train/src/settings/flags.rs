//! `--set KEY=VALUE`: another value for a key of a document.

use toml::{Table, Value};

use super::document::{PathStep, described};

/// Puts the value of a flag into a document, and returns its path. The value is TOML, or else a text as it stands.
///
/// # Errors
/// Says what is wrong with the flag.
pub(super) fn apply(root: &mut Value, flag: &str) -> Result<Vec<PathStep>, String> {
    let (names, value) = split(flag)?;
    let mut path = Vec::new();
    let mut node = root;
    for (depth, name) in names.iter().enumerate() {
        let shown = names[..depth].join(".");
        node = match node {
            Value::Table(table) => {
                path.push(PathStep::Key(name.clone()));
                table.entry(name).or_insert_with(|| Value::Table(Table::new()))
            }
            Value::Array(list) => {
                let length = list.len();
                let index = name.parse().ok().filter(|index: &usize| *index <= length);
                let index = index.ok_or_else(|| {
                    format!("`{shown}` is a list of {length}, which has no `{name}`")
                })?;
                if index == length {
                    list.push(Value::Table(Table::new()));
                }
                path.push(PathStep::Index(index));
                &mut list[index]
            }
            other => return Err(format!("`{shown}` is {}, which has no keys", described(other))),
        };
    }
    *node = parse(value);
    Ok(path)
}

/// Splits a flag at the first `=` that has a key before it: a key in quotes may have one, too.
fn split(flag: &str) -> Result<(Vec<String>, &str), String> {
    let (first, _) = flag.split_once('=').ok_or("expected KEY=VALUE")?;
    flag.match_indices('=')
        .find_map(|(at, _)| Some((names(flag[..at].trim())?, flag[at + 1..].trim())))
        .ok_or_else(|| format!("`{}` is no key", first.trim()))
}

/// Splits a dotted key by the rules of TOML; `a[0]` is `a.0`.
fn names(key: &str) -> Option<Vec<String>> {
    let key = if key.contains(['"', '\'']) {
        key.to_owned()
    } else {
        key.replace('[', ".").replace(']', "")
    };
    let mut value = Value::Table(format!("{key} = 0").parse().ok()?);
    let mut names = Vec::new();
    while let Value::Table(table) = value {
        let mut entries = table.into_iter();
        let (name, inner) = entries.next().filter(|_| entries.len() == 0)?;
        names.push(name);
        value = inner;
    }
    Some(names)
}

fn parse(text: &str) -> Value {
    let document = format!("v = {text}").parse::<Table>().ok();
    let value = document.filter(|table| table.len() == 1).and_then(|mut table| table.remove("v"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}
