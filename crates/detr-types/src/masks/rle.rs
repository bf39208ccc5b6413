//! Run-length codes: columns one after another, lengths of runs that are in turn outside and
//! inside, the first outside. The compressed form stores differences to the length before last in
//! groups of five bits, as printable characters.

use std::fmt;

use crate::{ImageSize, Limits, Xywh};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::error::SegmentationError;
use super::mask::Mask;

/// A mask as lengths of runs, column by column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rle {
    /// Height and width.
    pub size: ImageSize,
    /// Lengths in pixels: outside, inside, outside, ...
    pub counts: Vec<u32>,
}

impl Rle {
    /// Creates a mask without pixels inside.
    #[must_use]
    pub fn empty(size: ImageSize) -> Self {
        Self { size, counts: vec![u32::try_from(size.pixels()).unwrap_or(u32::MAX)] }
    }

    /// Reads a code from its compressed form.
    ///
    /// # Errors
    /// A byte that is not allowed, or a run that is negative or too long.
    pub fn from_compressed(size: ImageSize, code: &str) -> Result<Self, SegmentationError> {
        let mut counts: Vec<u32> = Vec::with_capacity(code.len() / 2);
        let (mut value, mut shift) = (0_i64, 0);
        for (index, byte) in code.bytes().enumerate() {
            let wrong = SegmentationError::Code { index };
            let digit = i64::from(byte.checked_sub(48).filter(|&digit| digit < 64).ok_or(wrong)?);
            let wrong = SegmentationError::Code { index };
            if shift > 30 {
                return Err(wrong);
            }
            value |= (digit & 0x1f) << shift;
            shift += 5;
            if digit & 0x20 != 0 {
                continue;
            }
            if digit & 0x10 != 0 {
                value |= -1 << shift;
            }
            if counts.len() > 2 {
                value += i64::from(counts[counts.len() - 2]);
            }
            counts.push(u32::try_from(value).map_err(|_| wrong)?);
            (value, shift) = (0, 0);
        }
        if shift != 0 {
            return Err(SegmentationError::Code { index: code.len() });
        }
        Ok(Self { size, counts })
    }

    /// Returns the compressed form.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // five bits at a time
    pub fn to_compressed(&self) -> String {
        let mut code = String::with_capacity(2 * self.counts.len());
        for (index, &count) in self.counts.iter().enumerate() {
            let mut value = i64::from(count);
            if index > 2 {
                value -= i64::from(self.counts[index - 2]);
            }
            loop {
                let digit = (value & 0x1f) as u8;
                value >>= 5;
                let more = if digit & 0x10 != 0 { value != -1 } else { value != 0 };
                code.push(char::from(48 + digit + if more { 0x20 } else { 0 }));
                if !more {
                    break;
                }
            }
        }
        code
    }

    /// Refuses runs that do not add up to the size, and sizes beyond the pixel limit of images.
    ///
    /// # Errors
    /// [`SegmentationError::Runs`] and [`SegmentationError::TooLarge`].
    pub fn check(&self) -> Result<(), SegmentationError> {
        let (limit, expected) = (Limits::default().pixels, self.size.pixels());
        if expected > limit {
            return Err(SegmentationError::TooLarge { size: self.size, limit });
        }
        let covered = self.counts.iter().map(|&count| u64::from(count)).sum();
        if covered != expected {
            return Err(SegmentationError::Runs { covered, expected });
        }
        Ok(())
    }

