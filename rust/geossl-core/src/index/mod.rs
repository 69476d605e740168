//! From files to rows: layouts, sidecars and image headers.
//!
//! A row is one crop of one image. Reasons for what is left out read "what: why", or "what" alone: the part before
//! the first ": " is the same for every file with that fault.

mod checksum;
pub mod columns;
pub mod coordinates;
pub mod fmow;
pub mod folder;
pub mod footprints;
pub mod header;
mod lenient;
pub mod listing;
pub mod photo;
mod reader;
pub mod scan;
pub mod sidecar;
pub mod timestamp;
pub mod walk;
pub mod wkt;

pub use checksum::file_crc32;
pub use columns::{Columns, Row, Strings};
pub use fmow::Kind;
pub use header::{Header, TiffHeader};
pub use listing::{ListedNames, Relative, listed_names, relative_paths};
pub use scan::{Known, Layout, Scan, scan};
