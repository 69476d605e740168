//! Bindings of the clustering.

use geossl_core::cluster::{self, KMeans};
use geossl_core::geo;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::to_py;

/// Adds this file's functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(kmeans, m)?)?;
    m.add_function(wrap_pyfunction!(assign_clusters, m)?)?;
    m.add_function(wrap_pyfunction!(haversine_km, m)?)
}

/// Spherical k-means of points in degrees.
///
/// Returns {labels: int64 [n], centroids: float64 [k, 2] of (lat, lon) degrees, inertia, iterations, converged}.
#[pyfunction]
#[pyo3(signature = (lat, lon, *, k, seed, n_init, max_iter, threads))]
#[allow(clippy::too_many_arguments)] // they are keywords in Python
fn kmeans<'py>(
    py: Python<'py>,
    lat: PyReadonlyArray1<'py, f64>,
    lon: PyReadonlyArray1<'py, f64>,
    k: usize,
    seed: u64,
    n_init: usize,
    max_iter: usize,
    threads: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let (lat, lon) = (lat.as_slice()?.to_vec(), lon.as_slice()?.to_vec());
    let settings = KMeans { k, seed, n_init, max_iter, threads };
    let found = py.detach(|| cluster::kmeans(&lat, &lon, &settings)).map_err(to_py)?;
    let centroids: Vec<Vec<f64>> =
        found.centroids.iter().map(|&c| geo::lat_lon(c)).map(|(lat, lon)| vec![lat, lon]).collect();
    let out = PyDict::new(py);
    out.set_item("labels", found.labels.iter().map(|&l| i64::from(l)).collect::<Vec<_>>().into_pyarray(py))?;
    out.set_item("centroids", numpy::PyArray2::from_vec2(py, &centroids)?)?;
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
    lat: PyReadonlyArray1<'py, f64>,
    lon: PyReadonlyArray1<'py, f64>,
    centroids: PyReadonlyArray2<'py, f64>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (lat, lon) = (lat.as_slice()?.to_vec(), lon.as_slice()?.to_vec());
    let centroids: Vec<[f64; 3]> =
        centroids.as_array().rows().into_iter().map(|row| geo::unit_vector(row[0], row[1])).collect();
    let labels = py.detach(|| cluster::assign(&lat, &lon, &centroids, threads));
    Ok(labels.into_iter().map(i64::from).collect::<Vec<_>>().into_pyarray(py))
}

/// Great-circle distance of two (lat, lon) points in degrees, kilometres, on the sphere of radius 6371.0088 km.
#[pyfunction]
fn haversine_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    geo::haversine_km(a, b)
}
