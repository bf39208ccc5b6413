//! Faults that users of this field's tools report, tried on our programs: each test is named after the kind of
//! fault, and makes its own small input.

mod adapters;
mod layout;
mod masks;
mod panoptic;
mod records;
mod training;
mod weights;
mod wording;
