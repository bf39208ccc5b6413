//! Colours of the classes: a distinct one for every label, and the overrides of the user.
//!
//! Not a colour library: names, `#rgb` and `#rrggbb` are all that can be written.

use std::collections::BTreeMap;
use std::str::FromStr;

use detr_types::{ClassTable, Detection, nearest};
use image::Rgb;

/// The names a colour can be given by: the 16 basic ones of CSS, then other common ones of CSS.
#[rustfmt::skip]
const NAMED: [(&str, u32); 31] = [
    ("black", 0x00_0000), ("silver", 0xc0_c0c0), ("gray", 0x80_8080), ("white", 0xff_ffff),
    ("maroon", 0x80_0000), ("red", 0xff_0000), ("purple", 0x80_0080), ("fuchsia", 0xff_00ff),
    ("green", 0x00_8000), ("lime", 0x00_ff00), ("olive", 0x80_8000), ("yellow", 0xff_ff00),
    ("navy", 0x00_0080), ("blue", 0x00_00ff), ("teal", 0x00_8080), ("aqua", 0x00_ffff),
    ("brown", 0xa5_2a2a), ("chocolate", 0xd2_691e), ("coral", 0xff_7f50), ("crimson", 0xdc_143c),
    ("cyan", 0x00_ffff), ("gold", 0xff_d700), ("grey", 0x80_8080), ("indigo", 0x4b_0082),
    ("magenta", 0xff_00ff), ("orange", 0xff_a500), ("pink", 0xff_c0cb), ("salmon", 0xfa_8072),
    ("tomato", 0xff_6347), ("turquoise", 0x40_e0d0), ("violet", 0xee_82ee),
];

/// The golden angle in degrees: steps of it never come close to an earlier hue for long.
const GOLDEN_ANGLE: f32 = 137.507_77;

/// A colour that cannot be understood, or one for a class that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaletteError {
    /// No `=` between class and colour.
    #[error("`{0}` gives no colour to a class\nhint: write CLASS=COLOUR, for example person=red")]
    NoColor(String),
    /// Nothing before the `=`.
    #[error("`{0}` names no class\nhint: write CLASS=COLOUR, for example person=red")]
    NoClass(String),
    /// A word that is no colour.
    #[error("unknown colour `{color}`{}\nhint: use #rgb, #rrggbb or one of {names}",
        nearest.map_or(String::new(), |name| format!(", did you mean `{name}`?")),
        names = known_names())]
    UnknownColor {
        /// The word.
        color: String,
        /// The known name closest to it.
        nearest: Option<&'static str>,
    },
    /// A `#` not followed by three or six hexadecimal digits.
    #[error(
        "`{0}` is not a colour: # is followed by three or six hexadecimal digits\n\
         hint: use #rgb, #rrggbb or one of {names}",
        names = known_names()
    )]
    Hex(String),
    /// A colour for a class that the model does not have.
    #[error("the model has no class `{name}` to colour\nhint: {}", class_hint(nearest.as_deref(), *classes))]
    UnknownClass {
        /// The name as given.
        name: String,
        /// The class closest to it.
        nearest: Option<String>,
        /// Number of classes the model has.
        classes: usize,
    },
}

/// One colour for one class, written `CLASS=COLOUR`.
///
/// ```text
/// person=red    traffic light=#f80    cup=#20c0a0
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColorOverride {
    /// Name of the class.
    pub name: String,
    /// Its colour.
    pub color: Rgb<u8>,
}

impl FromStr for ColorOverride {
    type Err = PaletteError;

    fn from_str(text: &str) -> Result<Self, PaletteError> {
        // The last one: a class name may contain an equals sign, a colour never does.
        let (name, color) =
            text.rsplit_once('=').ok_or_else(|| PaletteError::NoColor(text.to_owned()))?;
        let name = name.trim();
        if name.is_empty() {
            return Err(PaletteError::NoClass(text.to_owned()));
        }
        if color.trim().is_empty() {
            return Err(PaletteError::NoColor(text.to_owned()));
        }
        Ok(Self { name: name.to_owned(), color: parse_color(color)? })
    }
}

