//! Settings of a model that no tensor shows.

/// The published models all have 8 heads.
pub(crate) const DEFAULT_HEADS: usize = 8;

/// The facts about a model that a file or folder states besides weights and that shapes do not
/// tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrainingArgs {
    /// Attention heads.
    pub(crate) nheads: Option<usize>,
    /// Whether the last stage of the backbone dilates.
    pub(crate) dilation: Option<bool>,
    /// Queries; in a two-stage model no tensor has their number.
    pub(crate) num_queries: Option<usize>,
}
