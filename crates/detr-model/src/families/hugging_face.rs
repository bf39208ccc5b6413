//! The names of a family in folders of Hugging Face's transformers.

/// The names of a family in Hugging Face's transformers, and the words that mean something else there than in
/// other families.
#[derive(Clone, Copy)]
pub(crate) struct HuggingFaceNames {
    /// Their `model_type`.
    pub(crate) model_type: &'static str,
    /// Their class of a detector.
    pub(crate) class: &'static str,
    /// A tensor that only this family has; `None` for the family that is taken where no other fits.
    pub(crate) marker: Option<&'static str>,
    /// The official name of the decoder's cross-attention.
    pub(crate) cross_attention: &'static str,
    /// The official names of the norms after the decoder's self-attention and cross-attention.
    pub(crate) decoder_norms: [&'static str; 2],
    /// Translates what the family has outside the layers, without the leading `model.`.
    pub(crate) translate: fn(&str) -> Option<String>,
    /// Translates what the family has beside its detector: a mask head.
    pub(crate) translate_head: fn(&str) -> Option<String>,
}
