//! `AdamW` on flex: one pass over memory.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::zeros::zeros;
use crate::adamw::{AdamwOps, Factors};

/// Numbers of a task.
const TASK: usize = 1 << 15;

impl AdamwOps for Flex {
    fn adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        factors: Factors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let before = [value, gradient, mean, square].map(|tensor| tensor.to_contiguous());
        let [value, gradient, mean, square] = before.each_ref().map(|tensor| {
            tensor.as_slice::<f32>().expect("contiguous f32, as the callers made it")
        });
        let len = value.len();
        let mut after = [(); 3].map(|()| zeros(len));
        let [new_value, new_mean, new_square] =
            after.each_mut().map(|numbers| numbers.par_chunks_mut(TASK));
        new_value.zip(new_mean).zip(new_square).enumerate().for_each(|(task, ((v, m), s))| {
            let before = [value, gradient, mean, square].map(|all| &all[task * TASK..][..v.len()]);
            Arch::new().dispatch(Update { before, after: [v, m, s], factors });
        });
        after.map(|numbers| FlexTensor::from_data(TensorData::new(numbers, [len]))).into()
    }
}

struct Update<'a> {
    /// Value, gradient, mean and mean square.
    before: [&'a [f32]; 4],
    /// Value, mean and mean square.
    after: [&'a mut [f32]; 3],
    factors: Factors,
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { before, after: [new_value, new_mean, new_square], factors } = self;
        let n = new_value.len();
        let [value, gradient, mean, square] = before.map(|numbers| &numbers[..n]);
        let (new_mean, new_square) = (&mut new_mean[..n], &mut new_square[..n]);
        for i in 0..n {
            let mean = mean[i] * factors.mean[0] + gradient[i] * factors.mean[1];
            let square =
                square[i] * factors.square[0] + gradient[i] * gradient[i] * factors.square[1];
            let root = square.sqrt() / factors.root[0] + factors.root[1];
            new_value[i] = value[i] * factors.value[0] - mean / root * factors.value[1];
            new_mean[i] = mean;
            new_square[i] = square;
        }
    }
}
