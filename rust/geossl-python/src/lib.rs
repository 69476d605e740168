//! The extension `geossl._core`: converts, releases the GIL and maps errors. No logic lives here.

// Python's arguments are extracted by value.
#![allow(clippy::needless_pass_by_value)]

use pyo3::prelude::*;

mod arrays;
mod bandstats;
mod check;
mod cluster;
mod error;
mod foreign;
mod image;
mod index;
mod loader;
mod near;
mod pack;
mod pairs;

#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::bandstats::register(m)?;
        crate::check::register(m)?;
        crate::cluster::register(m)?;
        crate::loader::register(m)?;
        crate::near::register(m)?;
        crate::pack::register(m)?;
        crate::pairs::register(m)?;
        crate::image::register(m)?;
        crate::index::register(m)
    }
}
