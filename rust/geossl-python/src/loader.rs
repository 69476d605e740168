//! Bindings of the pipeline: slots are memory that Python allocated, batches lease them.

use std::ffi::{c_int, c_void};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use geossl_core::align::Align;
use geossl_core::augment::Normalize;
use geossl_core::color::ColorSpec;
use geossl_core::crop::{CropSpec, Cut};
use geossl_core::pack::Shards;
use geossl_core::pipeline::{Next, OnError, Pipeline, Settings, SlotMemory, slot_bytes};
use geossl_core::sample::{BandMap, Packed, Source};
use numpy::{IntoPyArray, PyArray1, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::to_py;
use crate::foreign::ForeignOptions;
use crate::pairs::PairOptions;

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
    decode: String,
    min_valid: f64,
}

impl TryFrom<CropOptions> for CropSpec {
    type Error = PyErr;

    fn try_from(o: CropOptions) -> PyResult<Self> {
        let CropOptions { size, resize, center, scale, ratio, flip, context, decode, min_valid } = o;
        let scaled = match decode.as_str() {
            "exact" => false,
            "scaled" => true,
            other => return Err(PyValueError::new_err(format!("decode: {other}"))),
        };
        Ok(Self { size, resize, center, scale, ratio, flip, context, scaled, min_valid })
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
    band_jitter: f64,
    band_dropout: f64,
}

impl From<ColorOptions> for ColorSpec {
    fn from(o: ColorOptions) -> Self {
        let ColorOptions { jitter_p, brightness, contrast, saturation, hue, gray_p, blur_p, blur_sigma, .. } = o;
        let ColorOptions { band_jitter, band_dropout, .. } = o;
        Self { jitter_p, brightness, contrast, saturation, hue, gray_p, blur_p, blur_sigma, band_jitter, band_dropout }
    }
}

/// Where the images lie in a pack, by row; shard -1 where one could not be packed.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct PackOptions<'py> {
    shards: Vec<PathBuf>,
    shard: PyReadonlyArray1<'py, i32>,
    offset: PyReadonlyArray1<'py, i64>,
    length: PyReadonlyArray1<'py, i64>,
}

impl PackOptions<'_> {
    fn open(self) -> PyResult<Packed> {
        let (shard, offset, length) = (self.shard.as_array(), self.offset.as_array(), self.length.as_array());
        let at = shard.iter().zip(offset).zip(length).map(|((&s, &at), &n)| (s, at as u64, n as u64)).collect();
        Ok(Packed { shards: Shards::open(self.shards).map_err(to_py)?, at })
    }
}

/// What a view has of its image's samples.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct SampleOptions<'py> {
    bands: u16,
    bits: u8,
    /// Of each kind of image: its bands, and for each of a view's that of the image, None for all as they come.
    kinds: Vec<(u16, Option<Vec<Option<u16>>>)>,
    /// uint16 [n]: kind of each row's image.
    kind: PyReadonlyArray1<'py, u16>,
    nodata: Option<u16>,
}

/// Where images lie on the ground.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct AlignOptions<'py> {
    /// float64 [n, 6].
    frames: PyReadonlyArray2<'py, f64>,
    /// int32 [n, 2]: width and height.
    sizes: PyReadonlyArray2<'py, i32>,
    jitter: f64,
}

impl AlignOptions<'_> {
    fn read(&self, images: usize) -> PyResult<Align> {
        let (frames, sizes) = (self.frames.as_array(), self.sizes.as_array());
        if frames.shape() != [images, 6] || sizes.shape() != [images, 2] {
            return Err(PyValueError::new_err("align: frames must be [n, 6] and sizes [n, 2]"));
        }
        Ok(Align {
            frames: frames.rows().into_iter().map(|f| [f[0], f[1], f[2], f[3], f[4], f[5]]).collect(),
            sizes: sizes.rows().into_iter().map(|s| (s[0] as u32, s[1] as u32)).collect(),
            jitter: self.jitter,
        })
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
    /// Called with a slot that nothing uses any more, says whether it may be refilled; None: it may.
    may_refill: Option<Py<PyAny>>,
    /// See `Source::thread_bytes`.
    thread_bytes: u64,
}

