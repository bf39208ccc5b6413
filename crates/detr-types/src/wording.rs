//! Messages of parsers in the words of those who write the files.

/// Replaces the words that serde has for a program's types by those of a file: `struct Image` is an object, `u32` a
/// whole number. Messages that say nothing about types stay as they are, line by line.
#[must_use]
pub fn in_plain_words(message: &str) -> String {
    message.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn line(message: &str) -> String {
    const UNTAGGED: &str = "data did not match any variant of untagged enum";
    if let Some(at) = message.find(UNTAGGED) {
        return format!("{}it has none of the forms that are known", &message[..at]);
    }
    let Some((before, expected)) = message.rsplit_once(", expected ") else {
        return match message.rsplit_once(" at line ") {
            // The end of the object, not the place of the field.
            Some((before, place)) if before.contains("missing field `") => {
                format!("{before} (line {})", place.replacen(" column", ", column", 1))
            }
            _ => message.to_owned(),
        };
    };
    let kinds = ["invalid type: ", "invalid value: ", "invalid length "];
    let Some((at, kind)) = kinds.iter().find_map(|kind| Some((before.find(kind)?, kind))) else {
        return message.to_owned();
    };
    let (start, found) = before.split_at(at + kind.len());
    // A place may follow.
    let (expected, place) = match expected.find(" at line ") {
        Some(at) => expected.split_at(at),
        None => (expected, ""),
    };
    format!("{start}{}, expected {}{place}", what_is_found(found), what_is_expected(expected))
}

fn what_is_found(found: &str) -> String {
    match found {
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        "unit value" | "Option value" | "unit variant" => "nothing".to_owned(),
        "newtype struct" | "newtype variant" | "enum" | "struct variant" | "tuple variant" => {
            "an object".to_owned()
        }
        "byte array" => "bytes".to_owned(),
        other => match other.strip_prefix("floating point ") {
            Some(number) => format!("number {number}"),
            None => other.to_owned(),
        },
    }
}

fn what_is_expected(expected: &str) -> String {
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a map" => "an object",
        "a borrowed string" | "a string" | "string" | "path string" | "str" => "a text",
        "a boolean" | "bool" => "true or false",
        "field identifier" | "variant identifier" | "identifier" => "a name",
        "unit" | "option" => "nothing",
        other => {
            let length = other
                .strip_prefix("an array of length ")
                .or_else(|| other.strip_prefix("a tuple of size "))
                .or_else(|| other.strip_suffix(" elements in sequence"));
            let is_type = other.contains("struct ") || other.contains("enum ");
            return match length {
                Some(length) => format!("a list of {length}"),
                None if is_type => "an object".to_owned(),
                None => other.to_owned(),
            };
        }
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::in_plain_words;

    #[test]
    fn types_of_programs_become_kinds_of_values() {
        for (message, plain) in [
            (
                "invalid type: map, expected a sequence",
                "invalid type: an object, expected a sequence",
            ),
            (
                "invalid type: string \"a, expected u32\", expected u32 at line 3 column 4",
                "invalid type: string \"a, expected u32\", expected a whole number from 0 at line 3 column 4",
            ),
            (
                "invalid type: null, expected struct Image with 7 elements",
                "invalid type: null, expected an object",
            ),
            (
                "size: invalid length 3, expected an array of length 4",
                "size: invalid length 3, expected a list of 4",
            ),
            (
                "invalid value: floating point `1.5`, expected a whole number",
                "invalid value: number `1.5`, expected a whole number",
            ),
            (
                "invalid type: unit value, expected a borrowed string",
                "invalid type: nothing, expected a text",
            ),
            (
                "architecture: invalid type: string \"x\", expected internally tagged enum ModelConfig",
                "architecture: invalid type: string \"x\", expected an object",
            ),
            ("missing field `id`", "missing field `id`"),
            (
                "a.json: missing field `id` at line 1 column 20",
                "a.json: missing field `id` (line 1, column 20)",
            ),
            ("unknown field `a`, expected `b` or `c`", "unknown field `a`, expected `b` or `c`"),
            (
                "size: data did not match any variant of untagged enum SizeField at line 1 column 4",
                "size: it has none of the forms that are known",
            ),
            (
                "first\ninvalid type: map, expected f64\n",
                "first\ninvalid type: an object, expected a number",
            ),
        ] {
            assert_eq!(in_plain_words(message), plain);
        }
    }
}
