//! A folder in fMoW's layout as rows.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::columns::{Columns, Row};
use super::fmow::{self, Kind, Name};
use super::header::{self, Header};
use super::sidecar::{self, BoundingBox, Sidecar};
use super::walk::{self, Found};
use crate::{Result, parallel};

/// Largest sidecar read, bytes; fMoW's have 2 kB.
const MAX_SIDECAR_BYTES: u64 = 16 << 20;

/// A scanned folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    /// The rows, sorted by path.
    pub columns: Columns,
    /// Files and boxes that gave no row, as (path, "what: why"), sorted by path.
    pub rejected: Vec<(String, String)>,
    /// Values that were bad and became null, as (path, "what: why"), sorted by path.
    pub nulled: Vec<(String, String)>,
    /// The kind of image that was taken; None if there is no image named as fMoW's are.
    pub kind: Option<Kind>,
    /// Images found of each kind, in the order of `Kind::ALL`.
    pub found: [usize; 3],
    /// Images taken without a sidecar beside them.
    pub no_sidecar: usize,
    /// Images whose sidecar claims another size; the image's own is taken.
    pub size_mismatches: usize,
    /// Boxes left out for repeating another one of the same image.
    pub duplicate_boxes: usize,
    /// Boxes left out for being 2 pixels a side or less.
    pub tiny_boxes: usize,
}

/// Rows of the images below `root` that are named as fMoW's are. Layouts: fMoW-rgb, fMoW-full, one of their splits,
/// and ready-made crops. Without `kind`, the first of rgb, msrgb and ms that there is. 0 threads are all cores; the
/// result does not depend on their number.
///
/// Fails only if `root` cannot be listed, or its `test_gt_mapping.json` is broken; other faults are rejected rows.
pub fn scan_fmow(root: &Path, kind: Option<Kind>, threads: usize) -> Result<Scan> {
    let categories = fmow::read_test_categories(root)?;
    let root_name = root.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let walked = walk::walk(root, fmow::is_image, threads)?;
    let mut scan = Scan { rejected: walked.rejected, ..Scan::default() };
    let mut images = Vec::with_capacity(walked.images.len());
    for found in &walked.images {
        match fmow::parse_name(found.file_name()) {
            Some(name) => {
                scan.found[name.kind as usize] += 1;
                images.push((found, name));
            }
            None => scan.rejected.push((found.path.clone(), "a name that is not fMoW's".to_owned())),
        }
    }
    scan.kind = kind.or_else(|| Kind::ALL.into_iter().find(|&k| scan.found[k as usize] > 0));
    images.retain(|(_, name)| Some(name.kind) == scan.kind);

    let results = parallel::map(images.len(), threads, |i| {
        let (found, name) = &images[i];
        read_image(root, root_name, &categories, found, name)
    });
    // A place where any image has several boxes is several places, on all of its dates.
    let mut several = HashSet::new();
    for result in results.iter().flatten() {
        if let [(_, row), _, ..] = result.rows.as_slice() {
            several.insert(row.location_id.clone());
        }
    }
    for ((found, _), result) in images.iter().zip(results) {
        match result {
            Ok(image) => scan.add(&found.path, image, &several),
            Err(reason) => scan.rejected.push((found.path.clone(), reason)),
        }
    }
    scan.rejected.sort();
    Ok(scan)
}

/// What one file gave.
struct Image {
    header: Header,
    /// The box's ID if it is one, and the row.
    rows: Vec<(Option<i64>, Row)>,
    no_sidecar: bool,
    size_mismatch: bool,
    duplicates: usize,
    tiny: usize,
    rejected: Vec<String>,
    nulled: Vec<String>,
}

