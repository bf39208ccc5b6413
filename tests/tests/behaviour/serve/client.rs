//! A client of a few lines, so that what is sent is what the test says.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::read::{GzDecoder, ZlibDecoder};
use serde_json::Value;

/// An answer over HTTP.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Returns a header by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Takes the body out of its compression.
    pub(super) fn decoded(mut self) -> Self {
        let mut body = Vec::new();
        match self.header("content-encoding") {
            Some("gzip") => GzDecoder::new(&self.body[..]).read_to_end(&mut body).unwrap(),
            Some("deflate") => ZlibDecoder::new(&self.body[..]).read_to_end(&mut body).unwrap(),
            _ => return self,
        };
        self.body = body;
        self
    }

    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// Sends a request on a connection of its own and reads the answer.
pub(super) fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head = format!("{head}{name}: {value}\r\n");
    }
    if method != "GET" {
        head = format!("{head}Content-Length: {}\r\n", body.len());
    }
    let mut stream = connect(address)?;
    // A server that refuses a body may close before its end.
    let sent = stream.write_all((head + "\r\n").as_bytes()).and_then(|()| stream.write_all(body));
    read_answer(stream).map_err(|error| sent.err().unwrap_or(error))
}

/// Connects to a server, with a limit on all waiting.
pub(super) fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_mins(2)))?;
    stream.set_write_timeout(Some(Duration::from_mins(2)))?;
    Ok(stream)
}

/// Reads an answer up to the end of the connection.
pub(super) fn read_answer(mut stream: impl Read) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse_answer(&bytes)
}

/// Reads an answer of the length that its head says, after which the connection may stay open.
pub(super) fn read_whole(mut stream: impl Read) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part)? {
            0 => return parse_answer(&bytes),
            count => bytes.extend(&part[..count]),
        }
        // An answer whose body is not there yet has another length than it says.
        if let Ok(answer) = parse_answer(&bytes) {
            return Ok(answer);
        }
    }
}

fn parse_answer(bytes: &[u8]) -> io::Result<Answer> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("{bytes:?}"));
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n").ok_or_else(invalid)?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| invalid())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body = bytes[end + 4..].to_vec();
    let declared = headers.iter().find(|(name, _)| name == "content-length");
    if declared.is_some_and(|(_, length)| *length != body.len().to_string()) {
        return Err(invalid());
    }
    Ok(Answer { status: status.ok_or_else(invalid)?, headers, body })
}

/// The type of [`form`].
pub(super) const FORM: &str = "multipart/form-data; boundary=edge";

/// Writes a form of files.
pub(super) fn form<'a>(files: impl IntoIterator<Item = &'a (String, Vec<u8>)>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, bytes) in files {
        let head = format!(
            "--edge\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend(bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--edge--\r\n");
    body
}
