//! The second half of [`Model::forward`](crate::Model::forward) in parts, for those who run them one by
//! one: training that computes activations again instead of keeping them. Not another definition of the
//! models: the parts are those that `transform` is made of.

use burn::tensor::Tensor;

use crate::backbone::Features;
use crate::model::Model;
use crate::output::DetrOutput;
use crate::{deformable_detr, detr};

/// The tokens of some images on their way through the encoder.
#[derive(Clone, Debug)]
pub struct Encoding(Kind);

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // a few handles
enum Kind {
    Detr(detr::Encoding),
    DeformableDetr(deformable_detr::Encoding),
}

impl Encoding {
    /// `[B, S, D]`: the tokens.
    #[must_use]
    pub fn tokens(&self) -> Tensor<3> {
        match &self.0 {
            Kind::Detr(encoding) => encoding.tokens.clone(),
            Kind::DeformableDetr(encoding) => encoding.tokens.values.clone(),
        }
    }

    /// `[B or 1, S, D]`: what is added to them in every layer.
    #[must_use]
    pub fn position(&self) -> Tensor<3> {
        match &self.0 {
            Kind::Detr(encoding) => encoding.position.clone(),
            Kind::DeformableDetr(encoding) => encoding.position.clone(),
        }
    }

    /// The same images with other tokens and positions, of the same shapes.
    #[must_use]
    pub fn with(mut self, tokens: Tensor<3>, position: Tensor<3>) -> Self {
        match &mut self.0 {
            Kind::Detr(encoding) => (encoding.tokens, encoding.position) = (tokens, position),
            Kind::DeformableDetr(encoding) => {
                (encoding.tokens.values, encoding.position) = (tokens, position);
            }
        }
        self
    }
}

impl Model {
    /// What the encoder works on; none of the demonstration model, which is small.
    #[must_use]
    pub fn tokenize(&self, features: Features) -> Option<Encoding> {
        Some(Encoding(match self {
            Self::Detr(model) => Kind::Detr(model.tokenize(features)),
            Self::DeformableDetr(model) => Kind::DeformableDetr(model.tokenize(features)),
            Self::DetrDemo(_) => return None,
        }))
    }

    /// Layers of the encoder that [`Model::encode`] knows.
    #[must_use]
    pub const fn encoder_layers(&self) -> usize {
        match self {
            Self::Detr(model) => model.transformer.encoder.layers.len(),
            Self::DeformableDetr(model) => model.transformer.encoder.layers.len(),
            Self::DetrDemo(_) => 0,
        }
    }

    /// Whether a layer of the encoder drops some of its activations by chance.
    #[must_use]
    pub fn encoder_drops(&self) -> bool {
        match self {
            Self::Detr(model) => {
                model.transformer.encoder.layers.iter().any(|layer| layer.dropout.prob > 0.0)
            }
            Self::DeformableDetr(model) => {
                model.transformer.encoder.layers.iter().any(|layer| layer.dropout.prob > 0.0)
            }
            Self::DetrDemo(_) => false,
        }
    }

    /// Tokens after a layer of the encoder; those that went in, of an encoding of another model or a
    /// layer that is not there.
    ///
    /// # Shapes
    /// - output `[B, S, D]`
    #[must_use]
    pub fn encode(&self, layer: usize, encoding: &Encoding) -> Tensor<3> {
        let after = match (self, &encoding.0) {
            (Self::Detr(model), Kind::Detr(encoding)) => {
                let detr::Encoding { tokens, position, mask } = encoding;
                let layer = model.transformer.encoder.layers.get(layer);
                layer.map(|layer| layer.forward(tokens.clone(), mask.as_ref(), Some(position)))
            }
            (Self::DeformableDetr(model), Kind::DeformableDetr(encoding)) => {
                let deformable_detr::Encoding { tokens, position, references, .. } = encoding;
                let layer = model.transformer.encoder.layers.get(layer);
                layer.map(|layer| layer.forward(tokens, position, references.clone()))
            }
            _ => None,
        };
        after.unwrap_or_else(|| encoding.tokens())
    }

    /// Predictions, of tokens that went through all layers of the encoder.
    #[must_use]
    pub fn decode(&self, encoding: Encoding) -> Option<DetrOutput> {
        match (self, encoding.0) {
            (Self::Detr(model), Kind::Detr(encoding)) => Some(model.decode_tokens(encoding)),
            (Self::DeformableDetr(model), Kind::DeformableDetr(encoding)) => {
                Some(model.decode_tokens(&encoding))
            }
            _ => None,
        }
    }
}
