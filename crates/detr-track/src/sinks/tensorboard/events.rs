//! Event files of TensorBoard, scalars only: the framing of TensorFlow's `record_writer.cc` and the few
//! fields of `event.proto` and `summary.proto` that a scalar needs. No crate for it is maintained.

use std::io;
use std::path::Path;

use crate::appender::Appender;
use crate::clock::unix_now;

/// An event file.
#[derive(Debug)]
pub struct Events(Appender);

impl Events {
    /// Starts a file in a folder. `resumed` is the step after which the run goes on: readers then
    /// forget what earlier files say of later steps.
    ///
    /// # Errors
    /// What the file system reports; the file is then begun with the first scalars.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds since 1970
    pub fn start(folder: &Path, host: &str, resumed: Option<u64>) -> (Self, io::Result<()>) {
        let now = unix_now();
        // Readers take the files in the order of their names.
        let process = std::process::id();
        let name = format!("events.out.tfevents.{:010}.{host}.{process}", now as u64);
        let mut file = Appender::new(folder.join(name));
        let mut start = framed(&Event { time: now, step: None, what: What::Version }.encoded());
        if let Some(step) = resumed {
            let event = Event { time: now, step: Some(step + 1), what: What::SessionStart };
            start.extend(framed(&event.encoded()));
        }
        let written = file.append(&start);
        (Self(file), written)
    }

    /// Adds scalars of a step; those that are not finite are left out.
    ///
    /// # Errors
    /// What the file system reports; they wait then.
    pub fn add(&mut self, step: u64, scalars: &[(String, f64)]) -> io::Result<()> {
        let finite: Vec<(&str, f64)> = scalars
            .iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(tag, value)| (tag.as_str(), *value))
            .collect();
        let event = Event { time: unix_now(), step: Some(step), what: What::Scalars(&finite) };
        self.0.append(&framed(&event.encoded()))
    }
}

struct Event<'a> {
    time: f64,
    step: Option<u64>,
    what: What<'a>,
}

enum What<'a> {
    /// The first event of every file.
    Version,
    /// Events of this step and later ones in earlier files no longer count.
    SessionStart,
    Scalars(&'a [(&'a str, f64)]),
}

/// How a field of protobuf is laid out.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl Event<'_> {
    /// As `Event` of `event.proto`.
    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        key(&mut out, 1, FIXED64);
        out.extend(self.time.to_le_bytes());
        if let Some(step) = self.step {
            key(&mut out, 2, VARINT);
            varint(&mut out, step);
        }
        match self.what {
            What::Version => bytes(&mut out, 3, b"brain.Event:2"),
            // `SessionLog` with `status = START`.
            What::SessionStart => bytes(&mut out, 7, &[8, 1]),
            What::Scalars(scalars) => bytes(&mut out, 5, &summary(scalars)),
        }
        out
    }
}

/// As `Summary` of `summary.proto`: values of a tag and a `simple_value`.
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

/// Seven bits to a byte, the lowest first.
#[allow(clippy::cast_possible_truncation)] // of seven bits
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A record: length, its checksum, the content, its checksum.
fn framed(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(content.len() + 16);
    out.extend(length);
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend_from_slice(content);
    out.extend(masked(crc32c(content)).to_le_bytes());
    out
}

/// What is stored of a checksum: a checksum of something that holds its own would be a constant.
const fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit-reversed, by bytes.
fn crc32c(content: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte: u8 = 0;
        loop {
            let mut value = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
                bit += 1;
            }
            table[byte as usize] = value;
            if byte == u8::MAX {
                break table;
            }
            byte += 1;
        }
    };
    !content.iter().fold(!0, |crc, &byte| {
        let [low, ..] = (crc ^ u32::from(byte)).to_le_bytes();
        TABLE[usize::from(low)] ^ crc >> 8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of RFC 3720, appendix B.4, and the check value of the polynomial.
    #[test]
    fn checksums_are_those_of_the_standard() {
        let rising: Vec<u8> = (0..32).collect();
        let falling: Vec<u8> = (0..32).rev().collect();
        for (content, crc) in [
            (&[0_u8; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
            (&falling, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ] {
            assert_eq!(crc32c(content), crc);
        }
    }

    /// Checksums and bytes as of TensorBoard's own Python package.
    #[test]
    fn records_are_laid_out_as_readers_expect() {
        let version = Event { time: 0.0, step: None, what: What::Version }.encoded();
        assert_eq!(version, b"\x09\0\0\0\0\0\0\0\0\x1a\x0dbrain.Event:2");
        let record = framed(&version);
        assert_eq!(record.len(), version.len() + 16);
        assert_eq!(record[..8], 24_u64.to_le_bytes());
        assert_eq!(record[8..12], 0x224b_7fa3_u32.to_le_bytes());
        assert_eq!(record[36..], 0xa328_dfee_u32.to_le_bytes());
        let scalars = [("a", 1.0)];
        let event = Event { time: 0.0, step: Some(300), what: What::Scalars(&scalars) };
        let expected = b"\x09\0\0\0\0\0\0\0\0\x10\xac\x02\x2a\x0a\x0a\x08\x0a\x01a\x15\0\0\x80\x3f";
        assert_eq!(event.encoded(), expected);
    }
}
