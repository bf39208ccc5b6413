//! The second half of [`Model::forward`](crate::Model::forward) in parts, for training that computes
//! activations again instead of keeping them. It is not another definition of the models: the parts are
//! those that `transform` is made of.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use burn::tensor::Tensor;

/// The tokens of some images on their way through the encoder.
#[derive(Clone)]
pub struct Encoding {
    /// `[B, S, D]`.
    tokens: Tensor<3>,
    /// `[B or 1, S, D]`.
    position: Tensor<3>,
    /// The family's own knowledge of the images, of a type of its own, through which no gradient
    /// goes.
    context: Arc<dyn Any + Send + Sync>,
}

impl Encoding {
    /// Joins tokens, their positions and what else the family needs to run its layers.
    ///
    /// # Shapes
    /// - `tokens` `[B, S, D]`, `position` `[B or 1, S, D]`
    pub(crate) fn new(
        tokens: Tensor<3>,
        position: Tensor<3>,
        context: impl Any + Send + Sync,
    ) -> Self {
        Self { tokens, position, context: Arc::new(context) }
    }

    /// Returns the tokens, `[B, S, D]`.
    #[must_use]
    pub fn tokens(&self) -> Tensor<3> {
        self.tokens.clone()
    }

    /// Returns what is added to the tokens in every layer, `[B or 1, S, D]`.
    #[must_use]
    pub fn position(&self) -> Tensor<3> {
        self.position.clone()
    }

    /// Returns the same images with other tokens and positions, of the same shapes.
    #[must_use]
    pub fn with(self, tokens: Tensor<3>, position: Tensor<3>) -> Self {
        Self { tokens, position, ..self }
    }

    /// Returns what the family stored.
    ///
    /// # Panics
    /// The encoding is of another family.
    pub(crate) fn context<C: 'static>(&self) -> &C {
        self.context.downcast_ref().expect("an encoding goes back to the model that made it")
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoding")
            .field("tokens", &self.tokens)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
