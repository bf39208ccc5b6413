//! Multi-scale deformable attention: kernels and the tensor-operation reference against the formula
//! in f64 over random shapes, the formula's gradients against finite differences, and the self-test
//! against kernels that are broken on purpose.

#![allow(
    clippy::cast_precision_loss, // numbers of the cases are small
    clippy::print_stdout, // errors, and what is skipped
)]

mod formula;
mod properties;
mod random;
mod refusals;
mod self_test;