impl Scan {
    fn add(&mut self, path: &str, image: Image, several: &HashSet<String>) {
        for (id, mut row) in image.rows {
            if let Some(id) = id.filter(|_| several.contains(&row.location_id)) {
                row.location_id = format!("{}#{id}", row.location_id);
            }
            self.columns.push(path, &image.header, &row);
        }
        self.no_sidecar += usize::from(image.no_sidecar);
        self.size_mismatches += usize::from(image.size_mismatch);
        self.duplicate_boxes += image.duplicates;
        self.tiny_boxes += image.tiny;
        let named = |reasons: Vec<String>| reasons.into_iter().map(|reason| (path.to_owned(), reason));
        self.rejected.extend(named(image.rejected));
        self.nulled.extend(named(image.nulled));
    }
}

/// The rows of one image; the error says why it has none.
fn read_image(
    root: &Path,
    root_name: &str,
    categories: &HashMap<String, String>,
    found: &Found,
    name: &Name,
) -> std::result::Result<Image, String> {
    let path = root.join(&found.path);
    let header = header::read(&path)?;
    let sidecar = if found.has_sidecar { read_sidecar(&path.with_extension("json"))? } else { Sidecar::default() };
    let place = fmow::place(found.folder(), name);
    let size = (i64::from(header.width), i64::from(header.height));
    let (width, height) = (header.width.unsigned_abs(), header.height.unsigned_abs());
    let category = name.category.or_else(|| categories.get(name.place).map(String::as_str)).unwrap_or_default();
    let row = |b: Option<&BoundingBox>, category: &str| Row {
        location_id: place.location_id.clone(),
        centre: b.and_then(|b| b.centre).or(sidecar.centre),
        timestamp: sidecar.timestamp,
        category: category.to_owned(),
        rect: b.and_then(|b| b.rect).filter(|_| !place.is_crop),
        gsd: sidecar.gsd,
        cloud_cover: sidecar.cloud_cover,
        sensor: sidecar.sensor.clone(),
        country_code: sidecar.country_code.clone(),
        split: fmow::split(&found.path, root_name).unwrap_or_default().to_owned(),
    };
    let mut image = Image {
        header,
        rows: Vec::new(),
        no_sidecar: !found.has_sidecar,
        size_mismatch: !place.is_crop && sidecar.size.is_some_and(|claimed| claimed != size),
        duplicates: 0,
        tiny: 0,
        rejected: Vec::new(),
        nulled: sidecar.problems.clone(),
    };
    if place.is_crop || sidecar.boxes.is_empty() {
        // The boxes of a ready-made crop are those of the image that it was cut from.
        let b = sidecar.boxes.first();
        image.rows.push((None, row(b, first_of(category, b.map_or("", |b| &b.category)))));
        return Ok(image);
    }
    let selected = sidecar::select(&sidecar.boxes, width, height);
    image.rows = match selected.boxes.as_slice() {
        // The name's word on the category; the box's where the name hides it, or for each of several boxes.
        [b] => vec![(Some(b.id), row(Some(b), first_of(category, &b.category)))],
        boxes => boxes.iter().map(|b| (Some(b.id), row(Some(b), first_of(&b.category, category)))).collect(),
    };
    image.duplicates = selected.duplicates;
    image.tiny = selected.tiny;
    image.rejected = selected.rejected;
    if image.rows.is_empty() && image.rejected.is_empty() {
        image.rejected.push("every box has 2 pixels a side or less".to_owned());
    }
    Ok(image)
}

/// The first text that is not empty, else "".
fn first_of<'a>(a: &'a str, b: &'a str) -> &'a str {
    if a.is_empty() { b } else { a }
}

fn read_sidecar(path: &Path) -> std::result::Result<Sidecar, String> {
    let mut bytes = Vec::with_capacity(4096);
    File::open(path)
        .and_then(|file| file.take(MAX_SIDECAR_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("the sidecar cannot be read: {e}"))?;
    if bytes.len() as u64 > MAX_SIDECAR_BYTES {
        return Err(format!("the sidecar is too large: over {} MiB", MAX_SIDECAR_BYTES >> 20));
    }
    sidecar::parse(&bytes)
}
