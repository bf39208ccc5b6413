//! Finds the word that was meant, for messages about names that do not exist.

use strsim::osa_distance;

/// Returns the candidate closest to a word, unless even that one is another word altogether. Case does
/// not count.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let allowed = (lower.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (osa_distance(&lower, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, candidate)| candidate)
}

/// Returns a number with its noun, such as `1 image` and `2 categories`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    let ends_in = |endings: &[&str]| endings.iter().any(|ending| noun.ends_with(ending));
    match noun.strip_suffix('y') {
        _ if count == 1 => format!("1 {noun}"),
        Some(stem) if !ends_in(&["ay", "ey", "oy"]) => format!("{count} {stem}ies"),
        _ if ends_in(&["s", "x", "sh", "ch"]) => format!("{count} {noun}es"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_not_far() {
        let words = ["person", "traffic light", "train"];
        assert_eq!(nearest("Persn", words), Some("person"));
        assert_eq!(nearest("trian", words), Some("train"));
        assert_eq!(nearest("xyzzy", words), None);
        assert_eq!(nearest("person", []), None);
    }

    #[test]
    fn numbers_have_nouns_in_their_form() {
        for (count, noun, expected) in [
            (0, "image", "0 images"),
            (1, "image", "1 image"),
            (2, "class", "2 classes"),
            (3, "box", "3 boxes"),
            (4, "category", "4 categories"),
            (5, "key", "5 keys"),
        ] {
            assert_eq!(counted(count, noun), expected);
        }
    }
}
