//! The weight recipe: every tensor as a pure function of its name, shape and a seed. It stands in
//! for trained weights in parity tests, benchmarks and smoke runs of full-size models, with no
//! file. The numbers are uniform and keep activations in range; a model made of them detects
//! nothing.

/// Returns number `i` of the stream that belongs to a name and a seed, in [-1, 1): FNV-1a of the
/// name seeds splitmix64, of whose outputs the upper 24 bits are kept.
#[must_use]
#[allow(clippy::cast_precision_loss)] // 24 bits fit
pub fn recipe_value(name: &str, seed: u64, i: u64) -> f64 {
    stream(fnv1a(name) ^ seed, i)
}

fn fnv1a(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[allow(clippy::cast_precision_loss)] // 24 bits fit
fn stream(state: u64, i: u64) -> f64 {
    let mut z = state.wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f64 * (1.0 / 8_388_608.0) - 1.0
}

/// Computes the tensor of that official name, row-major.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // the recipe rounds to f32 once, at the end
pub fn recipe_weight(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let (offset, scale) = offset_and_scale(name, shape);
    let state = fnv1a(name) ^ seed;
    let elements = shape.iter().product::<usize>() as u64;
    (0..elements).map(|i| (offset + scale * stream(state, i)) as f32).collect()
}

#[allow(clippy::cast_precision_loss)] // fan-ins are far below 2^52
fn offset_and_scale(name: &str, shape: &[usize]) -> (f64, f64) {
    let is = |suffix: &str| name.ends_with(suffix);
    let vector = shape.len() == 1;
    let embeddings = ["query_embed.weight", "level_embed", "row_embed.weight", "col_embed.weight"];
    match () {
        () if is("num_batches_tracked") => (0.0, 0.0),
        () if is("running_var") => (1.0, 0.5),
        () if is("running_mean") => (0.0, 0.1),
        () if vector && is("bn3.weight") => (0.25, 0.125),
        () if vector && is(".weight") => (1.0, 0.5),
        () if is("sampling_offsets.bias") => (0.0, 2.0),
        () if vector => (0.0, 0.1),
        () if embeddings.iter().any(|suffix| is(suffix)) => (0.0, 1.0),
        () => {
            let fan_in: usize = shape.iter().skip(1).product();
            (0.0, (3.0 / fan_in as f64).sqrt())
        }
    }
}

/// Draws a picture of waves and noise, `[3, h, w]`, that stands for a normalised image.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // as the recipe rounds
pub fn recipe_image(seed: u64, h: usize, w: usize) -> Vec<f32> {
    fn wave(t: f64) -> f64 {
        let t = t - t.floor();
        if t < 0.5 { 16.0 * t * (0.5 - t) } else { -16.0 * (t - 0.5) * (1.0 - t) }
    }
    let phase = (seed % 16) as f64 / 16.0;
    let state = fnv1a("image") ^ seed;
    let mut image = Vec::with_capacity(3 * h * w);
    for channel in 0..3usize {
        let c = channel as f64;
        for row in 0..h {
            for column in 0..w {
                let (x, y) = (column as f64, row as f64);
                let t1 = x * ((3.0 + c) / 128.0) + y * ((2.0 + c) / 256.0) + c / 8.0 + phase;
                let t2 = x * (1.0 / 64.0) - y * ((3.0 + 2.0 * c) / 128.0) + c / 4.0;
                let noise = stream(state, ((channel * h + row) * w + column) as u64);
                image.push(((0.9 * wave(t1) + 0.6 * wave(t2)) + 0.5 * noise) as f32);
            }
        }
    }
    image
}
