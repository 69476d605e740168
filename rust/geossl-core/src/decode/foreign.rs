//! Images of formats that are not decoded here, read by another library.

use std::path::Path;

use super::{Raster, Want};
use crate::Result;

/// A library that reads what this crate does not.
pub trait Foreign: Send + Sync + std::fmt::Debug {
    /// The pixels of `want.rect` as they are, whatever `want.shrink` says.
    fn read(&self, path: &Path, want: Want<'_>) -> Result<Raster>;
}

/// What is known of an image before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Bands.
    pub bands: u16,
    /// Bits of a sample as decoded: 8 or 16, unsigned, or 32, a float.
    pub bits: u8,
}
