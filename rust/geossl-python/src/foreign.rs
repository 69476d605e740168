//! Images that Python reads: the fallback for formats that the core has no decoder for.

use std::path::Path;
use std::sync::Arc;

use geossl_core::decode::foreign::{Foreign, Size};
use geossl_core::decode::{Raster, Samples, Want};
use geossl_core::sample::ForeignImages;
use geossl_core::{Error, Result};
use numpy::ndarray::ArrayView1;
use numpy::{Element, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;

/// A function (path, window, bands, nodata) -> (array [h, w, C], whether samples may be without data); see
/// `geossl.data.fallback.read_window`.
#[derive(Debug)]
struct Reader(Py<PyAny>);

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

/// Images that Python reads.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct ForeignOptions<'py> {
    /// See `Reader`.
    reader: Py<PyAny>,
    rows: PyReadonlyArray1<'py, i64>,
    /// int32 [n, 4]: width, height, bands and bits of these rows.
    sizes: PyReadonlyArray2<'py, i32>,
}

impl ForeignOptions<'_> {
    /// As the core takes them.
    pub fn read(self) -> ForeignImages {
        let (rows, sizes) = (self.rows.as_array(), self.sizes.as_array());
        let size = |s: ArrayView1<'_, i32>| Size {
            width: s[0] as u32,
            height: s[1] as u32,
            bands: s[2] as u16,
            bits: s[3] as u8,
        };
        let sizes = rows.iter().zip(sizes.rows()).map(|(&row, s)| (row as usize, size(s))).collect();
        ForeignImages { reader: Arc::new(Reader(self.reader)), sizes }
    }
}