#[pymethods]
impl Loader {
    /// `boxes`: int32 [n, 4] of x, y, width, height, width 0 for the whole image; `slots`: uint8 arrays, one
    /// rank's part of a batch each: views * samples * size * size * bands samples, of `bits` or, with `normalize`
    /// (mean and standard deviation, one a band), of 32 bits. `may_refill` is called with the number of each slot that
    /// nothing uses any more; where it says no, `release` gives the slot back.
    #[new]
    #[pyo3(signature = (*, paths, pack, foreign, boxes, pairs, views, seed, shuffle, cut, crop, color, normalize, samples, align, max_image_bytes, options, slots, may_refill=None))]
    #[allow(clippy::too_many_arguments)] // they are keywords in Python
    fn new(
        paths: Vec<PathBuf>,
        pack: Option<PackOptions<'_>>,
        foreign: Option<ForeignOptions<'_>>,
        boxes: PyReadonlyArray2<'_, i32>,
        pairs: Option<PairOptions<'_>>,
        views: usize,
        seed: u64,
        shuffle: bool,
        cut: &str,
        crop: CropOptions,
        color: Option<ColorOptions>,
        normalize: Option<(Vec<f32>, Vec<f32>)>,
        samples: SampleOptions<'_>,
        align: Option<AlignOptions<'_>>,
        max_image_bytes: u64,
        options: RunOptions,
        slots: Vec<Bound<'_, PyArray1<u8>>>,
        may_refill: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        if boxes.shape() != [paths.len(), 4] || !(1..=255).contains(&views) {
            return Err(PyValueError::new_err("paths and boxes must be of one length, views 1 to 255"));
        }
        let pack = pack.map(PackOptions::open).transpose()?;
        if pack.as_ref().is_some_and(|pack| pack.at.len() != paths.len()) {
            return Err(PyValueError::new_err("paths and the pack's places must be of one length"));
        }
        let SampleOptions { bands, bits, kinds, kind, nodata } = samples;
        let kinds: Vec<BandMap> = kinds.into_iter().map(|(image, view)| BandMap { image, view }).collect();
        let kind: Vec<u16> = kind.as_array().to_vec();
        let fits = |map: &BandMap| map.view.as_ref().map_or(usize::from(map.image), Vec::len) == usize::from(bands);
        if kind.len() != paths.len() || kind.iter().any(|&k| usize::from(k) >= kinds.len()) || !kinds.iter().all(fits) {
            return Err(PyValueError::new_err("samples: a kind for each image, each with a view's bands"));
        }
        let align = align.map(|align| align.read(paths.len())).transpose()?;
        let boxes = boxes.as_array();
        let source = Source {
            pack,
            foreign: foreign.map(ForeignOptions::read),
            boxes: boxes.rows().into_iter().map(|b| (b[2] > 0).then(|| [b[0], b[1], b[2], b[3]])).collect(),
            pairs: pairs.map(|pairs| pairs.read(paths.len())).transpose()?,
            paths,
            views,
            seed,
            shuffle,
            cut: match cut {
                "random_resized" => Cut::RandomResized,
                "random" => Cut::Random,
                "center" => Cut::Center,
                other => return Err(PyValueError::new_err(format!("cut: {other}"))),
            },
            crop: crop.try_into()?,
            color: color.map(Into::into),
            align,
            normalize: normalize.map(|(mean, std)| Normalize { mean, std }),
            bands,
            bits,
            kinds,
            kind,
            nodata,
            max_image_bytes,
        };
        let settings = Settings::try_from(options)?;
        let need = slot_bytes(&source, &settings);
        let thread_bytes = source.thread_bytes();
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
        let memory = slots.into_iter().map(Bound::unbind).collect();
        Ok(Self { pipeline: Arc::new(pipeline), memory, may_refill, thread_bytes })
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

    /// Bytes that a thread may take at most.
    #[getter]
    fn thread_bytes(&self) -> u64 {
        self.thread_bytes
    }

    /// Starts an epoch at batch `first`.
    fn start(&self, py: Python<'_>, epoch: u64, first: u64) -> PyResult<()> {
        py.detach(|| self.pipeline.start(epoch, first)).map_err(to_py)
    }

    /// Ends the epoch that is under way, and its threads.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.pipeline.stop());
    }

