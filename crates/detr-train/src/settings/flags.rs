//! `--set KEY=VALUE`: another value for a key of a document.

use super::document::{Entry, Node, Origin, Value};

/// Puts the value of a flag into a document. The value is TOML, or else a text as it stands.
///
/// # Errors
/// Says what is wrong with the flag.
pub(super) fn apply(root: &mut Node, text: &str, flag: usize) -> Result<(), String> {
    let (key, value) = split(text).ok_or("expected KEY=VALUE")?;
    let path = path(key).ok_or_else(|| format!("`{key}` is no key"))?;
    let value = Node::of_flag(parse(value), flag);
    let mut node = root;
    for (depth, name) in path.iter().enumerate() {
        let shown = path[..depth].join(".");
        let last = depth + 1 == path.len();
        let fresh = if last { value.clone() } else { empty(flag) };
        node = match &mut node.value {
            Value::Table(entries) => {
                let at = entries.iter().position(|entry| entry.key == *name);
                let at = at.unwrap_or_else(|| {
                    let origin = Origin::Flag(flag);
                    entries.push(Entry { key: name.clone(), origin, node: fresh.clone() });
                    entries.len() - 1
                });
                &mut entries[at].node
            }
            Value::List(list) => {
                let length = list.len();
                let index = name.parse().ok().filter(|index: &usize| *index <= length);
                let index = index.ok_or_else(|| {
                    format!("`{shown}` is a list of {length}, which has no `{name}`")
                })?;
                if index == length {
                    list.push(fresh.clone());
                }
                &mut list[index]
            }
            other => {
                return Err(format!("`{shown}` is {}, which has no keys", other.described()));
            }
        };
        if last {
            *node = fresh;
        }
    }
    Ok(())
}

fn empty(flag: usize) -> Node {
    Node { value: Value::Table(Vec::new()), origin: Origin::Flag(flag) }
}

/// Splits a flag at the first `=` outside of quotes.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    let at = text.find(|c| match (quote, c) {
        (None, '=') => true,
        (None, '"' | '\'') => {
            quote = Some(c);
            false
        }
        (Some(open), _) if open == c => {
            quote = None;
            false
        }
        _ => false,
    })?;
    Some((text[..at].trim(), text[at + 1..].trim()))
}

/// Splits a dotted key by the rules of TOML; `a[0]` is `a.0`.
fn path(key: &str) -> Option<Vec<String>> {
    let key = if key.contains(['"', '\'']) {
        key.to_owned()
    } else {
        key.replace('[', ".").replace(']', "")
    };
    if key.contains(['\n', '\r', '#', '=']) && !key.contains(['"', '\'']) {
        return None;
    }
    let mut value = toml::Value::Table(format!("{key} = 0").parse().ok()?);
    let mut path = Vec::new();
    while let toml::Value::Table(table) = value {
        let mut entries = table.into_iter();
        let (name, inner) = entries.next()?;
        if entries.next().is_some() {
            return None;
        }
        path.push(name);
        value = inner;
    }
    Some(path)
}

fn parse(text: &str) -> toml::Value {
    let document = format!("v = {text}").parse::<toml::Table>().ok();
    let value = document.filter(|table| table.len() == 1).and_then(|mut table| table.remove("v"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}
