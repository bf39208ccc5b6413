//! An empty build script, without which cargo ignores the features of build dependencies.

fn main() {}