    /// The next batch as {lease, slot, number, samples, rows [views, samples], color [views, samples, 7],
    /// gains [views, samples, bands], valid [samples]}; an empty dict if none is ready after `wait_secs`, None at the end of the epoch. `coming` says
    /// that slots will come back by `release`: else it is an error after a while that every slot is held.
    #[pyo3(signature = (*, wait_secs, coming))]
    fn next<'py>(&self, py: Python<'py>, wait_secs: f64, coming: bool) -> PyResult<Option<Bound<'py, PyDict>>> {
        let wait = Duration::try_from_secs_f64(wait_secs);
        let wait = wait.map_err(|e| PyValueError::new_err(format!("wait_secs: {e}")))?;
        let out = PyDict::new(py);
        let batch = match py.detach(|| self.pipeline.next(wait, coming)).map_err(to_py)? {
            Next::Pending => return Ok(Some(out)),
            Next::Done => return Ok(None),
            Next::Batch(batch) => batch,
        };
        let memory = self.memory[batch.slot].clone_ref(py);
        let len = memory.bind(py).len();
        let may_refill = self.may_refill.as_ref().map(|f| f.clone_ref(py));
        let lease = Lease { pipeline: Arc::clone(&self.pipeline), slot: batch.slot, len, memory, may_refill };
        out.set_item("lease", Bound::new(py, lease)?)?;
        out.set_item("slot", batch.slot)?;
        out.set_item("number", batch.number)?;
        out.set_item("samples", batch.samples)?;
        out.set_item("rows", batch.rows.into_pyarray(py))?;
        out.set_item("color", batch.color.into_pyarray(py))?;
        out.set_item("gains", batch.gains.into_pyarray(py))?;
        out.set_item("valid", batch.valid.into_pyarray(py))?;
        Ok(Some(out))
    }

    /// Gives back a slot of which `may_refill` said no.
    fn release(&self, slot: usize) -> PyResult<()> {
        if slot >= self.memory.len() {
            return Err(PyValueError::new_err(format!("there is no slot {slot}")));
        }
        self.pipeline.release(slot);
        Ok(())
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
        out.set_item("read_secs", stats.read_secs)?;
        out.set_item("decode_secs", stats.decode_secs)?;
        out.set_item("resample_secs", stats.resample_secs)?;
        out.set_item("idle_secs", stats.idle_secs)?;
        out.set_item("wait_secs", stats.wait_secs)?;
        out.set_item("run_secs", stats.run_secs)?;
        out.set_item("batches", stats.batches)?;
        out.set_item("ready_at_once", stats.ready_at_once)?;
        out.set_item("ready_sum", stats.ready_sum)?;
        out.set_item("ready_now", stats.ready_now)?;
        Ok(out)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // A lease may outlive this object, and the pipeline with it, but not the other slots' memory. The threads may be
        // waiting for the interpreter (see `Reader`), which is held here.
        let stop = || self.pipeline.stop();
        if Python::try_attach(|py| py.detach(stop)).is_none() {
            stop();
        }
    }
}

/// The right to one slot's bytes: a writable buffer. The slot is refilled after the last object that uses it is gone.
#[pyclass(frozen, module = "geossl._core")]
struct Lease {
    pipeline: Arc<Pipeline>,
    slot: usize,
    len: usize,
    memory: Py<PyArray1<u8>>,
    may_refill: Option<Py<PyAny>>,
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
        // Without an interpreter nobody asks for batches any more, and an error has nowhere to go.
        let ask = |f: &Py<PyAny>| {
            Python::try_attach(|py| {
                // An exception may be on its way here, which the call must neither see nor lose.
                let pending = PyErr::take(py);
                let answer = f.call1(py, (self.slot,)).and_then(|answer| answer.is_truthy(py)).unwrap_or(false);
                if let Some(pending) = pending {
                    pending.restore(py);
                }
                answer
            })
        };
        if self.may_refill.as_ref().is_none_or(|f| ask(f) == Some(true)) {
            self.pipeline.release(self.slot);
        }
    }
}