/// Parses a colour by its name, `#rgb` or `#rrggbb`; case does not matter.
///
/// # Errors
/// Anything else, with the names in the message.
pub fn parse_color(text: &str) -> Result<Rgb<u8>, PaletteError> {
    let text = text.trim();
    let lower = text.to_lowercase();
    if let Some(digits) = lower.strip_prefix('#') {
        return parse_hex(digits).ok_or_else(|| PaletteError::Hex(text.to_owned()));
    }
    match NAMED.iter().find(|(name, _)| *name == lower) {
        Some((_, value)) => Ok(from_value(*value)),
        None => Err(PaletteError::UnknownColor {
            color: text.to_owned(),
            nearest: nearest(&lower, NAMED.iter().map(|(name, _)| *name)),
        }),
    }
}

fn parse_hex(digits: &str) -> Option<Rgb<u8>> {
    // `from_str_radix` alone would accept a sign.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u32::from_str_radix(digits, 16).ok()?;
    match digits.len() {
        3 => {
            let [r, g, b] = [value >> 8, value >> 4 & 0xf, value & 0xf].map(|digit| digit * 0x11);
            Some(from_value(r << 16 | g << 8 | b))
        }
        6 => Some(from_value(value)),
        _ => None,
    }
}

fn from_value(value: u32) -> Rgb<u8> {
    let [_, r, g, b] = value.to_be_bytes();
    Rgb([r, g, b])
}

fn known_names() -> String {
    NAMED.map(|(name, _)| name).join(", ")
}

fn class_hint(nearest: Option<&str>, classes: usize) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the names of its {classes} classes are in its model card"),
    }
}

/// The colours of all classes.
///
/// The default walks the hues by the golden angle and alternates the lightness, so that classes
/// with neighbouring labels look different and a label has the same colour in every picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Palette {
    overrides: BTreeMap<String, Rgb<u8>>,
}

impl Palette {
    /// Gives a class its own colour.
    pub fn set(&mut self, name: impl Into<String>, color: Rgb<u8>) {
        self.overrides.insert(name.into(), color);
    }

    /// Returns the colour of a detection: that of its class name if it was set, else that of its
    /// label.
    #[must_use]
    pub fn color(&self, detection: &Detection) -> Rgb<u8> {
        self.class_color(detection.label, &detection.name)
    }

    /// Returns the colour of a class: that of its name if it was set, else that of its label.
    #[must_use]
    pub fn class_color(&self, label: usize, name: &str) -> Rgb<u8> {
        self.overrides.get(name).copied().unwrap_or_else(|| Self::label_color(label))
    }

    /// Returns the colour of a label without an override.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // the remainder is below 2^24
    pub fn label_color(label: usize) -> Rgb<u8> {
        let turns = (label % 100_000) as f32 * GOLDEN_ANGLE;
        // Every third label is only some 50 degrees away, but of the other lightness.
        let lightness = if label.is_multiple_of(2) { 0.66 } else { 0.45 };
        from_hsl((turns + 210.0) % 360.0, 0.88, lightness)
    }

    /// Checks that all classes with a colour of their own exist.
    ///
    /// # Errors
    /// The first name that is not in the table, with the one closest to it.
    pub fn check(&self, classes: &ClassTable) -> Result<(), PaletteError> {
        match self.overrides.keys().find(|name| classes.find(name).is_none()) {
            None => Ok(()),
            Some(name) => Err(PaletteError::UnknownClass {
                name: name.clone(),
                nearest: nearest(name, classes.categories().map(|c| c.name.as_str()))
                    .map(str::to_owned),
                classes: classes.categories().count(),
            }),
        }
    }
}

