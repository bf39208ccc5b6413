//! The names of a family in folders of Hugging Face's transformers.

/// The names of a family in Hugging Face's transformers, and the words that mean something else there than in
/// other families.
#[derive(Clone, Copy)]
pub(crate) struct HuggingFaceNames {
    /// Their `model_type`.
    pub(crate) model_type: &'static str,
    /// Their class of a detector.
    pub(crate) class: &'static str,
    /// Further pairs of `model_type` and class whose models are of this family.
    pub(crate) others: &'static [(&'static str, &'static str)],
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

impl HuggingFaceNames {
    /// Lists every `model_type` of the family with its class.
    pub(crate) fn models(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        std::iter::once((self.model_type, self.class)).chain(self.others.iter().copied())
    }

    /// Returns whether a model of this `model_type` is of the family.
    pub(crate) fn has(&self, model_type: &str) -> bool {
        self.models().any(|(known, _)| known == model_type)
    }
}
