//! Bindings of the pack: making one, reading it back, and what its shards say.

use std::path::PathBuf;

use geossl_core::Result;
use geossl_core::pack::Shards;
use geossl_core::pack::shards::read_footer;
use geossl_core::pack::write::{self, Form, Item, Job, Progress};
use numpy::{IntoPyArray, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::error::{call_back, to_py};
use crate::foreign::ForeignOptions;

/// Adds this file's functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(pack_write, m)?)?;
    m.add_function(wrap_pyfunction!(pack_verify, m)?)?;
    m.add_function(wrap_pyfunction!(pack_footer, m)?)
}

/// What is packed, and how.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Options<'py> {
    first: u64,
    end: u64,
    /// None: lossless.
    short_side: Option<u32>,
    quality: Option<u8>,
    context: bool,
    threads: usize,
    folder: PathBuf,
    shard_bytes: u64,
    max_image_bytes: u64,
    foreign: Option<ForeignOptions<'py>>,
}

fn job(paths: Vec<PathBuf>, boxes: &PyReadonlyArray2<'_, i32>, options: Options<'_>) -> Job {
    let Options { first, end, short_side, quality, context, threads, folder, shard_bytes, max_image_bytes, foreign } =
        options;
    let form = short_side.map_or(Form::Lossless, |short_side| Form::Sized { short_side, quality, context });
    let items = paths
        .into_iter()
        .zip(boxes.as_array().rows())
        .map(|(path, b)| Item { path, bounds: (b[2] > 0).then_some([b[0], b[1], b[2], b[3]]) })
        .collect();
    Job {
        items,
        range: first..end,
        form,
        threads,
        folder,
        shard_bytes,
        max_image_bytes,
        foreign: foreign.map(ForeignOptions::read),
    }
}

fn counters<'py>(py: Python<'py>, progress: &Progress) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("done", progress.done)?;
    out.set_item("earlier", progress.earlier)?;
    out.set_item("failed", progress.failed)?;
    out.set_item("bytes_in", progress.bytes_in)?;
    out.set_item("bytes_out", progress.bytes_out)?;
    out.set_item("squared", progress.squared)?;
    out.set_item("samples", progress.samples)?;
    Ok(out)
}

/// Calls back with the counters.
fn report(callback: &Py<PyAny>, raised: &mut Option<PyErr>, progress: &Progress) -> Result<()> {
    call_back(raised, |py| callback.call1(py, (counters(py, progress)?,)).map(|_| ()))
}

/// Packs `paths[first:end]` that are not packed yet; `progress` is called with the counters.
#[pyfunction]
#[pyo3(signature = (paths, boxes, *, options, progress))]
fn pack_write<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    boxes: PyReadonlyArray2<'py, i32>,
    options: Options<'py>,
    progress: Py<PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let job = job(paths, &boxes, options);
    let mut raised = None;
    let done = py.detach(|| write::write(&job, |state| report(&progress, &mut raised, state)));
    match (raised, done) {
        (Some(error), _) => Err(error),
        (None, done) => counters(py, &done.map_err(to_py)?),
    }
}

/// Compares what lies at `offsets` of `shards` (-1: not packed) with the files: (counters, [(number, reason)]).
#[pyfunction]
#[pyo3(signature = (paths, boxes, *, shards, shard, offset, options, progress))]
#[allow(clippy::too_many_arguments)] // they are keywords in Python
fn pack_verify<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    boxes: PyReadonlyArray2<'py, i32>,
    shards: Vec<PathBuf>,
    shard: PyReadonlyArray1<'py, i32>,
    offset: PyReadonlyArray1<'py, i64>,
    options: Options<'py>,
    progress: Py<PyAny>,
) -> PyResult<Bound<'py, PyTuple>> {
    let job = job(paths, &boxes, options);
    let at: Vec<(i64, u64)> =
        shard.as_array().iter().zip(offset.as_array()).map(|(&shard, &at)| (i64::from(shard), at as u64)).collect();
    let mut raised = None;
    let done = py.detach(|| {
        let shards = Shards::open(shards)?;
        write::verify(&job, &shards, &at, |state| report(&progress, &mut raised, state))
    });
    match (raised, done) {
        (Some(error), _) => Err(error),
        (None, done) => {
            let (state, differ) = done.map_err(to_py)?;
            (counters(py, &state)?, differ).into_pyobject(py)
        }
    }
}

/// What a shard holds: {first, count, number, offset, length, failures: [(number, reason)]}.
#[pyfunction]
fn pack_footer(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let footer = py.detach(|| read_footer(&path)).map_err(to_py)?;
    let column =
        |f: fn(&(u64, u64, u64)) -> u64| -> Vec<i64> { footer.records.iter().map(|record| f(record) as i64).collect() };
    let out = PyDict::new(py);
    out.set_item("first", footer.first)?;
    out.set_item("count", footer.count)?;
    out.set_item("number", column(|r| r.0).into_pyarray(py))?;
    out.set_item("offset", column(|r| r.1).into_pyarray(py))?;
    out.set_item("length", column(|r| r.2).into_pyarray(py))?;
    out.set_item("failures", footer.failures)?;
    Ok(out)
}
