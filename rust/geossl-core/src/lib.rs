//! The data path of geossl: index, geography, pairs, decoding, cropping and the batch pipeline.

pub mod error;
pub mod index;
pub mod parallel;

pub use error::{Error, Result};
