//! The colour conversions that zune-jpeg lacks or does differently: libjpeg's (`jdcolor.c`) from
//! `YCbCr`, and Pillow's (`Convert.c`) from inverted CMYK.

/// JFIF's `YCbCr` to RGB in 16-bit fixed point.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to a byte
fn ycc([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    [
        y + ((91_881 * cr + HALF) >> 16),
        y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16),
        y + ((116_130 * cb + HALF) >> 16),
    ]
    .map(|value| value.clamp(0, 255) as u8)
}

/// Converts one pixel of inverted CMYK, that is 0 for full ink. `k - (255 - c) * k / 255`, rounded
/// as Pillow does.
#[allow(clippy::cast_possible_truncation)] // at most `k`
fn cmyk(cmy: [u8; 3], k: u8) -> [u8; 3] {
    cmy.map(|c| {
        let product = u32::from(255 - c) * u32::from(k) + 128;
        k.saturating_sub(((product + (product >> 8)) >> 8) as u8)
    })
}

pub(super) fn ycc_to_rgb(pixels: &mut [u8]) {
    for pixel in pixels.as_chunks_mut::<3>().0 {
        *pixel = ycc(*pixel);
    }
}

pub(super) fn cmyk_to_rgb(pixels: &[u8]) -> Vec<u8> {
    pixels.as_chunks::<4>().0.iter().flat_map(|&[c, m, y, k]| cmyk([c, m, y], k)).collect()
}

/// Converts YCCK, which stores `YCbCr` of the uninverted ink's complement; the result is inverted
/// once, like the black channel beside it.
pub(super) fn ycck_to_rgb(pixels: &[u8]) -> Vec<u8> {
    // libjpeg gives 255 - ycc as ink, Pillow inverts both ink and black.
    pixels
        .as_chunks::<4>()
        .0
        .iter()
        .flat_map(|&[y, cb, cr, k]| cmyk(ycc([y, cb, cr]).map(|v| 255 - v), k))
        .collect()
}
