//! Binding of the bands' statistics.

use std::path::PathBuf;

use geossl_core::bandstats::{self, Band, Item, Kind};
use numpy::{IntoPyArray, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{call_back, to_py};
use crate::foreign::ForeignOptions;

/// Adds this file's function to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(band_stats, m)?)
}

/// Statistics of the bands of images: {kinds: [(images, [band])], failures: [(number, reason)]}.
///
/// `kind` is the number of each image's (bands, bits) among `kinds`; `progress` is called with the images done.
#[pyfunction]
#[pyo3(signature = (paths, boxes, kind, *, kinds, foreign, threads, max_image_bytes, progress))]
#[allow(clippy::too_many_arguments)] // they are keywords in Python
fn band_stats<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    boxes: PyReadonlyArray2<'py, i32>,
    kind: PyReadonlyArray1<'py, i64>,
    kinds: Vec<(u16, u8)>,
    foreign: Option<ForeignOptions<'py>>,
    threads: usize,
    max_image_bytes: u64,
    progress: Py<PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let items: Vec<Item> = paths
        .into_iter()
        .zip(boxes.as_array().rows())
        .zip(kind.as_array())
        .map(|((path, b), &kind)| Item {
            path,
            bounds: (b[2] > 0).then_some([b[0], b[1], b[2], b[3]]),
            kind: kind as usize,
        })
        .collect();
    let kinds: Vec<Kind> = kinds.into_iter().map(|(bands, bits)| Kind { bands, bits }).collect();
    let foreign = foreign.map(ForeignOptions::read);
    let mut raised = None;
    let found = py.detach(|| {
        bandstats::measure(&items, &kinds, foreign.as_ref(), threads, max_image_bytes, |done| {
            call_back(&mut raised, |py| progress.call1(py, (done,)).map(|_| ()))
        })
    });
    if let Some(error) = raised {
        return Err(error);
    }
    let found = found.map_err(to_py)?;
    let band = |band: Band| -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        out.set_item("count", band.count)?;
        out.set_item("nodata", band.nodata)?;
        out.set_item("mean", band.mean)?;
        out.set_item("std", band.std)?;
        out.set_item("min", band.min)?;
        out.set_item("max", band.max)?;
        out.set_item("histogram", band.histogram.into_pyarray(py))?;
        Ok(out)
    };
    let kinds = found
        .kinds
        .into_iter()
        .map(|(images, bands)| Ok((images, bands.into_iter().map(band).collect::<PyResult<Vec<_>>>()?)))
        .collect::<PyResult<Vec<_>>>()?;
    let out = PyDict::new(py);
    out.set_item("kinds", kinds)?;
    out.set_item("failures", found.failures)?;
    Ok(out)
}
