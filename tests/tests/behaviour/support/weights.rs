//! Weights files taken apart, changed and put together again.

use half::{bf16, f16};
use serde_json::{Map, Value, json};

use super::{golden, images};

/// A safetensors file in parts.
#[derive(Clone)]
pub(crate) struct Safetensors {
    pub(crate) header: Map<String, Value>,
    pub(crate) data: Vec<u8>,
}

impl Safetensors {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
        let header = serde_json::from_slice(&rest[..length]).unwrap();
        Self { header, data: rest[length..].to_vec() }
    }

    /// Returns the tiny DETR under official names.
    pub(crate) fn tiny() -> Self {
        Self::of("detr_tiny")
    }

    /// Reads the tensors of a golden checkpoint.
    pub(crate) fn of(checkpoint: &str) -> Self {
        let file = golden(&format!("{checkpoint}.expected.safetensors"));
        Self::parse(&std::fs::read(file).unwrap())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let header = serde_json::to_vec(&self.header).unwrap();
        let length = (header.len() as u64).to_le_bytes();
        [length.as_slice(), &header, &self.data].concat()
    }

    /// Returns the names of all tensors.
    pub(crate) fn names(&self) -> Vec<String> {
        self.header.keys().filter(|name| *name != "__metadata__").cloned().collect()
    }

    /// Returns the range of a tensor's bytes.
    pub(crate) fn range(&self, name: &str) -> std::ops::Range<usize> {
        let offsets = &self.header[name]["data_offsets"];
        let end = |i: usize| usize::try_from(offsets[i].as_u64().unwrap()).unwrap();
        end(0)..end(1)
    }

    /// Adds one more number, in f64, as profilers leave them behind.
    pub(crate) fn with_counter(mut self, name: &str) -> Self {
        let end = self.data.len();
        self.data.extend(1e9_f64.to_le_bytes());
        let entry = json!({ "dtype": "F64", "shape": [1], "data_offsets": [end, end + 8] });
        self.header.insert(name.to_owned(), entry);
        self
    }

    /// Adds a copy of a tensor under another name.
    pub(crate) fn with_copy(mut self, name: &str, copy: &str) -> Self {
        let from = self.data.len();
        self.data.extend_from_within(self.range(name));
        let mut entry = self.header[name].clone();
        entry["data_offsets"] = json!([from, self.data.len()]);
        self.header.insert(copy.to_owned(), entry);
        self
    }

    /// Replaces one field of a tensor's entry.
    pub(crate) fn with(mut self, name: &str, field: &str, value: Value) -> Self {
        self.header[name][field] = value;
        self
    }

    /// Keeps the tensors for which the closure gives a new name.
    pub(crate) fn renamed(&self, name: impl Fn(&str) -> Option<String>) -> Self {
        let mut out = Self { header: Map::new(), data: Vec::new() };
        for old in self.names() {
            let Some(new) = name(&old) else { continue };
            let from = out.data.len();
            out.data.extend(&self.data[self.range(&old)]);
            let mut entry = self.header[&old].clone();
            entry["data_offsets"] = json!([from, out.data.len()]);
            out.header.insert(new, entry);
        }
        out
    }

    /// Replaces the first number of a tensor.
    pub(crate) fn with_value(mut self, name: &str, value: f32) -> Self {
        let at = self.range(name).start;
        self.data[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Converts all numbers to another type.
    pub(crate) fn converted(&self, dtype: &str) -> Self {
        let mut out = Self { header: Map::new(), data: Vec::new() };
        for name in self.names() {
            let from = out.data.len();
            for bytes in self.data[self.range(&name)].chunks_exact(4) {
                let value = f32::from_le_bytes(bytes.try_into().unwrap());
                match dtype {
                    "F16" => out.data.extend(f16::from_f32(value).to_le_bytes()),
                    "BF16" => out.data.extend(bf16::from_f32(value).to_le_bytes()),
                    "F64" => out.data.extend(f64::from(value).to_le_bytes()),
                    other => panic!("no such type: {other}"),
                }
            }
            let mut entry = self.header[&name].clone();
            entry["dtype"] = json!(dtype);
            entry["data_offsets"] = json!([from, out.data.len()]);
            out.header.insert(name, entry);
        }
        out
    }
}

/// Writes a zip archive of one entry.
pub(crate) fn zip(name: &str, method: u16, content: &[u8], size: u32) -> Vec<u8> {
    let short = |value: usize| u16::try_from(value).unwrap().to_le_bytes();
    let stored = u32::try_from(content.len()).unwrap();
    let mut common = [20_u16, 0, method, 0, 0x21].map(u16::to_le_bytes).concat();
    common.extend([images::crc32(content), stored, size].map(u32::to_le_bytes).concat());
    common.extend(short(name.len()));
    let local = [b"PK\x03\x04", common.as_slice(), &short(0), name.as_bytes(), content].concat();
    let zeros = [0; 16];
    let entry = [b"PK\x01\x02\x14\0", common.as_slice(), &zeros, name.as_bytes()].concat();
    let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
    end.extend(u32::try_from(entry.len()).unwrap().to_le_bytes());
    end.extend(u32::try_from(local.len()).unwrap().to_le_bytes());
    end.extend([0; 2]);
    [local, entry, end].concat()
}

/// Returns deflated zeros, some 160 times as many as bytes: one literal, then copies of 258.
pub(crate) fn deflated_zeros(copies: usize) -> Vec<u8> {
    // Least significant bit first: last block, fixed codes, the literal 0, then the copies (code
    // 285, distance 1), then the end.
    let mut bits: Vec<bool> = Vec::with_capacity(13 * copies + 32);
    let mut push = |text: &str| bits.extend(text.bytes().map(|byte| byte == b'1'));
    push("11000110000");
    for _ in 0..copies {
        push("1100010100000");
    }
    push("0000000");
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
    bits.chunks(8).map(byte).collect()
}
