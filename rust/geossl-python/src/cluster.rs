//! Bindings of the clustering.

use geossl_core::cluster::{self, KMeans, MiniBatch};
use geossl_core::{Error, geo};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Column, own, wide};
use crate::error::to_py;

/// Adds this file's functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<MiniBatchKMeans>()?;
    m.add_function(wrap_pyfunction!(kmeans, m)?)?;
    m.add_function(wrap_pyfunction!(assign_clusters, m)?)
}

/// Spherical k-means of points in degrees; the order of the points does not matter.
///
/// `start`, float64 [k, 2] of (lat, lon) degrees, stands in for k-means++; `max_size` is the most points of a cluster.
/// Returns {labels: int64 [n], centroids: float64 [k, 2] of (lat, lon) degrees, inertia, iterations, converged}.
#[pyfunction]
#[pyo3(signature = (lat, lon, *, k, weights = None, start = None, max_size = None, seed, n_init, max_iter, threads))]
#[allow(clippy::too_many_arguments)] // they are keywords in Python
fn kmeans<'py>(
    py: Python<'py>,
    lat: Column<'py>,
    lon: Column<'py>,
    k: usize,
    weights: Option<Column<'py>>,
    start: Option<PyReadonlyArray2<'py, f64>>,
    max_size: Option<usize>,
    seed: u64,
    n_init: usize,
    max_iter: usize,
    threads: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let (lat, lon, weights) = (own(&lat), own(&lon), weights.as_ref().map(own));
    let start = start.map(|s| unit_vectors(&s)).transpose()?;
    let settings = KMeans { k, start, max_size, seed, n_init, max_iter, threads };
    let found = py.detach(|| cluster::kmeans(&lat, &lon, weights.as_deref(), &settings)).map_err(to_py)?;
    let out = PyDict::new(py);
    out.set_item("labels", wide(&found.labels).into_pyarray(py))?;
    out.set_item("centroids", degrees(py, &found.centroids)?)?;
    out.set_item("inertia", found.inertia)?;
    out.set_item("iterations", found.iterations)?;
    out.set_item("converged", found.converged)?;
    Ok(out)
}

/// Nearest centroid (great-circle distance) of points in degrees: int64 [n].
#[pyfunction]
#[pyo3(signature = (lat, lon, centroids, *, threads))]
fn assign_clusters<'py>(
    py: Python<'py>,
    lat: Column<'py>,
    lon: Column<'py>,
    centroids: PyReadonlyArray2<'py, f64>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (lat, lon) = (own(&lat), own(&lon));
    let centroids = unit_vectors(&centroids)?;
    let found = py.detach(|| cluster::assign(&lat, &lon, &centroids, threads)).map_err(to_py)?;
    Ok(wide(&found).into_pyarray(py))
}

/// k-means for points that do not fit into memory: one part after the other.
#[pyclass]
struct MiniBatchKMeans(MiniBatch);

#[pymethods]
impl MiniBatchKMeans {
    #[new]
    #[pyo3(signature = (*, k, seed, threads))]
    fn new(k: usize, seed: u64, threads: usize) -> Self {
        Self(MiniBatch::new(k, seed, threads))
    }

    /// Learns from points in degrees; the first part seeds the centroids by k-means++.
    #[pyo3(signature = (lat, lon, *, weights = None))]
    fn partial_fit(
        &mut self,
        py: Python<'_>,
        lat: Column<'_>,
        lon: Column<'_>,
        weights: Option<Column<'_>>,
    ) -> PyResult<()> {
        let (lat, lon, weights) = (own(&lat), own(&lon), weights.as_ref().map(own));
        py.detach(|| self.0.partial_fit(&lat, &lon, weights.as_deref())).map_err(to_py)
    }

    /// float64 [k, 2] of (lat, lon) degrees; [0, 2] before the first part.
    #[getter]
    fn centroids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        degrees(py, self.0.centroids())
    }
}

fn unit_vectors(degrees: &PyReadonlyArray2<'_, f64>) -> PyResult<Vec<[f64; 3]>> {
    let degrees = degrees.as_array();
    if degrees.ncols() != 2 {
        return Err(to_py(Error::Argument(format!("centroids have 2 columns (lat, lon), not {}", degrees.ncols()))));
    }
    let vector = |lat: f64, lon: f64| {
        let known = lat.abs() <= 90.0 && lon.is_finite();
        known
            .then(|| geo::unit_vector(lat, lon))
            .ok_or_else(|| to_py(Error::Argument(format!("a centroid at ({lat}, {lon}) is not on the globe"))))
    };
    degrees.rows().into_iter().map(|row| vector(row[0], row[1])).collect()
}

fn degrees<'py>(py: Python<'py>, centroids: &[[f64; 3]]) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let flat: Vec<f64> = centroids.iter().map(|&c| geo::lat_lon(c)).flat_map(|(lat, lon)| [lat, lon]).collect();
    flat.into_pyarray(py).reshape([centroids.len(), 2])
}
