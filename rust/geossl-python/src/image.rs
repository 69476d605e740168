//! Bindings of single images: their headers.

use std::path::PathBuf;

use geossl_core::index::{Header, header};
use geossl_core::parallel;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Adds this file's functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(image_headers, m)?)
}

/// What the header of each image says; where one cannot be used, why.
#[pyfunction]
#[pyo3(signature = (paths, *, threads))]
fn image_headers(py: Python<'_>, paths: Vec<PathBuf>, threads: usize) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let headers = py.detach(|| parallel::map(paths.len(), threads, |i| header::read(&paths[i])));
    headers.into_iter().map(|header| described(py, header)).collect()
}

fn described(py: Python<'_>, header: Result<Header, String>) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    let (header, error) = match header {
        Ok(header) => (Some(header), None),
        Err(reason) => (None, Some(reason)),
    };
    let tiff = header.as_ref().and_then(|header| header.tiff.as_deref());
    let geo = tiff.map(|tiff| &tiff.geo);
    out.set_item("width", header.as_ref().map(|header| header.width))?;
    out.set_item("height", header.as_ref().map(|header| header.height))?;
    out.set_item("bands", header.as_ref().map(|header| header.bands))?;
    out.set_item("dtype", header.as_ref().map(|header| header.dtype.name()))?;
    out.set_item("nodata", tiff.and_then(|tiff| tiff.nodata))?;
    out.set_item("overviews", tiff.map_or(&[][..], |tiff| &tiff.overviews))?;
    out.set_item("transform", geo.and_then(|geo| geo.transform.map(<(f64, f64, f64, f64, f64, f64)>::from)))?;
    out.set_item("epsg", geo.and_then(|geo| geo.epsg))?;
    out.set_item("datetime", geo.and_then(|geo| geo.datetime.as_deref()))?;
    out.set_item("metadata", geo.and_then(|geo| geo.metadata.as_deref()))?;
    out.set_item("photometric", geo.map(|geo| geo.photometric))?;
    out.set_item("error", error)?;
    Ok(out)
}
