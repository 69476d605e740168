//! Bindings of the index. Texts cross as (offsets int64 [N + 1], UTF-8 bytes uint8), which Arrow takes without a copy.

use std::path::PathBuf;

use geossl_core::index::{self, Kind, Known, Layout, Strings};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyTuple};

use crate::error::to_py;

/// Adds this file's functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(index_scan, m)?)?;
    m.add_function(wrap_pyfunction!(index_walk, m)?)?;
    m.add_function(wrap_pyfunction!(index_file_crc32, m)?)?;
    m.add_function(wrap_pyfunction!(index_relative_paths, m)?)?;
    m.add_function(wrap_pyfunction!(index_group_footprints, m)?)?;
    m.add_function(wrap_pyfunction!(index_fmow_names, m)?)?;
    m.add_function(wrap_pyfunction!(index_parse_timestamps, m)?)
}

/// Rows of a folder in fMoW's layout or of photos, as columns and counters; rows known from before (paths and stamps)
/// that have not changed are not among them, but `kept`.
#[pyfunction]
#[pyo3(signature = (root, *, layout, kind, known_paths, known_stamps, threads))]
fn index_scan<'py>(
    py: Python<'py>,
    root: PathBuf,
    layout: &str,
    kind: Option<&str>,
    known_paths: Vec<PyBackedStr>,
    known_stamps: PyReadonlyArray1<'py, i64>,
    threads: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let kind = match kind {
        None => None,
        Some(name) => {
            Some(Kind::from_name(name).ok_or_else(|| PyValueError::new_err(format!("{name}: not rgb, msrgb or ms")))?)
        }
    };
    let layout = match layout {
        "fmow" => Layout::Fmow(kind),
        "photos" => Layout::Photos,
        other => return Err(PyValueError::new_err(format!("{other}: not fmow or photos"))),
    };
    let stamps = known_stamps.as_slice()?.to_vec();
    if stamps.len() != known_paths.len() {
        return Err(PyValueError::new_err("known_paths and known_stamps: not of one length"));
    }
    let known = Known { paths: &known_paths, stamps: &stamps };
    let scan = py.detach(|| index::scan(&root, layout, &known, threads)).map_err(to_py)?;
    let columns = scan.columns;
    let table = PyDict::new(py);
    table.set_item("path", texts(py, columns.path)?)?;
    table.set_item("location_id", texts(py, columns.location_id)?)?;
    table.set_item("lat", columns.lat.into_pyarray(py))?;
    table.set_item("lon", columns.lon.into_pyarray(py))?;
    table.set_item("timestamp", columns.timestamp.into_pyarray(py))?;
    table.set_item("category", texts(py, columns.category)?)?;
    table.set_item("box_x", columns.box_x.into_pyarray(py))?;
    table.set_item("box_y", columns.box_y.into_pyarray(py))?;
    table.set_item("box_w", columns.box_w.into_pyarray(py))?;
    table.set_item("box_h", columns.box_h.into_pyarray(py))?;
    table.set_item("width", columns.width.into_pyarray(py))?;
    table.set_item("height", columns.height.into_pyarray(py))?;
    table.set_item("bands", columns.bands.into_pyarray(py))?;
    table.set_item("dtype", texts(py, columns.dtype)?)?;
    table.set_item("gsd", columns.gsd.into_pyarray(py))?;
    table.set_item("cloud_cover", columns.cloud_cover.into_pyarray(py))?;
    table.set_item("sensor", texts(py, columns.sensor)?)?;
    table.set_item("country_code", texts(py, columns.country_code)?)?;
    table.set_item("split", texts(py, columns.split)?)?;
    table.set_item("stamp", columns.stamp.into_pyarray(py))?;

    let out = PyDict::new(py);
    out.set_item("columns", table)?;
    out.set_item("kept", scan.kept.into_pyarray(py))?;
    out.set_item("rejected", scan.rejected)?;
    out.set_item("nulled", scan.nulled)?;
    out.set_item("kind", scan.kind.map(Kind::name))?;
    let found = PyDict::new(py);
    for kind in Kind::ALL {
        found.set_item(kind.name(), scan.found[kind as usize])?;
    }
    out.set_item("found", found)?;
    out.set_item("no_sidecar", scan.no_sidecar)?;
    out.set_item("size_mismatches", scan.size_mismatches)?;
    out.set_item("duplicate_boxes", scan.duplicate_boxes)?;
    out.set_item("tiny_boxes", scan.tiny_boxes)?;
    Ok(out)
}

