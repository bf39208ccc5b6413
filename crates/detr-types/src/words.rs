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
}
