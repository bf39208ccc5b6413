//! A Rust source split into code and comments of equal length, so that a word in a message or a
//! comment is not taken for code. It follows the lexical grammar, not the syntax.

/// What kind of target a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Compiled into other programs.
    Library,
    /// The command line: it may print.
    Program,
    /// Tests and their fixtures.
    Test,
    /// Chores, outside the product.
    Xtask,
}

/// One file.
pub(super) struct Source<'a> {
    /// From the root of the workspace, with `/`.
    pub(super) path: &'a str,
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// The text, with comments and the contents of literals blanked out.
    pub(super) code: String,
    /// The text, with everything but comments blanked out.
    pub(super) comments: String,
    /// For each line, counted from 0, whether it belongs to an item under `#[cfg(test)]`.
    test_lines: Vec<bool>,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a str, text: &'a str) -> Self {
        let (code, comments) = split(text);
        let test_lines = test_lines(&code);
        Self { path, kind: kind(path), text, code, comments, test_lines }
    }

    /// Line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Whether a line, counted from 1, is test code.
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.kind == Kind::Test || self.test_lines.get(line - 1).copied().unwrap_or(false)
    }
}

fn kind(path: &str) -> Kind {
    if path.starts_with("xtask/") {
        Kind::Xtask
    } else if path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
    {
        Kind::Test
    } else if path.ends_with("/main.rs")
        || path.contains("/examples/")
        || path.contains("/bin/")
        || path.contains("/src/cli/")
        || path.ends_with("/src/cli.rs")
        || path.starts_with("crates/detr-cli/")
    {
        Kind::Program
    } else {
        Kind::Library
    }
}

/// Where a stretch of the text goes.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// Code and comments, each with the other blanked out; newlines stay in both.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut parts = vec![Part::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (part, length) = match rest {
            [b'/', b'/', ..] => (Part::Comment, line_length(rest)),
            [b'/', b'*', ..] => (Part::Comment, block_comment_length(rest)),
            [b'"', ..] => (Part::Literal, string_length(rest)),
            [b'\'', ..] => (Part::Literal, char_length(rest)),
            [b'r', b'"' | b'#', ..] if !follows_identifier(bytes, at) => {
                (Part::Literal, raw_string_length(rest))
            }
            _ => (Part::Code, 1),
        };
        parts[at..at + length].fill(part);
        if part == Part::Literal && matches!(rest[0], b'"' | b'\'') {
            // The quotes stay, so that a literal can be told from nothing.
            (parts[at], parts[at + length - 1]) = (Part::Code, Part::Code);
        }
        at += length;
    }
    (keep(bytes, &parts, Part::Code), keep(bytes, &parts, Part::Comment))
}

fn keep(bytes: &[u8], parts: &[Part], wanted: Part) -> String {
    let kept = bytes.iter().zip(parts).map(|(&byte, &part)| match byte {
        b'\n' => b'\n',
        byte if part == wanted && byte.is_ascii() => byte,
        _ => b' ',
    });
    kept.map(char::from).collect()
}

fn follows_identifier(bytes: &[u8], at: usize) -> bool {
    // `br"` is a raw byte string, `for"` would not be one.
    let before = |back: usize| at.checked_sub(back).map(|at| bytes[at]);
    match before(1) {
        Some(b'b') => before(2).is_some_and(is_identifier),
        Some(byte) => is_identifier(byte),
        None => false,
    }
}

/// Whether a byte may be inside a name.
pub(super) fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line_length(rest: &[u8]) -> usize {
    rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string_length(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 1; // a raw identifier, whose first letter nobody looks for
    }
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let start = hashes + 2;
    let inside = rest[start..].windows(end.len()).position(|window| window == end);
    inside.map_or(rest.len(), |length| start + length + end.len())
}

/// A character literal; a lifetime or label is one byte of code.
fn char_length(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', _, tail @ ..] => {
            3 + tail.iter().position(|&byte| byte == b'\'').map_or(0, |length| length + 1)
        }
        [_, first, tail @ ..] => {
            // One character of one to four bytes, then the closing quote.
            let more = tail.iter().take(3).take_while(|&&byte| byte & 0xc0 == 0x80).count();
            let closes = tail.get(more) == Some(&b'\'') && *first != b'\'';
            if closes { 3 + more } else { 1 }
        }
        _ => 1,
    }
}

/// Marks the items that an attribute `#[cfg(test)]` stands before.
fn test_lines(code: &str) -> Vec<bool> {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut marked = vec![false; code.lines().count()];
    let line_of = |at: usize| code[..at].matches('\n').count();
    for (start, _) in code.match_indices(ATTRIBUTE) {
        let item = start + ATTRIBUTE.len();
        let end = item + item_length(&code.as_bytes()[item..]);
        for line in line_of(start)..=line_of(end.saturating_sub(1)) {
            if let Some(mark) = marked.get_mut(line) {
                *mark = true;
            }
        }
    }
    marked
}

/// To the semicolon or closing brace that ends an item.
fn item_length(code: &[u8]) -> usize {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    for (at, byte) in code.iter().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return at + 1;
                }
            }
            b';' if braces == 0 && brackets == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_not_code() {
        let (code, comments) = split(
            "a(\"b // c \\\" d\"); // e 'f\nr#\"g\"h\"#; br\"i\"; '\\''; 'j'; 'é'; &'k str; /* l /* m */ n */ o",
        );
        let words: Vec<&str> =
            code.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        assert_eq!(words, ["a", "b", "k", "str", "o"]);
        assert_eq!(comments.split_whitespace().collect::<String>(), "//e'f/*l/*m*/n*/");
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn items_under_cfg_test_are_test_code() {
        let text = "fn a() {}\n#[cfg(test)]\nuse b::{c,\n d};\nfn e() {}\n#[cfg(test)]\nmod tests {\n  fn f() { \"}\" }\n}\nfn g() {}\n";
        let source = Source::new("crates/x/src/lib.rs", text);
        let tests: Vec<usize> = (1..=10).filter(|&line| source.is_test(line)).collect();
        assert_eq!(tests, [2, 3, 4, 6, 7, 8, 9]);
    }

    #[test]
    fn a_path_tells_what_a_file_is() {
        assert_eq!(kind("crates/detr-model/src/lib.rs"), Kind::Library);
        assert_eq!(kind("crates/detr-infer/src/main.rs"), Kind::Program);
        assert_eq!(kind("crates/detr-infer/src/cli/run.rs"), Kind::Program);
        assert_eq!(kind("crates/detr/examples/detect.rs"), Kind::Program);
        assert_eq!(kind("crates/detr-infer/src/hub/tests/mod.rs"), Kind::Test);
        assert_eq!(kind("crates/detr-infer/src/hub/tests/server.rs"), Kind::Test);
        assert_eq!(kind("tests/src/lib.rs"), Kind::Test);
    }
}