/// Files below `root` whose names end with one of `extensions` (small letters, without the dot), as (paths relative to
/// it, sorted; what could not be used, as (path, reason)).
#[pyfunction]
#[pyo3(signature = (root, extensions, *, threads))]
#[allow(clippy::type_complexity)] // two lists
fn index_walk(
    py: Python<'_>,
    root: PathBuf,
    extensions: Vec<String>,
    threads: usize,
) -> PyResult<(Vec<String>, Vec<(String, String)>)> {
    let wanted = |name: &str| {
        name.rsplit_once('.').is_some_and(|(_, ext)| extensions.iter().any(|e| ext.eq_ignore_ascii_case(e)))
    };
    let keep = |_: &index::folder::Folder, found: &index::walk::Found, paths: &mut Vec<String>| {
        let mut path = String::new();
        found.path_into(&mut path);
        paths.push(path);
    };
    let found = py.detach(|| index::walk::walk(&root, wanted, threads, keep)).map_err(to_py)?;
    let mut paths = found.states.concat();
    paths.sort_unstable();
    Ok((paths, found.rejected))
}

/// Listed paths brought below `root`; as given, with a reason, where one cannot be used.
#[pyfunction]
#[pyo3(signature = (root, paths, *, threads))]
fn index_relative_paths(
    py: Python<'_>,
    root: PathBuf,
    paths: Vec<PyBackedStr>,
    threads: usize,
) -> PyResult<Bound<'_, PyDict>> {
    let found = py.detach(|| index::relative_paths(&root, &paths, threads));
    let out = PyDict::new(py);
    out.set_item("path", texts(py, found.path)?)?;
    out.set_item("rejected", found.rejected)?;
    Ok(out)
}

/// CRC-32 of the first `size` bytes of a file; None if it is shorter.
#[pyfunction]
fn index_file_crc32(py: Python<'_>, path: PathBuf, size: u64) -> PyResult<Option<u32>> {
    py.detach(|| index::file_crc32(&path, size)).map_err(to_py)
}

/// The row that founds each footprint's place, int64 [N]; -1 where a corner is not finite.
/// `corners` is float64 [N, 8]: four corners in turn, (longitude, latitude) in degrees.
#[pyfunction]
fn index_group_footprints<'py>(
    py: Python<'py>,
    corners: PyReadonlyArray2<'py, f64>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (values, rest) = corners.as_slice()?.as_chunks::<2>().0.as_chunks::<4>();
    if corners.shape()[1] != 8 || !rest.is_empty() {
        return Err(PyValueError::new_err("corners: not [N, 8]"));
    }
    let values = values.to_vec();
    let found = py.detach(|| index::footprints::group(&values));
    Ok(found.into_iter().map(|row| row.map_or(-1, |row| row as i64)).collect::<Vec<_>>().into_pyarray(py))
}

/// Places, categories and splits that listed paths say by fMoW's names; "" where they say nothing.
#[pyfunction]
fn index_fmow_names(py: Python<'_>, root: PathBuf, paths: Vec<PyBackedStr>) -> PyResult<Bound<'_, PyDict>> {
    let names = py.detach(|| index::listed_names(&root, &paths));
    let out = PyDict::new(py);
    out.set_item("location_id", texts(py, names.location_id)?)?;
    out.set_item("category", texts(py, names.category)?)?;
    out.set_item("split", texts(py, names.split)?)?;
    Ok(out)
}

/// Microseconds since 1970 of ISO 8601 texts; the least int64 where a text is none.
#[pyfunction]
fn index_parse_timestamps(py: Python<'_>, texts: Vec<PyBackedStr>) -> Bound<'_, PyArray1<i64>> {
    let parse = |text: &PyBackedStr| index::timestamp::micros(text).unwrap_or(i64::MIN);
    py.detach(|| texts.iter().map(parse).collect::<Vec<i64>>()).into_pyarray(py)
}

fn texts(py: Python<'_>, strings: Strings) -> PyResult<Bound<'_, PyTuple>> {
    (strings.offsets.into_pyarray(py), strings.bytes.into_pyarray(py)).into_pyobject(py)
}
