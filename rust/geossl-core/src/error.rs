//! The one error type. Every message names the file or the setting.

use std::path::{Path, PathBuf};

/// What can go wrong in the core.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The operating system refused. `kind` is kept for the caller to map.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The kind of refusal.
        kind: std::io::ErrorKind,
        /// The system's words.
        reason: String,
    },
    /// A file's content is broken, cut short, or of a form that is not read.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An argument or a setting is out of its range.
    #[error("{0}")]
    Argument(String),
    /// A fault of this library, such as a panic in a worker; the message names the sample.
    #[error("{0}")]
    Internal(String),
}

/// Result of the core.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error at `path`.
    pub fn io(path: &Path, error: &std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), kind: error.kind(), reason: error.to_string() }
    }

    /// Broken content at `path`.
    pub fn data(path: &Path, reason: impl Into<String>) -> Self {
        Self::Data { path: path.to_owned(), reason: reason.into() }
    }
}
