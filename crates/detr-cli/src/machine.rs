//! This machine, and what the program was built of.

pub(crate) use detr_track::machine::{cpu_name, peak_memory_mb};

/// The version in the workspace's `Cargo.toml`; Burn does not tell its own.
pub(crate) const BURN: &str = "0.22.1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burn_version_is_the_one_that_is_built() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={BURN}\"")));
    }
}
