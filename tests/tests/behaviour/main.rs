//! Tests from outside what users rely on: the library's promises, the binaries, and bad input.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod adamw;
mod batching;
mod boxes;
mod cli;
mod dense;
mod deploy;
mod export;
mod facade;
mod faults;
mod initialisation;
mod library;
mod losses;
mod manual;
mod msda;
mod reports;
mod round_trip;
mod self_test;
#[cfg(feature = "serve")]
mod serve;
mod snapshots;
mod support;
mod train;
mod train_settings;
