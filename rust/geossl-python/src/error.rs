//! The core's errors as Python's: a missing file is a `FileNotFoundError`, a bad argument a `ValueError`.

use geossl_core::Error;
use pyo3::PyErr;
use pyo3::exceptions::{PyFileNotFoundError, PyOSError, PyPermissionError, PyRuntimeError, PyValueError};

/// Maps one error; for use with `map_err`.
pub fn to_py(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Io { kind, .. } => match kind {
            std::io::ErrorKind::NotFound => PyFileNotFoundError::new_err(message),
            std::io::ErrorKind::PermissionDenied => PyPermissionError::new_err(message),
            _ => PyOSError::new_err(message),
        },
        Error::Data { .. } | Error::Argument(_) => PyValueError::new_err(message),
        Error::Internal(_) => PyRuntimeError::new_err(message),
    }
}