    /// Returns the number of pixels inside.
    #[must_use]
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|&count| u64::from(count)).sum()
    }

    /// Returns the box around the pixels inside; zeros where there are none.
    #[must_use]
    pub fn bbox(&self) -> Xywh<f64> {
        let runs = self.counts.len() / 2 * 2;
        let height = u64::from(self.size.height);
        if runs == 0 || height == 0 {
            return Xywh::default();
        }
        let (mut xs, mut ys) = (u64::from(self.size.width), height);
        let (mut xe, mut ye, mut end, mut previous) = (0, 0, 0_u64, 0);
        for (index, &count) in self.counts[..runs].iter().enumerate() {
            end += u64::from(count);
            // Start of a run inside, or its last pixel.
            let at = end.saturating_sub(index as u64 % 2);
            let (x, y) = (at / height, at % height);
            if index % 2 == 0 {
                previous = x;
            } else if previous < x {
                (ys, ye) = (0, height - 1);
            }
            (xs, xe) = (xs.min(x), xe.max(x));
            (ys, ye) = (ys.min(y), ye.max(y));
        }
        #[allow(clippy::cast_precision_loss)] // sides of an image
        let side = |start: u64, end: u64| end.saturating_sub(start).saturating_add(1) as f64;
        #[allow(clippy::cast_precision_loss)]
        let (left, top) = (xs as f64, ys as f64);
        Xywh { x: left, y: top, w: side(xs, xe), h: side(ys, ye) }
    }

    /// Encodes a mask.
    #[must_use]
    #[allow(clippy::missing_panics_doc)]
    pub fn from_mask(mask: &Mask) -> Self {
        let (height, width) = (mask.size.height as usize, mask.size.width as usize);
        let (mut counts, mut run, mut inside) = (Vec::new(), 0_u32, false);
        for x in 0..width {
            for y in 0..height {
                let bit = mask.bits.get(y * width + x).is_some_and(|&bit| bit != 0);
                if bit != inside {
                    counts.push(run);
                    (run, inside) = (0, bit);
                }
                run += 1;
            }
        }
        counts.push(run);
        Self { size: mask.size, counts }
    }

    /// Decodes the pixels inside.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub fn to_mask(&self) -> Result<Mask, SegmentationError> {
        self.check()?;
        let (height, width) = (self.size.height as usize, self.size.width as usize);
        let mut bits = vec![0; height * width];
        let mut at = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            let end = at + count as usize;
            if index % 2 == 1 {
                for pixel in at..end {
                    bits[pixel % height * width + pixel / height] = 1;
                }
            }
            at = end;
        }
        Ok(Mask { size: self.size, bits })
    }

    /// Returns the union of codes of one size, or `None` if there is none.
    #[must_use]
    pub fn union(codes: &[Self]) -> Option<Self> {
        let (first, rest) = codes.split_first()?;
        Some(rest.iter().fold(first.clone(), |all, code| all.join(code)))
    }

    fn join(&self, other: &Self) -> Self {
        let (mut counts, mut run, mut inside) = (Vec::new(), 0_u32, false);
        for (length, a, b) in overlay(self, other) {
            if (a || b) != inside && (run > 0 || counts.is_empty()) {
                counts.push(run);
                (run, inside) = (0, a || b);
            }
            run += length;
        }
        counts.push(run);
        Self { size: self.size, counts }
    }
}

impl Mask {
    /// Encodes the mask as run lengths.
    #[must_use]
    pub fn to_rle(&self) -> Rle {
        Rle::from_mask(self)
    }
}

/// Walks over the stretches on which neither code changes: length, whether inside the first, whether inside the second.
pub fn overlay<'a>(a: &'a Rle, b: &'a Rle) -> impl Iterator<Item = (u32, bool, bool)> + 'a {
    let mut runs = [Runs::new(&a.counts), Runs::new(&b.counts)];
    std::iter::from_fn(move || {
        let [a, b] = &mut runs;
        a.refill();
        b.refill();
        let length = a.left.min(b.left);
        if length == 0 {
            return None;
        }
        a.left -= length;
        b.left -= length;
        Some((length, a.inside, b.inside))
    })
}

/// Walks over the runs of a code.
struct Runs<'a> {
    rest: &'a [u32],
    left: u32,
    inside: bool,
}

impl<'a> Runs<'a> {
    fn new(counts: &'a [u32]) -> Self {
        Self { rest: counts, left: 0, inside: true }
    }

    fn refill(&mut self) {
        while self.left == 0
            && let Some((&next, rest)) = self.rest.split_first()
        {
            (self.left, self.rest, self.inside) = (next, rest, !self.inside);
        }
    }
}

#[derive(Deserialize)]
struct DeserializedRle {
    size: [u32; 2],
    counts: Counts,
}

enum Counts {
    Compressed(String),
    Plain(Vec<u32>),
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> de::Visitor<'de> for Either {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("run lengths, as a list or as COCO's text")
            }

            fn visit_str<E: de::Error>(self, code: &str) -> Result<Counts, E> {
                Ok(Counts::Compressed(code.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Counts, A::Error> {
                let mut runs = Vec::new();
                while let Some(run) = list.next_element()? {
                    runs.push(run);
                }
                Ok(Counts::Plain(runs))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Rle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let DeserializedRle { size: [height, width], counts } =
            DeserializedRle::deserialize(deserializer)?;
        let size = ImageSize::new(height, width);
        match counts {
            Counts::Compressed(code) => {
                Self::from_compressed(size, &code).map_err(de::Error::custom)
            }
            Counts::Plain(counts) => Ok(Self { size, counts }),
        }
    }
}

impl Serialize for Rle {
    /// Writes the compressed form, which every COCO tool reads.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct SerializedRle {
            size: [u32; 2],
            counts: String,
        }
        let size = [self.size.height, self.size.width];
        SerializedRle { size, counts: self.to_compressed() }.serialize(serializer)
    }
}
