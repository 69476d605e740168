//! A folder in fMoW's layout, or of photos, as rows.

use std::collections::HashSet;
use std::path::Path;

use super::columns::{self, Columns, Strings};
use super::fmow::{self, Kind};
use super::reader::{Part, Reader, Seen, What};
use super::walk;
use crate::{Result, parallel};

/// Images that a thread reads again at a time.
const CHUNK: usize = 256;

/// What a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// fMoW's: fMoW-rgb, fMoW-full, one of their splits, or ready-made crops; that kind of image, or the first of rgb,
    /// msrgb and ms that there is.
    Fmow(Option<Kind>),
    /// Photos of cameras that write EXIF; the folder that a photo lies in is its category.
    Photos,
}

/// An index that was made before: its rows' paths and stamps.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a, P> {
    /// Relative to the root.
    pub paths: &'a [P],
    /// As `Columns::stamp`.
    pub stamps: &'a [i64],
}

/// A scanned folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    /// The rows that were read, sorted by path.
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
    /// Of each known row: whether it is as it was, and not among `columns`.
    pub kept: Vec<bool>,
}

/// Rows of the images below `root`. 0 threads are all cores; the result does not depend on their number.
///
/// Rows of `known` are kept where neither the size nor the time of the image and of its sidecar have changed; a place is
/// kept or read as a whole, as one date can change the others.
///
/// Fails only if `root` cannot be listed, or its `test_gt_mapping.json` is broken; other faults are rejected rows.
pub fn scan<P: AsRef<str> + Sync>(root: &Path, layout: Layout, known: &Known<P>, threads: usize) -> Result<Scan> {
    let reader = Reader::new(root, layout, known.paths.iter().map(AsRef::as_ref).zip(known.stamps.iter().copied()))?;
    let wanted = match layout {
        Layout::Fmow(kind) => kind.unwrap_or(Kind::ALL[0]),
        Layout::Photos => Kind::Rgb,
    };
    let walked = walk::walk(root, fmow::is_image, threads, |folder, found, part: &mut Part| {
        reader.read(folder, found, wanted, true, part);
    })?;
    let mut parts = walked.states;
    let mut scan = Scan { rejected: walked.rejected, ..Scan::default() };
    for image in parts.iter().flat_map(|part| &part.images) {
        let (What::Of(kind) | What::Kept(kind) | What::Read(kind)) = image.what;
        scan.found[kind as usize] += 1;
    }
    scan.kind = match layout {
        Layout::Fmow(kind) => kind.or_else(|| Kind::ALL.into_iter().find(|&k| scan.found[k as usize] > 0)),
        Layout::Photos => None,
    };
    let taken = scan.kind.unwrap_or(wanted);
    if taken != wanted {
        redo(&reader, &mut parts, threads, taken, true, |_, what| what == What::Of(taken));
    }
    if layout != Layout::Photos && !known.paths.is_empty() {
        let changed = changed_places(known, &parts);
        redo(&reader, &mut parts, threads, taken, false, |path, what| {
            what == What::Kept(taken) && place(path).is_some_and(|place| changed.contains(&place))
        });
    }
    let kept = kept(&parts);
    scan.kept = known.paths.iter().map(|path| kept.contains(path.as_ref())).collect();
    if layout != Layout::Photos {
        let is_bare = |image: &&Seen| !image.has_sidecar && matches!(image.what, What::Kept(_));
        scan.no_sidecar = parts.iter().flat_map(|part| &part.images).filter(is_bare).count();
    }
    drop(kept);
    scan.add(parts);
    Ok(scan)
}

impl Scan {
    /// Puts what the threads read together, in order of the paths.
    fn add(&mut self, parts: Vec<Part>) {
        let (mut columns, mut boxes, mut several) = (Vec::new(), Vec::new(), HashSet::new());
        for part in parts {
            columns.push(part.columns);
            boxes.push(part.boxes);
            several.extend(part.several);
            self.no_sidecar += part.no_sidecar;
            self.size_mismatches += part.size_mismatches;
            self.duplicate_boxes += part.duplicate_boxes;
            self.tiny_boxes += part.tiny_boxes;
            self.rejected.extend(part.rejected);
            self.nulled.extend(part.nulled);
        }
        self.rejected.sort();
        self.nulled.sort_by(|a, b| a.0.cmp(&b.0)); // stable: as the file has them
        let mut ids = Vec::new();
        for (part, rows) in columns::in_order(&columns) {
            self.columns.append(&columns[part], &rows);
            ids.extend_from_slice(&boxes[part][rows]);
        }
        if several.is_empty() {
            return;
        }
        // A place where any image has several boxes is several places, on all of its dates.
        let mut places = Strings::default();
        for (place, id) in self.columns.location_id.iter().zip(ids) {
            match id {
                Some(id) if several.contains(place) => places.push(&format!("{place}#{id}")),
                _ => places.push(place),
            }
        }
        self.columns.location_id = places;
    }
}

/// Reads those of the images anew that `chosen` picks by path and what became of them.
fn redo(
    reader: &Reader,
    parts: &mut Vec<Part>,
    threads: usize,
    kind: Kind,
    may_keep: bool,
    chosen: impl Fn(&str, What) -> bool,
) {
    let mut again = Vec::new();
    for part in parts.iter_mut() {
        let images = std::mem::take(&mut part.images);
        let paths = std::mem::take(&mut part.paths);
        for (image, path) in images.into_iter().zip(paths.iter()) {
            if chosen(path, image.what) {
                again.push((path.to_owned(), image.has_sidecar));
            } else {
                part.images.push(image);
                part.paths.push(path);
            }
        }
    }
    let chunks: Vec<&[(String, bool)]> = again.chunks(CHUNK).collect();
    parts.extend(parallel::map(chunks.len(), threads, |i| reader.read_again(chunks[i], kind, may_keep)));
}

/// Paths of the images that are as they were.
fn kept(parts: &[Part]) -> HashSet<&str> {
    let images = parts.iter().flat_map(|part| part.images.iter().zip(part.paths.iter()));
    images.filter(|(image, _)| matches!(image.what, What::Kept(_))).map(|(_, path)| path).collect()
}

/// The place of a path that is named as fMoW's are.
fn place(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    fmow::parse_name(name).map(|name| fmow::place(folder, &name).location_id.into_owned())
}

/// Places with an image that is not as it was.
fn changed_places<P: AsRef<str>>(known: &Known<P>, parts: &[Part]) -> HashSet<String> {
    let kept = kept(parts);
    let images = parts.iter().flat_map(|part| part.images.iter().zip(part.paths.iter()));
    let read = images.filter(|(image, _)| matches!(image.what, What::Read(_))).map(|(_, path)| path);
    let gone = known.paths.iter().map(AsRef::as_ref).filter(|path| !kept.contains(path));
    read.chain(gone).filter_map(place).collect()
}