impl Extend<ColorOverride> for Palette {
    fn extend<I: IntoIterator<Item = ColorOverride>>(&mut self, overrides: I) {
        self.overrides.extend(overrides.into_iter().map(|o| (o.name, o.color)));
    }
}

impl FromIterator<ColorOverride> for Palette {
    fn from_iter<I: IntoIterator<Item = ColorOverride>>(overrides: I) -> Self {
        let mut palette = Self::default();
        palette.extend(overrides);
        palette
    }
}

/// Converts a hue in degrees, and saturation and lightness in `[0, 1]`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to a byte
fn from_hsl(hue: f32, saturation: f32, lightness: f32) -> Rgb<u8> {
    let amplitude = saturation * lightness.min(1.0 - lightness);
    Rgb([0.0, 8.0, 4.0].map(|offset| {
        let k = (offset + hue / 30.0) % 12.0;
        let value = lightness - amplitude * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_close_to_each_other_look_different() {
        let colors: Vec<_> = (0..91).map(Palette::label_color).collect();
        let distance = |a: Rgb<u8>, b: Rgb<u8>| -> u32 {
            (0..3).map(|c| u32::from(a.0[c].abs_diff(b.0[c]))).sum()
        };
        for i in 0..colors.len() {
            for j in i + 1..colors.len() {
                let least = if j - i <= 3 { 110 } else { 1 };
                assert!(distance(colors[i], colors[j]) >= least, "{i} and {j}");
            }
        }
        let _ = Palette::label_color(usize::MAX);
    }

    #[test]
    fn overrides_are_read_and_win() {
        for (text, name, color) in [
            ("person=red", "person", [255, 0, 0]),
            (" traffic light = #F80 ", "traffic light", [255, 136, 0]),
            ("a=b=#20c0a0", "a=b", [32, 192, 160]),
            ("Fußgänger=Orange", "Fußgänger", [255, 165, 0]),
        ] {
            let expected = ColorOverride { name: name.to_owned(), color: Rgb(color) };
            assert_eq!(text.parse(), Ok(expected));
        }
        let palette: Palette = ["cat=#010203".parse().unwrap()].into_iter().collect();
        let mut cat = Detection {
            label: 17,
            category_id: 17,
            name: "cat".to_owned(),
            score: 1.0,
            bbox: detr_types::Xyxy::default(),
            mask: None,
        };
        assert_eq!(palette.color(&cat), Rgb([1, 2, 3]));
        cat.name = "dog".to_owned();
        assert_eq!(palette.color(&cat), Palette::label_color(17));
    }

    #[test]
    fn messages_name_the_bad_part_and_help() {
        for (text, parts) in [
            ("person", ["`person` gives no colour", "CLASS=COLOUR"]),
            ("=red", ["`=red` names no class", "CLASS=COLOUR"]),
            ("person=", ["`person=` gives no colour", "CLASS=COLOUR"]),
            ("person=orang", ["unknown colour `orang`, did you mean `orange`?", "hint: use #rgb"]),
            ("person=zzzzzz", ["unknown colour `zzzzzz`\n", "turquoise"]),
            ("person=#12345", ["`#12345` is not a colour", "hint: use #rgb"]),
            ("person=#+12", ["`#+12` is not a colour", "hint: use #rgb"]),
        ] {
            let message = text.parse::<ColorOverride>().unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn unknown_classes_are_refused_with_the_nearest_name() {
        let coco = ClassTable::coco();
        for (name, hint) in
            [("Person", "`person`"), ("trafic light", "`traffic light`"), ("xyzzy", "80 classes")]
        {
            let mut palette = Palette::default();
            palette.set("cat", Rgb([0, 0, 0]));
            assert_eq!(palette.check(&coco), Ok(()));
            palette.set(name, Rgb([0, 0, 0]));
            let message = palette.check(&coco).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(hint), "{message}");
        }
    }
}
