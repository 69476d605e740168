//! The data path of geossl: index, geography, pairs, decoding, cropping and the batch pipeline.

pub mod advice;
pub mod align;
pub mod augment;
pub mod bandstats;
pub mod cluster;
pub mod color;
pub mod crop;
pub mod decode;
pub mod error;
pub mod geo;
pub mod index;
pub mod near;
pub mod order;
pub mod pack;
pub mod pairs;
pub mod parallel;
pub mod pipeline;
pub mod resize;
pub mod rng;
pub mod sample;

pub use error::{Error, Result};
