//! The extension `geossl._core`: converts, releases the GIL and maps errors. No logic lives here.

use pyo3::prelude::*;

mod error;
mod index;

#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::index::register(m)
    }
}
