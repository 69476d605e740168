//! Bindings of what looks at an index's files: which are broken, and which are the same.

use std::path::PathBuf;

use geossl_core::check::{self, Item};
use geossl_core::contents::{self, Same};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::error::{call_back, to_py};
use crate::foreign::ForeignOptions;

/// Adds this file's functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(check_images, m)?)?;
    m.add_function(wrap_pyfunction!(same_bytes, m)?)
}

/// [(number, reason)] of the images that cannot be decoded, or are not what the index says.
///
/// `sizes` has the width, height and bands of each (0: unknown), `boxed` whether only boxes of it are views; `progress`
/// is called with the images done.
#[pyfunction]
#[pyo3(signature = (paths, sizes, dtypes, boxed, *, foreign, threads, max_image_bytes, progress))]
#[allow(clippy::too_many_arguments)] // they are keywords in Python
fn check_images(
    py: Python<'_>,
    paths: Vec<PathBuf>,
    sizes: PyReadonlyArray2<'_, i32>,
    dtypes: Vec<String>,
    boxed: PyReadonlyArray1<'_, bool>,
    foreign: Option<ForeignOptions<'_>>,
    threads: usize,
    max_image_bytes: u64,
    progress: Py<PyAny>,
) -> PyResult<Vec<(u64, String)>> {
    let items: Vec<Item> = paths
        .into_iter()
        .zip(sizes.as_array().rows())
        .zip(dtypes)
        .zip(boxed.as_array())
        .map(|(((path, s), dtype), &boxed)| Item { path, size: [s[0] as u32, s[1] as u32, s[2] as u32], dtype, boxed })
        .collect();
    let foreign = foreign.map(ForeignOptions::read);
    let mut raised = None;
    let found = py.detach(|| {
        check::broken(&items, foreign.as_ref(), threads, max_image_bytes, |done| {
            call_back(&mut raised, |py| progress.call1(py, (done,)).map(|_| ()))
        })
    });
    raised.map_or(found.map_err(to_py), Err)
}

/// For each file the number of the first one with its bytes, int64 [n], its own where there is none before; and
/// [(number, reason)] of those that cannot be read. `progress` is called with the steps done and their number.
#[pyfunction]
#[pyo3(signature = (paths, *, threads, progress))]
#[allow(clippy::type_complexity)] // it is Python's tuple
fn same_bytes(
    py: Python<'_>,
    paths: Vec<PathBuf>,
    threads: usize,
    progress: Py<PyAny>,
) -> PyResult<(Bound<'_, PyArray1<i64>>, Vec<(u64, String)>)> {
    let mut raised = None;
    let found = py.detach(|| {
        contents::same_bytes(&paths, threads, |done, total| {
            call_back(&mut raised, |py| progress.call1(py, (done, total)).map(|_| ()))
        })
    });
    let Same { first, failures } = raised.map_or(found.map_err(to_py), Err)?;
    let first: Vec<i64> = first.into_iter().map(|n| n as i64).collect();
    Ok((first.into_pyarray(py), failures))
}
