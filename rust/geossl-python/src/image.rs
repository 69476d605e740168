//! Bindings of single images: their headers and pixels.

use std::path::PathBuf;

use geossl_core::crop::Rect;
use geossl_core::decode::{self, Decoders, Input, Raster, Samples, Want};
use geossl_core::index::{Header, header};
use geossl_core::{Error, Result, parallel};
use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::to_py;

/// Adds this file's functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(image_headers, m)?)?;
    m.add_function(wrap_pyfunction!(read_image, m)?)
}

/// What the header of each image says; where one cannot be used, why.
#[pyfunction]
#[pyo3(signature = (paths, *, threads))]
fn image_headers(py: Python<'_>, paths: Vec<PathBuf>, threads: usize) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let headers = py.detach(|| parallel::map(paths.len(), threads, |i| header::read(&paths[i])));
    headers.into_iter().map(|header| described(py, header)).collect()
}

fn described(py: Python<'_>, header: std::result::Result<Header, String>) -> PyResult<Bound<'_, PyDict>> {
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
    out.set_item("alpha", tiff.and_then(|tiff| tiff.alpha))?;
    out.set_item("overviews", tiff.map_or(&[][..], |tiff| &tiff.overviews))?;
    out.set_item("transform", geo.and_then(|geo| geo.transform.map(<(f64, f64, f64, f64, f64, f64)>::from)))?;
    out.set_item("epsg", geo.and_then(|geo| geo.epsg))?;
    out.set_item("datetime", geo.and_then(|geo| geo.datetime.as_deref()))?;
    out.set_item("metadata", geo.and_then(|geo| geo.metadata.as_deref()))?;
    out.set_item("photometric", geo.map(|geo| geo.photometric))?;
    out.set_item("error", error)?;
    Ok(out)
}

/// Part of an image's pixels, {data [height, width, bands], rect, shrink, nodata}.
#[pyfunction]
#[pyo3(signature = (path, *, window=None, bands=None, shrink=1, nodata=None, max_image_bytes=1 << 30))]
fn read_image(
    py: Python<'_>,
    path: PathBuf,
    window: Option<(u32, u32, u32, u32)>,
    bands: Option<Vec<Option<u16>>>,
    shrink: u32,
    nodata: Option<u16>,
    max_image_bytes: u64,
) -> PyResult<Bound<'_, PyDict>> {
    let raster = py.detach(|| -> Result<Raster> {
        let (mut buffer, mut decoders) = (Vec::new(), Decoders::default());
        let input = Input::open(&path, &mut buffer, max_image_bytes)?;
        let image = decode::open(&path, input, &mut decoders, max_image_bytes)?;
        let rect = match window {
            None => image.rect(),
            Some((x, y, width, height)) => Rect { x, y, width, height },
        };
        let inside =
            |start: u32, length: u32, side| length > 0 && start.checked_add(length).is_some_and(|end| end <= side);
        if !inside(rect.x, rect.width, image.width) || !inside(rect.y, rect.height, image.height) {
            let size = (image.width, image.height);
            return Err(Error::data(&path, format!("the window {window:?} lies outside the {size:?} pixels")));
        }
        let bands = bands.as_deref();
        let raster = image.decode(Want { rect, shrink: shrink.max(1), bands, nodata }, &mut decoders)?;
        Ok(if raster.shrink == 1 { cut(raster, rect) } else { raster })
    });
    let Raster { rect, shrink, bands, samples, nodata, .. } = raster.map_err(to_py)?;
    let (width, height) = rect.shrunk(shrink);
    let shape = [height as usize, width as usize, usize::from(bands)];
    let out = PyDict::new(py);
    match samples {
        Samples::U8(values) => out.set_item("data", values.into_pyarray(py).reshape(shape)?)?,
        Samples::U16(values) => out.set_item("data", values.into_pyarray(py).reshape(shape)?)?,
        Samples::F32(values) => out.set_item("data", values.into_pyarray(py).reshape(shape)?)?,
    }
    out.set_item("rect", (rect.x, rect.y, rect.width, rect.height))?;
    out.set_item("shrink", shrink)?;
    out.set_item("nodata", nodata)?;
    Ok(out)
}

/// The pixels of `rect` alone.
fn cut(raster: Raster, rect: Rect) -> Raster {
    fn rows<T: Copy>(values: &[T], raster: &Raster, rect: Rect) -> Vec<T> {
        raster.lines(rect).flat_map(|line| &values[line]).copied().collect()
    }
    if raster.rect == rect {
        return raster;
    }
    let samples = match &raster.samples {
        Samples::U8(values) => Samples::U8(rows(values, &raster, rect)),
        Samples::U16(values) => Samples::U16(rows(values, &raster, rect)),
        Samples::F32(values) => Samples::F32(rows(values, &raster, rect)),
    };
    Raster { rect, samples, ..raster }
}
