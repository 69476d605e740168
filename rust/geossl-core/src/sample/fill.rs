//! The pixels of a sample: its images are read, cut and resampled into the batch.

use std::time::{Duration, Instant};

use super::{Packed, Scratch, Source};
use crate::augment::View;
use crate::crop::{self, Cut, Geometry, Rect};
use crate::decode::{self, Encoded, Input, Raster, Want};
use crate::rng::{Draws, Stage};
use crate::{Error, Result};

/// How often a crop that shows too little data is drawn, the first time among them.
const DRAWS: usize = 10;

/// A view that is to be cut.
struct Plan {
    /// Which of the sample's.
    view: usize,
    /// The crop's draws, from which further crops are drawn.
    draws: Draws,
    /// What it shows of the region.
    geometry: Geometry,
}

impl Plan {
    /// The pixels of the image that the view is resampled from.
    fn pixels(&self, region: Rect) -> Rect {
        if self.geometry.resized.is_some() { region } else { self.geometry.window.within(region) }
    }

    /// The pixels of the image that the view shows, to the whole pixel.
    fn shown(&self, region: Rect) -> Rect {
        let window = self.geometry.window;
        let Some((width, height)) = self.geometry.resized else { return window.within(region) };
        let axis = |start: u32, length: u32, from: u32, to: u32| {
            let scaled = |at: u32| u64::from(at) * u64::from(from) / u64::from(to.max(1));
            let first = scaled(start).min(u64::from(from) - 1);
            (first as u32, (scaled(start + length).clamp(first + 1, u64::from(from)) - first) as u32)
        };
        let (x, columns) = axis(window.x, window.width, region.width, width);
        let (y, rows) = axis(window.y, window.height, region.height, height);
        Rect { x, y, width: columns, height: rows }.within(region)
    }
}

impl Source {
    /// Writes the views of `rows` to `outs`, one buffer of `view_bytes` each. An image that several views show is
    /// read and decoded once.
    pub fn fill(
        &self,
        rows: &[usize],
        epoch: u64,
        position: u64,
        scratch: &mut Scratch,
        outs: &mut [&mut [u8]],
    ) -> Result<()> {
        let mut shown = None;
        for (first, &row) in rows.iter().enumerate() {
            if rows[..first].contains(&row) {
                continue;
            }
            let mut clock = Instant::now();
            let path = &self.paths[row];
            scratch.tally.images += 1;
            // The image borrows the file's bytes, and the decoders are needed beside it.
            let mut file = std::mem::take(&mut scratch.file);
            let image = match (&self.pack, self.foreign_image(row)) {
                // What is read of a pack, or of a TIFF, is read while it is decoded.
                (Some(pack), _) => decode::packed(path, pack.record(path, row)?, self.max_image_bytes)?,
                (None, Some((reader, size))) => decode::foreign(path, size, reader, self.max_image_bytes)?,
                (None, None) => {
                    let input = Input::open(path, &mut file, self.max_image_bytes)?;
                    scratch.tally.bytes_read += input.bytes_read();
                    scratch.tally.read += lap(&mut clock);
                    decode::open(path, input, &mut scratch.decoders, self.max_image_bytes)?
                }
            };
            self.check_kind(&image, row)?;
            let whole = image.region(self.boxes[row], self.crop.context)?;
            let region = if first == 0 { self.shared(rows, whole) } else { whole };
            let mut plans: Vec<Plan> = (first..rows.len())
                .filter(|&view| rows[view] == row)
                .map(|view| self.plan(rows, view, region, shown, (epoch, position)))
                .collect();
            let wanted = plans.iter().map(|plan| plan.pixels(region)).reduce(Rect::union).unwrap_or(region);
            // One decode for all views: as small as each of them allows.
            let shrink = self.shrink(&plans, region);
            let raster = self.decode(&image, row, wanted, shrink, scratch)?;
            scratch.tally.decode += lap(&mut clock);
            for plan in &mut plans {
                let other = self.better(&image, row, region, &raster, plan, scratch)?;
                scratch.tally.decode += lap(&mut clock);
                let raster = other.as_ref().unwrap_or(&raster);
                self.cut(raster, row, region, plan, (epoch, position), scratch, outs[plan.view])?;
                scratch.tally.resample += lap(&mut clock);
            }
            if first == 0 {
                let window = plans[0].pixels(region);
                let window = [window.x, window.y, window.width, window.height].map(f64::from);
                shown = Some((row, window));
            }
            scratch.decoders.recycle(raster);
            scratch.tally.bytes_read += std::mem::take(&mut scratch.decoders.bytes_read);
            scratch.file = file;
        }
        Ok(())
    }

    /// Fails where an image is not what its row says.
    fn check_kind(&self, image: &Encoded<'_>, row: usize) -> Result<()> {
        let bands = self.band_map(row).image;
        if (image.bands, image.bits) == (bands, self.bits) {
            return Ok(());
        }
        Err(Error::data(
            &self.paths[row],
            format!(
                "has {} bands of {} bits where the index says {bands} of {}: index it again",
                image.bands, image.bits, self.bits
            ),
        ))
    }

    /// The part of the first view's region that the other views' images show too, where views are aligned.
    fn shared(&self, rows: &[usize], region: Rect) -> Rect {
        let Some(align) = self.align.as_ref().filter(|_| self.cut == Cut::RandomResized) else { return region };
        let others = rows[1..].iter().filter(|&&row| row != rows[0]).filter_map(|&row| Some((row, self.region(row)?)));
        align.shared(rows[0], region, others).unwrap_or(region)
    }

