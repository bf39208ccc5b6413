//! Bearer tokens.

use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;

use crate::error::RequestError;

/// The tokens of which a request needs one; any request may come in if there are none. They are never shown.
#[derive(Clone, Default)]
pub struct Tokens(Vec<Vec<u8>>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

impl Tokens {
    /// Reads tokens, one on each line; empty lines and those that start with `#` are passed over.
    ///
    /// # Errors
    /// A token with characters that a header cannot hold, by its line, or a text without any.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!("line {}: a token is of visible ASCII characters", number + 1));
            }
            tokens.push(line.as_bytes().to_vec());
        }
        if tokens.is_empty() {
            return Err("there is no token\nhint: write one on each line".to_owned());
        }
        Ok(Self(tokens))
    }

    /// Returns whether requests need a token.
    #[must_use]
    pub fn are_needed(&self) -> bool {
        !self.0.is_empty()
    }

    /// Checks the header `Authorization`. The time does not tell how much of a token was right.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), RequestError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let given = match given.split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token,
            _ => b"",
        };
        // All tokens are compared, whichever fits.
        let fits = self.0.iter().fold(0, |fits, token| fits | token.ct_eq(given).unwrap_u8());
        if fits == 1 {
            return Ok(());
        }
        Err(RequestError::new(
            StatusCode::UNAUTHORIZED,
            "this needs a token\nhint: send the header `Authorization: Bearer TOKEN`",
        ))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn tokens_are_read_by_lines_and_not_shown() {
        let tokens = Tokens::parse("# a\n one \n\ntwo\r\n").unwrap();
        assert_eq!(format!("{tokens:?}"), "2 tokens");
        for (header, fits) in
            [("Bearer one", true), ("BEARER two", true), ("Bearer  one", false), ("one", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(header));
            assert_eq!(tokens.check(&headers).is_ok(), fits, "{header}");
        }
        assert!(tokens.check(&HeaderMap::new()).is_err());
        assert!(Tokens::default().check(&HeaderMap::new()).is_ok());
        for text in ["", "# a\n", "with space", "b\u{e4}r"] {
            assert!(Tokens::parse(text).is_err(), "{text}");
        }
    }
}
