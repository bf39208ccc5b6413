//! Fields as tools really write them: ids as `1.0`, flags as numbers, masks in three forms.

use std::borrow::Cow;
use std::fmt;

use detr_types::ImageSize;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Mask;

/// An id: an integer, or a float that is one, as pandas writes it.
#[derive(Clone, Copy)]
pub(super) struct Id(pub(super) i64);

/// 0 or 1, in whatever form.
#[derive(Clone, Copy, Default)]
pub(super) struct Flag(pub(super) bool);

/// Four numbers, or an empty list for none.
#[derive(Clone, Copy)]
pub(super) struct RawBox(pub(super) Option<[f64; 4]>);

/// A mask, or an empty list for none.
pub(super) struct RawMask(pub(super) Option<Mask>);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Integer;
        impl Visitor<'_> for Integer {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Id, E> {
                Ok(Id(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Id, E> {
                i64::try_from(value).map(Id).map_err(|_| E::custom(format!("{value} is no id")))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Id, E> {
                // Every integer up to here has an exact float.
                const EXACT: f64 = 9_007_199_254_740_992.0;
                if value.fract() != 0.0 || value.abs() > EXACT {
                    return Err(E::custom(format!("{value} is no integer")));
                }
                #[allow(clippy::cast_possible_truncation)] // checked above
                Ok(Id(value as i64))
            }
        }
        deserializer.deserialize_any(Integer)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bit;
        impl Visitor<'_> for Bit {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0 or 1")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Flag, E> {
                Ok(Flag(value != 0))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Flag, E> {
                Ok(Flag(value != 0))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Flag, E> {
                Ok(Flag(value != 0.0))
            }

            fn visit_unit<E: Error>(self) -> Result<Flag, E> {
                Ok(Flag(false))
            }
        }
        deserializer.deserialize_any(Bit)
    }
}

impl<'de> Deserialize<'de> for RawBox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Four;
        impl<'de> Visitor<'de> for Four {
            type Value = RawBox;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("four numbers: left, top, width and height")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawBox, A::Error> {
                let mut sides = [0.0; 4];
                for (index, side) in sides.iter_mut().enumerate() {
                    match list.next_element()? {
                        Some(value) => *side = value,
                        None if index == 0 => return Ok(RawBox(None)),
                        None => return Err(A::Error::invalid_length(index, &self)),
                    }
                }
                match list.next_element::<IgnoredAny>()? {
                    None => Ok(RawBox(Some(sides))),
                    Some(_) => Err(A::Error::invalid_length(5, &self)),
                }
            }
        }
        deserializer.deserialize_seq(Four)
    }
}

/// Run lengths in either form.
enum Counts {
    Runs(Vec<u32>),
    Text(String),
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("run lengths, as a list or as COCO's text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Counts, E> {
                Ok(Counts::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Counts, A::Error> {
                let mut runs = Vec::new();
                while let Some(run) = list.next_element()? {
                    runs.push(run);
                }
                Ok(Counts::Runs(runs))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for RawMask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = RawMask;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of polygons, or run lengths with size and counts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawMask, A::Error> {
                let mut polygons = Vec::new();
                while let Some(polygon) = list.next_element()? {
                    polygons.push(polygon);
                }
                Ok(RawMask((!polygons.is_empty()).then_some(Mask::Polygons(polygons))))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMask, A::Error> {
                let (mut size, mut counts) = (None, None);
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    match key.as_ref() {
                        "size" => size = Some(map.next_value::<[u32; 2]>()?),
                        "counts" => counts = Some(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                let [height, width] = size.ok_or_else(|| A::Error::missing_field("size"))?;
                let size = ImageSize::new(height, width);
                let counts = counts.ok_or_else(|| A::Error::missing_field("counts"))?;
                Ok(RawMask(Some(match counts {
                    Counts::Runs(counts) => Mask::Runs { size, counts },
                    Counts::Text(counts) => Mask::Text { size, counts },
                })))
            }
        }
        deserializer.deserialize_any(Form)
    }
}