    /// The region of a row by its index alone; None where its box lies outside of the image.
    fn region(&self, row: usize) -> Option<Rect> {
        let (width, height) = self.align.as_ref()?.sizes[row];
        match self.boxes[row] {
            None => Some(Rect { x: 0, y: 0, width, height }),
            Some(bounds) => crop::region(bounds, (width, height), self.crop.context),
        }
    }

    /// What a view shows of a region: the ground that the first view shows, `shown` of that row's image, or a crop of
    /// its own.
    fn plan(
        &self,
        rows: &[usize],
        view: usize,
        region: Rect,
        shown: Option<(usize, [f64; 4])>,
        (epoch, position): (u64, u64),
    ) -> Plan {
        let mut draws = Draws::new(self.seed, epoch, position, view as u8, Stage::Crop);
        let followed = match (&self.align, shown) {
            (Some(align), Some(shown)) if self.cut == Cut::RandomResized => {
                align.follow(shown, (rows[view], region), self.crop.flip, &mut draws)
            }
            _ => None,
        };
        let geometry = followed.unwrap_or_else(|| self.geometry(region, &mut draws));
        Plan { view, draws, geometry }
    }

    fn geometry(&self, region: Rect, draws: &mut Draws) -> Geometry {
        crop::geometry(self.cut, &self.crop, (region.width, region.height), draws)
    }

    /// Draws a random crop again until it shows enough data; of `DRAWS` crops that do not, the one that shows most
    /// is kept. Changes the plan, and gives its pixels where `raster` does not hold them.
    fn better(
        &self,
        image: &Encoded<'_>,
        row: usize,
        region: Rect,
        raster: &Raster,
        plan: &mut Plan,
        scratch: &mut Scratch,
    ) -> Result<Option<Raster>> {
        if raster.nodata.is_none() || !image.has_nodata || self.cut == Cut::Center {
            return Ok(None);
        }
        let bands = self.band_map(row).view.as_deref();
        let mut share = raster.valid_share(plan.shown(region), bands);
        let mut best = None;
        for _ in 1..DRAWS {
            if share >= self.crop.min_valid {
                break;
            }
            let geometry = self.geometry(region, &mut plan.draws);
            let other = Plan { geometry, draws: plan.draws.clone(), ..*plan };
            let decoded = if geometry.resized.is_some() {
                None // all of the region is in `raster`
            } else {
                Some(self.decode(
                    image,
                    row,
                    other.pixels(region),
                    self.shrink(std::slice::from_ref(&other), region),
                    scratch,
                )?)
            };
            let its = decoded.as_ref().unwrap_or(raster).valid_share(other.shown(region), bands);
            if its > share {
                (share, best) = (its, decoded);
                plan.geometry = geometry;
            }
        }
        Ok(best)
    }

    /// How many times smaller a decode for these views may be.
    fn shrink(&self, plans: &[Plan], region: Rect) -> u32 {
        let of = |plan: &Plan| plan.geometry.shrink((region.width, region.height), self.crop.size);
        plans.iter().map(of).min().filter(|_| self.crop.scaled).unwrap_or(1)
    }

    fn decode(
        &self,
        image: &Encoded<'_>,
        row: usize,
        rect: Rect,
        shrink: u32,
        scratch: &mut Scratch,
    ) -> Result<Raster> {
        let bands = self.band_map(row).view.as_deref();
        let want = Want { rect, shrink, bands, nodata: self.nodata };
        let mut raster = image.decode(want, &mut scratch.decoders).map_err(|e| self.located(e, row))?;
        // Where all have data, the views must not get the value that says otherwise either.
        raster.nodata = raster.nodata.or(self.nodata.map(f32::from));
        Ok(raster)
    }

    /// Writes one view to `out`.
    #[allow(clippy::too_many_arguments)] // all of them are the view's
    fn cut(
        &self,
        raster: &Raster,
        row: usize,
        region: Rect,
        plan: &Plan,
        (epoch, position): (u64, u64),
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<()> {
        let Plan { view, geometry, .. } = *plan;
        // The raster may hold less than the region: then the window is all that is looked at.
        let (area, geometry) = if geometry.resized.is_some() {
            (region, geometry)
        } else {
            (geometry.window.within(region), geometry.of_window())
        };
        let Some(normalize) = &self.normalize else {
            return scratch.resampler.view(raster, area, &geometry, self.crop.size, out);
        };
        scratch.cut.resize(self.cut_bytes(), 0);
        scratch.resampler.view(raster, area, &geometry, self.crop.size, &mut scratch.cut)?;
        let (size, bands) = (self.crop.size as usize, usize::from(self.bands));
        let cut = View { data: &scratch.cut, size, bands, bits: self.bits, nodata: raster.nodata };
        let (color, gains) = (self.color_params(epoch, position, view), self.gains(row, epoch, position, view));
        scratch.augmenter.run(cut, &color, &gains, normalize, out);
        Ok(())
    }

    /// The error with the place in the pack that it is about, where there is a pack.
    fn located(&self, error: Error, row: usize) -> Error {
        match &self.pack {
            Some(Packed { shards, at }) if at[row].0 >= 0 => shards.located(error, at[row].0 as u32, at[row].1),
            _ => error,
        }
    }
}

/// The time since `clock`, which is set to now.
fn lap(clock: &mut Instant) -> Duration {
    let before = std::mem::replace(clock, Instant::now());
    *clock - before
}
