//! The rule that a comment is a whole sentence, as far as its first word shows it.
//!
//! An opening is the first word of a paragraph of comment lines. Comments behind code on the same
//! line are notes and do not count, nor do headings, lists, tables and examples.

use super::Violation;
use super::source::Source;

/// Words that open a fragment, such as "What is wrong." or "As before.".
const FRAGMENTS: [&str; 24] = [
    "And",
    "As",
    "Beside",
    "Besides",
    "But",
    "How",
    "Nor",
    "Of",
    "Or",
    "Such",
    "Than",
    "That",
    "Those",
    "What",
    "Whatever",
    "Where",
    "Which",
    "Whichever",
    "Who",
    "Whoever",
    "Whom",
    "Whose",
    "With",
    "Without",
];

/// Participles that open a fragment, such as "Added to the sum.".
const PARTICIPLES: [&str; 29] = [
    "Added",
    "Applied",
    "Asked",
    "Chosen",
    "Collected",
    "Compiled",
    "Computed",
    "Converted",
    "Counted",
    "Drawn",
    "Given",
    "Kept",
    "Killed",
    "Looked",
    "Made",
    "Moved",
    "Named",
    "Normalised",
    "Raised",
    "Ranked",
    "Rounded",
    "Selected",
    "Skipped",
    "Sorted",
    "Stated",
    "Stored",
    "Subtracted",
    "Taken",
    "Used",
];

/// Words other than verbs that often open the doc comment of a function.
const NOT_VERBS: [&str; 19] = [
    "A", "All", "An", "At", "By", "Each", "Every", "For", "From", "If", "In", "Its", "No", "None",
    "Not", "One", "The", "Two", "Whether",
];

/// The largest number of bad openings in a thousand.
const LIMIT: usize = 5;

/// The openings of some sources.
#[derive(Default)]
pub(super) struct Openings {
    total: usize,
    bad: Vec<Violation>,
}

impl Openings {
    /// Adds the openings of a source.
    pub(super) fn add(&mut self, source: &Source<'_>) {
        let lines: Vec<_> = source.text.lines().zip(source.comments.lines()).collect();
        let mut paragraph = Paragraph::default();
        for (index, &(line, comment)) in lines.iter().enumerate() {
            let text = whole_comment(line, comment);
            if !paragraph.is_opened_by(text) {
                continue;
            }
            self.total += 1;
            let opening = text.map(|(_, text)| first_word(text)).unwrap_or_default();
            let reason = if FRAGMENTS.contains(&opening) {
                "opens a fragment: write a whole sentence"
            } else if PARTICIPLES.contains(&opening) {
                "is a participle: write a whole sentence"
            } else if NOT_VERBS.contains(&opening) && documents_function(&lines, index) {
                "opens the description of a function, which starts with a verb"
            } else {
                continue;
            };
            self.bad.push(Violation {
                path: source.path.to_owned(),
                line: index + 1,
                reason: format!("`{opening}` {reason}"),
            });
        }
    }

    /// Returns the bad openings if they are too many.
    pub(super) fn violations(&self) -> &[Violation] {
        if self.bad.len() * 1000 > self.total * LIMIT { &self.bad } else { &[] }
    }

    /// Says how many openings are bad.
    pub(super) fn summary(&self) -> String {
        let (bad, total) = (self.bad.len(), self.total);
        // The number is in thousandths of a per cent, so that it can be cut to two decimals.
        let share = bad * 100_000 / total.max(1);
        format!(
            "{bad} of {total} comments open badly: {}.{:02} %, at most {}.{} %",
            share / 1000,
            share % 1000 / 10,
            LIMIT / 10,
            LIMIT % 10
        )
    }
}

/// The state between the lines of a paragraph.
#[derive(Default)]
struct Paragraph {
    /// The marker of the comment that the last line belongs to.
    marker: Option<&'static str>,
    /// Whether the last line had text of a paragraph.
    open: bool,
    in_example: bool,
}

