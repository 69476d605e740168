//! The core's errors as Python's: a missing file is a `FileNotFoundError`, a bad argument a `ValueError`.

use geossl_core::Error;
use pyo3::exceptions::{PyFileNotFoundError, PyOSError, PyPermissionError, PyRuntimeError, PyValueError};
use pyo3::{PyErr, PyResult, Python};

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

/// Calls back into Python from work without the GIL, after a look for Ctrl-C. What Python raised is kept for the end.
pub fn call_back(
    raised: &mut Option<PyErr>,
    callback: impl FnOnce(Python<'_>) -> PyResult<()>,
) -> geossl_core::Result<()> {
    Python::attach(|py| py.check_signals().and_then(|()| callback(py))).map_err(|error| {
        *raised = Some(error);
        Error::Argument("the work was ended".into())
    })
}
