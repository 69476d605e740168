//! A pack: many images in few files, so that a crop reads and decodes only what lies under it.
//!
//! A shard is a file: a header, the records of images (see `record`) at multiples of eight bytes, then a footer that
//! says what it holds. Shards are written under a temporary name and renamed when whole; a directory of them is a
//! pack, and an index of it joins the footers.

pub mod blocks;
mod make;
pub mod record;
pub mod segments;
pub mod shards;
pub mod tile;
pub mod whole;
pub mod write;

pub use shards::Shards;
