//! Images that Python reads: the fallback for formats that the core has no decoder for.

use std::path::Path;

use geossl_core::decode::foreign::Foreign;
use geossl_core::decode::{Raster, Samples, Want};
use geossl_core::{Error, Result};
use numpy::{Element, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;

/// A function (path, window, bands, nodata) -> (array [h, w, C], whether samples may be without data); see
/// `geossl.data.fallback.read_window`.
#[derive(Debug)]
pub struct Reader(pub Py<PyAny>);

impl Foreign for Reader {
    fn read(&self, path: &Path, want: Want<'_>) -> Result<Raster> {
        let read = |py: Python<'_>| -> PyResult<Raster> {
            let rect = want.rect;
            let window = (rect.x, rect.y, rect.width, rect.height);
            let bands = want.bands.map(<[_]>::to_vec);
            let read = self.0.call1(py, (path, window, bands, want.nodata))?;
            let (array, may_lack): (Bound<'_, PyAny>, bool) = read.extract(py)?;
            let (bands, samples) = if let Ok(array) = array.extract::<PyReadonlyArray3<'_, u8>>() {
                (array.shape()[2], Samples::U8(values(&array)?))
            } else if let Ok(array) = array.extract::<PyReadonlyArray3<'_, u16>>() {
                (array.shape()[2], Samples::U16(values(&array)?))
            } else {
                let array = array.extract::<PyReadonlyArray3<'_, f32>>()?;
                (array.shape()[2], Samples::F32(values(&array)?))
            };
            let raster = Raster::new(rect, bands as u16, samples);
            let nodata = raster.nodata.or(want.nodata.filter(|_| may_lack).map(f32::from));
            Ok(Raster { nodata, ..raster })
        };
        // Without an interpreter nobody asks for images any more.
        Python::try_attach(|py| read(py).map_err(|e| Error::data(path, e.value(py).to_string())))
            .unwrap_or_else(|| Err(Error::data(path, "the interpreter has ended")))
    }
}

fn values<T: Element + Copy>(array: &PyReadonlyArray3<'_, T>) -> PyResult<Vec<T>> {
    Ok(array.as_slice()?.to_vec())
}
