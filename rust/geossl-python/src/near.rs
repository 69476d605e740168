//! Bindings of the neighbours on the globe. Coordinates are float64 arrays in degrees.

use geossl_core::near;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::{Column, own, wide};
use crate::error::to_py;

/// Adds this file's functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(distance_km, m)?)?;
    m.add_function(wrap_pyfunction!(nearest, m)?)?;
    m.add_function(wrap_pyfunction!(within, m)?)?;
    m.add_function(wrap_pyfunction!(link_places, m)?)?;
    m.add_function(wrap_pyfunction!(dbscan, m)?)?;
    m.add_function(wrap_pyfunction!(h3_clusters, m)?)?;
    m.add_function(wrap_pyfunction!(silhouette, m)?)
}

/// Great-circle distances of pairs of points, kilometres: float64 [n].
#[pyfunction]
fn distance_km<'py>(
    py: Python<'py>,
    lat_a: Column<'py>,
    lon_a: Column<'py>,
    lat_b: Column<'py>,
    lon_b: Column<'py>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let [lat_a, lon_a, lat_b, lon_b] = [own(&lat_a), own(&lon_a), own(&lat_b), own(&lon_b)];
    let km = py.detach(|| near::distance_km((&lat_a, &lon_a), (&lat_b, &lon_b))).map_err(to_py)?;
    Ok(km.into_pyarray(py))
}

/// The k points nearest to each query: (index int64 [m, k], km float64 [m, k]), by distance and then index.
#[pyfunction]
#[pyo3(signature = (lat, lon, query_lat, query_lon, *, k, threads))]
#[allow(clippy::type_complexity, clippy::too_many_arguments)] // two arrays; keywords in Python
fn nearest<'py>(
    py: Python<'py>,
    lat: Column<'py>,
    lon: Column<'py>,
    query_lat: Column<'py>,
    query_lon: Column<'py>,
    k: usize,
    threads: usize,
) -> PyResult<(Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<f64>>)> {
    let [lat, lon, query_lat, query_lon] = [own(&lat), own(&lon), own(&query_lat), own(&query_lon)];
    let found = py
        .detach(|| {
            let found = near::nearest((&lat, &lon), (&query_lat, &query_lon), k, threads)?;
            Ok((wide(&found.index), found.km))
        })
        .map_err(to_py)?;
    let shape = [query_lat.len(), k];
    Ok((found.0.into_pyarray(py).reshape(shape)?, found.1.into_pyarray(py).reshape(shape)?))
}

/// All points within a radius of each query: (offsets int64 [m + 1], index int64, km float64); the neighbours of query
/// i are at offsets[i] to offsets[i + 1], by distance and then index.
#[pyfunction]
#[pyo3(signature = (lat, lon, query_lat, query_lon, *, radius_km, threads))]
#[allow(clippy::type_complexity, clippy::too_many_arguments)] // three arrays; keywords in Python
fn within<'py>(
    py: Python<'py>,
    lat: Column<'py>,
    lon: Column<'py>,
    query_lat: Column<'py>,
    query_lon: Column<'py>,
    radius_km: f64,
    threads: usize,
) -> PyResult<(Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>)> {
    let [lat, lon, query_lat, query_lon] = [own(&lat), own(&lon), own(&query_lat), own(&query_lon)];
    let (offsets, index, km) = py
        .detach(|| {
            let found = near::within((&lat, &lon), (&query_lat, &query_lon), radius_km, threads)?;
            let offsets: Vec<i64> = found.offsets.iter().map(|&n| n as i64).collect();
            Ok((offsets, wide(&found.index), found.km))
        })
        .map_err(to_py)?;
    Ok((offsets.into_pyarray(py), index.into_pyarray(py), km.into_pyarray(py)))
}

/// Place of each point, by single link: int64 [n], numbered by first appearance.
#[pyfunction]
#[pyo3(signature = (lat, lon, *, radius_km, threads))]
fn link_places<'py>(
    py: Python<'py>,
    lat: Column<'py>,
    lon: Column<'py>,
    radius_km: f64,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (lat, lon) = (own(&lat), own(&lon));
    let labels = py.detach(|| near::link_places(&lat, &lon, radius_km, threads)).map_err(to_py)?;
    Ok(wide(&labels).into_pyarray(py))
}

/// DBSCAN: cluster of each point, int64 [n], numbered by their first core points; -1 for noise.
#[pyfunction]
#[pyo3(signature = (lat, lon, *, radius_km, min_points, threads, weights = None))]
#[allow(clippy::too_many_arguments)] // they are keywords in Python
fn dbscan<'py>(
    py: Python<'py>,
    lat: Column<'py>,
    lon: Column<'py>,
    radius_km: f64,
    min_points: usize,
    threads: usize,
    weights: Option<Column<'py>>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (lat, lon) = (own(&lat), own(&lon));
    let weights = weights.as_ref().map(own);
    let labels =
        py.detach(|| near::dbscan(&lat, &lon, radius_km, min_points, weights.as_deref(), threads)).map_err(to_py)?;
    Ok(labels.into_pyarray(py))
}

/// H3 cells of points, cells of fewer than `min_points` points merged into the nearest that is kept:
/// (labels int64 [n], cells uint64 [n]); a label is the rank of its cell.
#[pyfunction]
#[pyo3(signature = (lat, lon, *, resolution, min_points, threads))]
#[allow(clippy::type_complexity, clippy::too_many_arguments)] // two arrays; keywords in Python
fn h3_clusters<'py>(
    py: Python<'py>,
    lat: Column<'py>,
    lon: Column<'py>,
    resolution: u8,
    min_points: usize,
    threads: usize,
) -> PyResult<(Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<u64>>)> {
    let (lat, lon) = (own(&lat), own(&lon));
    let found = py.detach(|| near::h3_clusters(&lat, &lon, resolution, min_points, threads)).map_err(to_py)?;
    Ok((wide(&found.labels).into_pyarray(py), found.cells.into_pyarray(py)))
}

/// Silhouettes of a seeded sample of the points against all points: (rows int64 [s], scores float64 [s]).
/// Points of negative labels are left out.
#[pyfunction]
#[pyo3(signature = (lat, lon, labels, *, sample, seed, threads))]
#[allow(clippy::type_complexity, clippy::too_many_arguments)] // two arrays; keywords in Python
fn silhouette<'py>(
    py: Python<'py>,
    lat: Column<'py>,
    lon: Column<'py>,
    labels: PyReadonlyArray1<'py, i64>,
    sample: Option<usize>,
    seed: u64,
    threads: usize,
) -> PyResult<(Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>)> {
    let (lat, lon, labels) = (own(&lat), own(&lon), own(&labels));
    let found = py.detach(|| near::silhouette(&lat, &lon, &labels, sample, seed, threads)).map_err(to_py)?;
    Ok((wide(&found.rows).into_pyarray(py), found.scores.into_pyarray(py)))
}
