//! Checkpoints and folders of models as other programs write them.
