//! A Rust source split into code and comments of equal length, so that a word in a message or a
//! comment is not taken for code. It follows the lexical grammar, not the syntax.

use ra_ap_rustc_lexer::{FrontmatterAllowed, LiteralKind, TokenKind, tokenize};

/// The kind of target that a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file that is compiled into other programs.
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

    /// Returns the line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Returns whether a line, counted from 1, is test code.
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
        || path.starts_with("crates/detr-bench/")
    {
        Kind::Program
    } else {
        Kind::Library
    }
}

/// The class of a stretch of the text.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// Splits a text into code and comments, each with the other blanked out; newlines stay in both.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut parts = vec![Part::Code; bytes.len()];
    let mut at = 0;
    for token in tokenize(text, FrontmatterAllowed::No) {
        let end = at + token.len as usize;
        match token.kind {
            TokenKind::LineComment { .. } | TokenKind::BlockComment { .. } => {
                parts[at..end].fill(Part::Comment);
            }
            TokenKind::Literal { kind, .. } => literal(&mut parts[at..end], &text[at..end], kind),
            _ => {}
        }
        at = end;
    }
    (keep(bytes, &parts, Part::Code), keep(bytes, &parts, Part::Comment))
}

/// Marks the contents of a literal. The quotes of all but raw strings stay, so that a literal can be told from nothing.
fn literal(parts: &mut [Part], text: &str, kind: LiteralKind) {
    use LiteralKind::{Byte, ByteStr, CStr, Char, Float, Int, RawByteStr, RawCStr, RawStr, Str};
    let inside = match kind {
        Int { .. } | Float { .. } => return,
        RawStr { .. } | RawByteStr { .. } | RawCStr { .. } => {
            text.find('r').unwrap_or(0)..text.len()
        }
        Char { .. } | Byte { .. } | Str { .. } | ByteStr { .. } | CStr { .. } => {
            text.find(['"', '\'']).map_or(0, |quote| quote + 1)..text.len() - 1
        }
    };
    parts[inside].fill(Part::Literal);
}

fn keep(bytes: &[u8], parts: &[Part], wanted: Part) -> String {
    let kept = bytes.iter().zip(parts).map(|(&byte, &part)| match byte {
        b'\n' => b'\n',
        byte if part == wanted && byte.is_ascii() => byte,
        _ => b' ',
    });
    kept.map(char::from).collect()
}

/// Returns whether a byte may be inside a name.
pub(super) fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
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

/// Returns the length up to the semicolon or closing brace that ends an item.
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
