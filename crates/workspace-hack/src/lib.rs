//! An empty library: only the dependencies in this package's `Cargo.toml` matter.
