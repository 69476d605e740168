//! Bindings of the pair policies.

use geossl_core::pairs::{self, Dates, Draw, Match, Pairs, Places, Policy};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::to_py;

/// Adds this file's functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(pair_counts, m)?)?;
    m.add_function(wrap_pyfunction!(pair_gaps, m)?)
}

/// `geossl.data.pairs.pair_options`: each row's place and date, and the settings that decide who is a pair.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct PairOptions<'py> {
    places: PyReadonlyArray1<'py, i32>,
    timestamps: PyReadonlyArray1<'py, i64>,
    clouds: PyReadonlyArray1<'py, f32>,
    sensors: PyReadonlyArray1<'py, i32>,
    season: String,
    gap_days: (f64, Option<f64>),
    max_cloud: Option<f32>,
    sensor: String,
    draw: String,
}

impl PairOptions<'_> {
    /// The pairs of `rows` images.
    pub fn read(&self, rows: usize) -> PyResult<Pairs> {
        let places = Places::new(self.places.as_slice()?);
        if places.rows() != rows {
            return Err(PyValueError::new_err(format!("pairs: {} places of {rows} images", places.rows())));
        }
        let (least, most) = self.gap_days;
        let policy = Policy {
            season: matching("season", &self.season)?,
            gap: (least > 0.0 || most.is_some()).then(|| Policy::gap_of_days(least, most)),
            max_cloud: self.max_cloud,
            sensor: matching("sensor", &self.sensor)?,
            draw: match self.draw.as_str() {
                "uniform" => Draw::Uniform,
                "nearest" => Draw::Nearest,
                "farthest" => Draw::Farthest,
                "clear" => Draw::Clear,
                other => return Err(PyValueError::new_err(format!("draw: {other}"))),
            },
        };
        let dates = Dates {
            timestamp: self.timestamps.as_array().to_vec(),
            cloud: self.clouds.as_array().to_vec(),
            sensor: self.sensors.as_array().to_vec(),
        };
        Pairs::new(places, policy, dates).map_err(to_py)
    }
}

fn matching(name: &str, value: &str) -> PyResult<Match> {
    match value {
        "any" => Ok(Match::Any),
        "same" => Ok(Match::Same),
        "other" => Ok(Match::Other),
        other => Err(PyValueError::new_err(format!("{name}: {other}"))),
    }
}

/// (Whether each row has a partner, bool [n]; unordered pairs).
#[pyfunction]
#[pyo3(signature = (options, *, threads))]
fn pair_counts<'py>(
    py: Python<'py>,
    options: PairOptions<'py>,
    threads: usize,
) -> PyResult<(Bound<'py, PyArray1<bool>>, u64)> {
    let read = options.read(options.places.as_slice()?.len())?;
    let counts = py.detach(|| pairs::count(&read, threads));
    Ok((counts.partnered.into_pyarray(py), counts.pairs))
}

/// Unordered pairs of dates of a place by the time between them, int64 [edges]: from each edge (microseconds,
/// ascending, 0 or more) to the next, the last without end. The least int64 is a timestamp that is not known.
#[pyfunction]
#[pyo3(signature = (places, timestamps, edges, *, threads))]
fn pair_gaps<'py>(
    py: Python<'py>,
    places: PyReadonlyArray1<'py, i32>,
    timestamps: PyReadonlyArray1<'py, i64>,
    edges: Vec<u64>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (places, times) = (Places::new(places.as_slice()?), timestamps.as_array().to_vec());
    if places.rows() != times.len() || !edges.is_sorted() {
        return Err(PyValueError::new_err("pair_gaps: as many timestamps as places, and edges that ascend"));
    }
    let found = py.detach(|| pairs::gap_histogram(&places, &times, &edges, threads));
    Ok(found.into_iter().map(|n| n as i64).collect::<Vec<_>>().into_pyarray(py))
}
