//! An event file of TensorBoard, with scalars only: the framing of TensorFlow's `record_writer.cc`, and the few fields
//! of `event.proto` and `summary.proto` that a scalar needs. No crate for it is maintained.

use std::io;
use std::path::Path;

use crate::appender::Appender;
use crate::clock::unix_now;

/// An event file.
#[derive(Debug)]
pub(super) struct EventFile(Appender);

impl EventFile {
    /// Begins a file in a folder, which is written by [`flush`](Self::flush). Readers forget what earlier files say
    /// of the steps after `resumed`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds since 1970
    pub(super) fn new(folder: &Path, host: &str, resumed: Option<u64>) -> Self {
        let now = unix_now();
        // Readers take the files in the order of their names.
        let process = std::process::id();
        let name = format!("events.out.tfevents.{:010}.{host}.{process}", now as u64);
        let mut file = Appender::new(folder.join(name));
        file.push(&framed(&Event { time: now, step: None, content: Content::Version }.encoded()));
        if let Some(step) = resumed {
            let content = Content::SessionStart;
            file.push(&framed(&Event { time: now, step: Some(step + 1), content }.encoded()));
        }
        Self(file)
    }

    /// Adds the scalars of a step by their tags; values that are not finite are left out.
    pub(super) fn push(&mut self, step: u64, scalars: &[(String, f64)]) {
        let finite: Vec<(&str, f64)> = scalars
            .iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(tag, value)| (tag.as_str(), *value))
            .collect();
        let content = Content::Scalars(&finite);
        self.0.push(&framed(&Event { time: unix_now(), step: Some(step), content }.encoded()));
    }

    /// Writes the events that wait.
    ///
    /// # Errors
    /// The file cannot be written; the events still wait.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct Event<'a> {
    time: f64,
    step: Option<u64>,
    content: Content<'a>,
}

enum Content<'a> {
    /// The first event of every file.
    Version,
    /// Events of this step and later ones in earlier files no longer count.
    SessionStart,
    Scalars(&'a [(&'a str, f64)]),
}

/// Layouts of a field of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl Event<'_> {
    /// Returns the event as `Event` of `event.proto`.
    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        key(&mut out, 1, FIXED64);
        out.extend(self.time.to_le_bytes());
        if let Some(step) = self.step {
            key(&mut out, 2, VARINT);
            varint(&mut out, step);
        }
        match self.content {
            Content::Version => bytes(&mut out, 3, b"brain.Event:2"),
            // `SessionLog` with `status = START`.
            Content::SessionStart => bytes(&mut out, 7, &[8, 1]),
            Content::Scalars(scalars) => bytes(&mut out, 5, &summary(scalars)),
        }
        out
    }
}

/// Returns scalars as `Summary` of `summary.proto`: values with a `tag` and a `simple_value`.
fn summary(scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, value) in scalars {
        let mut one = Vec::new();
        bytes(&mut one, 1, tag.as_bytes());
        key(&mut one, 2, FIXED32);
        #[allow(clippy::cast_possible_truncation)] // the field is a float
        one.extend((*value as f32).to_le_bytes());
        bytes(&mut out, 1, &one);
    }
    out
}

fn key(out: &mut Vec<u8>, field: u64, layout: u64) {
    varint(out, field << 3 | layout);
}

fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    key(out, field, BYTES);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Appends a number with seven bits to a byte, the lowest first.
#[allow(clippy::cast_possible_truncation)] // of seven bits
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Returns content as a record: its length, the checksum of the length, the content, the checksum of the content.
fn framed(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(content.len() + 16);
    out.extend(length);
    out.extend(masked(crc32c::crc32c(&length)).to_le_bytes());
    out.extend_from_slice(content);
    out.extend(masked(crc32c::crc32c(content)).to_le_bytes());
    out
}

/// Masks a checksum, because a checksum of content that ends in its own checksum would be a constant.
const fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksums and bytes are those of TensorBoard's own Python package.
    #[test]
    fn records_are_laid_out_as_readers_expect() {
        let version = Event { time: 0.0, step: None, content: Content::Version }.encoded();
        assert_eq!(version, b"\x09\0\0\0\0\0\0\0\0\x1a\x0dbrain.Event:2");
        let record = framed(&version);
        assert_eq!(record.len(), version.len() + 16);
        assert_eq!(record[..8], 24_u64.to_le_bytes());
        assert_eq!(record[8..12], 0x224b_7fa3_u32.to_le_bytes());
        assert_eq!(record[36..], 0xa328_dfee_u32.to_le_bytes());
        let scalars = [("a", 1.0)];
        let event = Event { time: 0.0, step: Some(300), content: Content::Scalars(&scalars) };
        let expected = b"\x09\0\0\0\0\0\0\0\0\x10\xac\x02\x2a\x0a\x0a\x08\x0a\x01a\x15\0\0\x80\x3f";
        assert_eq!(event.encoded(), expected);
    }
}
