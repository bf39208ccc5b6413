//! Multi-scale deformable attention: kernels against the tensor-operation reference and against a
//! host formula in f64, over random shapes, and the formula's gradients against finite differences.

#![allow(
    unreachable_pub, // modules of one test program
    clippy::cast_precision_loss, // numbers of the cases are small
    clippy::print_stdout, // errors in half precision
)]

mod formula;
mod host;
mod precision;
mod properties;
mod random;
mod refusals;
