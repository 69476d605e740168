//! Bindings of the pipeline: slots are memory that Python allocated, batches lease them.

use std::ffi::{c_int, c_void};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use geossl_core::augment::Normalize;
use geossl_core::color::ColorSpec;
use geossl_core::crop::{CropSpec, Cut};
use geossl_core::pairs::Places;
use geossl_core::pipeline::{Next, OnError, Pipeline, Settings, SlotMemory, slot_bytes};
use geossl_core::sample::Source;
use numpy::{IntoPyArray, PyArray1, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::to_py;

/// How long one wait lasts before Python's signals are looked at.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// Adds this file's classes to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Loader>()?;
    m.add_class::<Lease>()
}

/// The settings of `CropConfig`, by name.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct CropOptions {
    size: u32,
    resize: Option<u32>,
    center: bool,
    scale: (f64, f64),
    ratio: (f64, f64),
    flip: f64,
    context: bool,
}

impl From<CropOptions> for CropSpec {
    fn from(o: CropOptions) -> Self {
        let CropOptions { size, resize, center, scale, ratio, flip, context } = o;
        Self { size, resize, center, scale, ratio, flip, context }
    }
}

/// The random settings of `ColorConfig`, by name.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct ColorOptions {
    jitter_p: f64,
    brightness: f64,
    contrast: f64,
    saturation: f64,
    hue: f64,
    gray_p: f64,
    blur_p: f64,
    blur_sigma: (f64, f64),
}

impl From<ColorOptions> for ColorSpec {
    fn from(o: ColorOptions) -> Self {
        let ColorOptions { jitter_p, brightness, contrast, saturation, hue, gray_p, blur_p, blur_sigma } = o;
        Self { jitter_p, brightness, contrast, saturation, hue, gray_p, blur_p, blur_sigma }
    }
}

/// How batches are made.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct RunOptions {
    batch: usize,
    rank: usize,
    world: usize,
    threads: usize,
    on_error: String,
    max_failures: f64,
}

impl TryFrom<RunOptions> for Settings {
    type Error = PyErr;

    fn try_from(o: RunOptions) -> PyResult<Self> {
        let on_error = match o.on_error.as_str() {
            "raise" => OnError::Raise,
            "substitute" => OnError::Substitute,
            "skip" => OnError::Skip,
            other => return Err(PyValueError::new_err(format!("on_error: {other}"))),
        };
        let RunOptions { batch, rank, world, threads, max_failures, .. } = o;
        Ok(Self { batch, rank, world, threads, on_error, max_failures })
    }
}

/// The pipeline behind `geossl.data.loader.Loader`.
#[pyclass(frozen, module = "geossl._core")]
struct Loader {
    pipeline: Arc<Pipeline>,
    /// Keeps the slots' memory alive.
    memory: Vec<Py<PyArray1<u8>>>,
}

#[pymethods]
impl Loader {
    /// `boxes`: int32 [n, 4] of x, y, width, height, width 0 for the whole image; `slots`: uint8 arrays, one
    /// rank's part of a batch each: views * samples * size * size * bands samples, of `bits` or, with `normalize`
    /// (mean and standard deviation, one a band), of 32 bits.
    #[new]
    #[pyo3(signature = (*, paths, boxes, places, views, temporal, seed, shuffle, cut, crop, color, normalize, bands, bits, max_image_bytes, options, slots))]
    #[allow(clippy::too_many_arguments)] // they are keywords in Python
    fn new(
        paths: Vec<PathBuf>,
        boxes: PyReadonlyArray2<'_, i32>,
        places: PyReadonlyArray1<'_, i32>,
        views: usize,
        temporal: bool,
        seed: u64,
        shuffle: bool,
        cut: &str,
        crop: CropOptions,
        color: Option<ColorOptions>,
        normalize: Option<(Vec<f32>, Vec<f32>)>,
        bands: u16,
        bits: u8,
        max_image_bytes: u64,
        options: RunOptions,
        slots: Vec<Bound<'_, PyArray1<u8>>>,
    ) -> PyResult<Self> {
        if boxes.shape() != [paths.len(), 4] || places.len() != paths.len() || !(1..=255).contains(&views) {
            return Err(PyValueError::new_err("paths, boxes and places must be of one length, views 1 to 255"));
        }
        let boxes = boxes.as_array();
        let source = Source {
            boxes: boxes.rows().into_iter().map(|b| (b[2] > 0).then(|| [b[0], b[1], b[2], b[3]])).collect(),
            places: Places::new(places.as_slice()?),
            paths,
            views,
            temporal,
            seed,
            shuffle,
            cut: match cut {
                "random_resized" => Cut::RandomResized,
                "random" => Cut::Random,
                "center" => Cut::Center,
                other => return Err(PyValueError::new_err(format!("cut: {other}"))),
            },
            crop: crop.into(),
            color: color.map(Into::into),
            normalize: normalize.map(|(mean, std)| Normalize { mean, std }),
            bands,
            bits,
            max_image_bytes,
        };
        let settings = Settings::try_from(options)?;
        let need = slot_bytes(&source, &settings);
        let mut memory = Vec::with_capacity(slots.len());
        for slot in &slots {
            if slot.len() < need || !slot.is_c_contiguous() {
                return Err(PyValueError::new_err(format!("slots must be contiguous and hold {need} bytes")));
            }
            memory.push(SlotMemory { ptr: slot.data(), len: slot.len() });
        }
        // SAFETY: the arrays are kept in `memory` until the threads that write to them are gone (see `drop`), and by
        // each lease for as long as Python reads its slot; Python sees a slot's bytes only through a lease.
        let pipeline = unsafe { Pipeline::new(source, settings, memory) }.map_err(to_py)?;
        Ok(Self { pipeline: Arc::new(pipeline), memory: slots.into_iter().map(Bound::unbind).collect() })
    }