impl Paragraph {
    /// Takes the next line, and returns whether it opens a paragraph.
    fn is_opened_by(&mut self, line: Option<(&'static str, &str)>) -> bool {
        let Some((marker, text)) = line else {
            *self = Self::default();
            return false;
        };
        if self.marker != Some(marker) {
            *self = Self { marker: Some(marker), ..Self::default() };
        }
        if text.starts_with("```") {
            self.in_example = !self.in_example;
            self.open = false;
            return false;
        }
        if self.in_example || text.is_empty() {
            self.open = false;
            return false;
        }
        let was_open = std::mem::replace(&mut self.open, true);
        !was_open && text.starts_with(|first: char| first.is_ascii_uppercase())
    }
}

/// Splits a line that holds nothing but a comment into its marker and its text.
fn whole_comment<'a>(line: &'a str, comment: &str) -> Option<(&'static str, &'a str)> {
    let text = line.trim_start();
    // A line inside of a string may look like a comment.
    if !comment.trim_start().starts_with("//") {
        return None;
    }
    let marker = ["///", "//!", "//"].into_iter().find(|marker| text.starts_with(marker))?;
    Some((marker, text[marker.len()..].trim()))
}

fn first_word(text: &str) -> &str {
    text.split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default()
}

/// Returns whether the line at `index` is the first of the doc comment of a function that is no
/// test: the doc of a test says more about the case than its name does.
fn documents_function(lines: &[(&str, &str)], index: usize) -> bool {
    let is_doc = |line: &str| line.trim_start().starts_with("///");
    if !is_doc(lines[index].0) || index > 0 && is_doc(lines[index - 1].0) {
        return false;
    }
    let item = lines[index..].iter().map(|(line, _)| line.trim_start());
    let mut item = item.skip_while(|line| line.starts_with("///"));
    item.by_ref()
        .take_while(|line| *line != "#[test]")
        .find(|line| !line.starts_with("#[") && !line.starts_with("//"))
        .is_some_and(|line| {
            let words = line.split_whitespace().map(|word| word.split('(').next().unwrap_or(word));
            let mut words =
                words.skip_while(|word| matches!(*word, "pub" | "const" | "async" | "unsafe"));
            words.next() == Some("fn")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openings(text: &str) -> (usize, Vec<usize>) {
        let mut openings = Openings::default();
        openings.add(&Source::new("crates/x/src/lib.rs", text));
        (openings.total, openings.bad.iter().map(|violation| violation.line).collect())
    }

    #[test]
    fn every_paragraph_has_one_opening() {
        let text = "//! A module.\n//!\n//! It goes\n//! On here.\n\n/// A type.\n///\n/// # Shapes\n///\n/// - Of a list.\n/// ```\n/// Where();\n/// ```\nstruct X;\nlet a = 1; // As before.\nlet b = \"\n// What\n\";\n";
        assert_eq!(openings(text), (3, vec![]));
    }

    #[test]
    fn fragments_and_participles_are_found() {
        let text = "//! What it is.\n\n/// A type.\n///\n/// As before.\nstruct X;\n// Added to it.\nlet a = 1;\n// Whatsoever is a word.\nlet b = 2;\n";
        assert_eq!(openings(text), (5, vec![1, 5, 7]));
    }

    #[test]
    fn the_doc_of_a_function_starts_with_a_verb() {
        for function in ["fn f() {}", "pub(crate) const fn f() {}", "#[inline]\n    pub fn f() {}"]
        {
            assert_eq!(
                openings(&format!("/// The sum.\n{function}\n")),
                (1, vec![1]),
                "{function}"
            );
            assert_eq!(openings(&format!("/// Returns it.\n{function}\n")), (1, vec![]));
        }
        let other = "/// The sum.\nstruct X;\n/// The name is too short.\n#[test]\nfn t() {}\n/// Adds.\n///\n/// The sum is exact.\nfn f() {}\n";
        assert_eq!(openings(other), (4, vec![]));
    }

    #[test]
    fn a_few_bad_openings_are_allowed() {
        let with = |good: usize| Openings {
            total: good + 1,
            bad: vec![Violation { path: "a.rs".into(), line: 1, reason: String::new() }],
        };
        assert_eq!(with(198).violations().len(), 1);
        assert!(with(199).violations().is_empty());
        assert_eq!(with(199).summary(), "1 of 200 comments open badly: 0.50 %, at most 0.5 %");
    }
}
