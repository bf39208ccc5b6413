#![allow(missing_docs, clippy::all, clippy::pedantic)]
use burn::tensor::*;
use std::time::Instant;
const LEVELS: [[usize; 2]; 4] = [[100, 134], [50, 67], [25, 34], [13, 17]];
fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    let runs: usize = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(9);
    let dev = Device::flex();
    let s: usize = LEVELS.iter().map(|[h, w]| h * w).sum();
    let centres: Vec<[f64; 2]> = LEVELS
        .iter()
        .flat_map(|&[h, w]| {
            (0..h * w).map(move |i| {
                [((i % w) as f64 + 0.5) / w as f64, ((i / w) as f64 + 0.5) / h as f64]
            })
        })
        .collect();
    for (name, q, near) in [
        ("encoder near", s, true),
        ("encoder anywhere", s, false),
        ("decoder near", 300, true),
        ("decoder anywhere", 300, false),
    ] {
        if !name.contains(&only) {
            continue;
        }
        let mut z = 1u64;
        let mut r = || {
            z = z.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((z >> 40) as f64) / (1u64 << 23) as f64 - 1.0
        };
        let value: Vec<f32> = (0..s * 256).map(|_| r() as f32).collect();
        let loc: Vec<f32> = (0..q * 8 * 16 * 2)
            .map(|i| {
                let (axis, level, query) = (i % 2, i / 8 % 4, i / 256);
                let side = LEVELS[level][1 - axis] as f64;
                (if near {
                    centres[query * (s / q)][axis] + 4.0 * r() / side
                } else {
                    0.5 + 0.5 * r()
                }) as f32
            })
            .collect();
        let w: Vec<f32> = (0..q * 128).map(|_| r() as f32).collect();
        let v = Tensor::<4>::from_data(TensorData::new(value, [1, s, 8, 32]), (&dev, DType::F32));
        let l =
            Tensor::<6>::from_data(TensorData::new(loc, [1, q, 8, 4, 4, 2]), (&dev, DType::F32));
        let w = Tensor::<5>::from_data(TensorData::new(w, [1, q, 8, 4, 4]), (&dev, DType::F32));
        let mut f = vec![];
        let mut fb = vec![];
        for _ in 0..runs + 2 {
            let t = Instant::now();
            drop(detr_ops::msda(v.clone(), &LEVELS, l.clone(), w.clone()));
            f.push(t.elapsed().as_secs_f64() * 1e3);
        }
        for _ in 0..runs + 2 {
            let t = Instant::now();
            let (a, b, c) = (
                v.clone().autodiff().require_grad(),
                l.clone().autodiff().require_grad(),
                w.clone().autodiff().require_grad(),
            );
            let mut g = detr_ops::msda(a.clone(), &LEVELS, b.clone(), c.clone()).sum().backward();
            drop((a.grad_remove(&mut g), b.grad_remove(&mut g), c.grad_remove(&mut g)));
            fb.push(t.elapsed().as_secs_f64() * 1e3);
        }
        let m = |v: &mut Vec<f64>| {
            v.drain(..2);
            v.sort_by(f64::total_cmp);
            (v[v.len() / 2], v[0])
        };
        println!("{name}: forward {:.2?}  both {:.2?}", m(&mut f), m(&mut fb));
    }
}