    /// Batches of an epoch.
    fn __len__(&self) -> usize {
        self.pipeline.batches() as usize
    }

    /// Threads of a run.
    #[getter]
    fn threads(&self) -> usize {
        self.pipeline.threads()
    }

    /// Starts an epoch at batch `first`.
    fn start(&self, py: Python<'_>, epoch: u64, first: u64) -> PyResult<()> {
        py.detach(|| self.pipeline.start(epoch, first)).map_err(to_py)
    }

    /// Ends the epoch that is under way, and its threads.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.pipeline.stop());
    }

    /// The next batch as {lease, number, samples, rows [views, samples], color [views, samples, 7], valid [samples]},
    /// None at the end of the epoch. Ctrl-C interrupts the wait.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        loop {
            py.check_signals()?;
            let batch = match py.detach(|| self.pipeline.next(SIGNAL_CHECK)).map_err(to_py)? {
                Next::Pending => continue,
                Next::Done => return Ok(None),
                Next::Batch(batch) => batch,
            };
            let memory = self.memory[batch.slot].clone_ref(py);
            let len = memory.bind(py).len();
            let lease = Lease { pipeline: Arc::clone(&self.pipeline), slot: batch.slot, len, memory };
            let out = PyDict::new(py);
            out.set_item("lease", Bound::new(py, lease)?)?;
            out.set_item("number", batch.number)?;
            out.set_item("samples", batch.samples)?;
            out.set_item("rows", batch.rows.into_pyarray(py))?;
            out.set_item("color", batch.color.into_pyarray(py))?;
            out.set_item("valid", batch.valid.into_pyarray(py))?;
            return Ok(Some(out));
        }
    }

    /// Unreadable images so far: [(path, reason)].
    fn failures(&self) -> Vec<(PathBuf, String)> {
        self.pipeline.failures()
    }

    /// Counters since the loader was made.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.pipeline.stats();
        let out = PyDict::new(py);
        out.set_item("images", stats.images)?;
        out.set_item("bytes_read", stats.bytes_read)?;
        out.set_item("work_secs", stats.work_secs)?;
        out.set_item("wait_secs", stats.wait_secs)?;
        out.set_item("batches", stats.batches)?;
        out.set_item("ready_at_once", stats.ready_at_once)?;
        Ok(out)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // A lease may outlive this object, and the pipeline with it, but not the other slots' memory.
        self.pipeline.stop();
    }
}

/// The right to one slot's bytes: a writable buffer. The slot is refilled after the last object that uses it is gone.
#[pyclass(frozen, module = "geossl._core")]
struct Lease {
    pipeline: Arc<Pipeline>,
    slot: usize,
    len: usize,
    memory: Py<PyArray1<u8>>,
}

#[pymethods]
impl Lease {
    /// Fills in the buffer's description.
    ///
    /// # Safety
    /// Called by the interpreter with a valid `view`.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no buffer to fill in"));
        }
        let lease = slf.get();
        let data: *mut c_void = lease.memory.bind(slf.py()).data().cast();
        // SAFETY: `view` is the interpreter's; the bytes live as long as `slf`, which the filled-in buffer keeps.
        let code = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), data, lease.len as ffi::Py_ssize_t, 0, flags) };
        if code == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pipeline.release(self.slot);
    }
}
