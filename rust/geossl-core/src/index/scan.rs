//! A folder in fMoW's layout, or of photos, as rows.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::columns::{Columns, Row};
use super::coordinates;
use super::fmow::{self, Kind, Name};
use super::header::{self, Header};
use super::photo::{self, Photo};
use super::sidecar::{self, BoundingBox, Sidecar};
use super::walk::{self, Folder, Found};
use crate::{Result, parallel};

/// Largest sidecar read, bytes; fMoW's have 2 kB.
const MAX_SIDECAR_BYTES: u64 = 16 << 20;

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
    let is_fmow = layout != Layout::Photos;
    let reader = Reader {
        root,
        root_name: root.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
        categories: if is_fmow { fmow::read_test_categories(root)? } else { HashMap::new() },
        known: known.paths.iter().map(AsRef::as_ref).zip(known.stamps.iter().copied()).collect(),
        layout,
    };
    let wanted = match layout {
        Layout::Fmow(kind) => kind.unwrap_or(Kind::ALL[0]),
        Layout::Photos => Kind::Rgb,
    };
    let walked = walk::walk(root, fmow::is_image, threads, |folder, found, buffer: &mut Vec<u8>| {
        reader.outcome(folder, found, wanted, true, buffer)
    })?;
    let mut scan = Scan { rejected: walked.rejected, ..Scan::default() };
    let mut images = walked.images;
    for (_, outcome) in &images {
        if let Outcome::Of(kind) | Outcome::Kept(kind) | Outcome::Read(kind, _) = outcome {
            scan.found[*kind as usize] += 1;
        }
    }
    scan.kind = match layout {
        Layout::Fmow(kind) => kind.or_else(|| Kind::ALL.into_iter().find(|&k| scan.found[k as usize] > 0)),
        Layout::Photos => None,
    };
    let taken = scan.kind.unwrap_or(wanted);
    if taken != wanted {
        reader.redo(&mut images, threads, taken, true, |_, outcome| matches!(outcome, Outcome::Of(k) if *k == taken));
    }
    if is_fmow && !reader.known.is_empty() {
        let changed = reader.changed_places(&images);
        reader.redo(&mut images, threads, taken, false, |found, outcome| {
            matches!(outcome, Outcome::Kept(_)) && Reader::place(&found.path).is_some_and(|p| changed.contains(&p))
        });
    }

    let kept: HashSet<&str> = images
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Kept(_)))
        .map(|(found, _)| found.path.as_str())
        .collect();
    scan.kept = known.paths.iter().map(|path| kept.contains(path.as_ref())).collect();
    // A place where any image has several boxes is several places, on all of its dates.
    let mut several = HashSet::new();
    for (_, outcome) in &images {
        if let Outcome::Read(_, Ok(image)) = outcome
            && let [(_, row), _, ..] = image.rows.as_slice()
        {
            several.insert(row.location_id.clone());
        }
    }
    for (found, outcome) in images {
        match outcome {
            Outcome::Unknown => scan.rejected.push((found.path, "a name that is not fMoW's".to_owned())),
            Outcome::Of(_) => {}
            Outcome::Kept(_) => scan.no_sidecar += usize::from(is_fmow && !found.has_sidecar),
            Outcome::Read(_, Ok(image)) => scan.add(&found.path, image, &several),
            Outcome::Read(_, Err(reason)) => scan.rejected.push((found.path, reason)),
        }
    }
    scan.rejected.sort();
    Ok(scan)
}

/// What became of a file.
enum Outcome {
    /// Its name is not fMoW's.
    Unknown,
    /// It is of another kind than the one that is read.
    Of(Kind),
    /// It has not changed.
    Kept(Kind),
    Read(Kind, std::result::Result<Image, String>),
}

/// What one file gave.
struct Image {
    header: Header,
    /// The box's ID if it is one, and the row.
    rows: Vec<(Option<i64>, Row)>,
    stamp: i64,
    no_sidecar: bool,
    size_mismatch: bool,
    duplicates: usize,
    tiny: usize,
    rejected: Vec<String>,
    nulled: Vec<String>,
}

impl Scan {
    fn add(&mut self, path: &str, image: Image, several: &HashSet<String>) {
        // What went wrong is told again by the next update, which therefore reads it again.
        let faultless = image.rejected.is_empty() && image.nulled.is_empty();
        let stamp = if faultless && !image.size_mismatch && image.tiny == 0 { image.stamp } else { 0 };
        for (id, mut row) in image.rows {
            if let Some(id) = id.filter(|_| several.contains(&row.location_id)) {
                row.location_id = format!("{}#{id}", row.location_id);
            }
            self.columns.push(path, &image.header, &row, stamp);
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

struct Reader<'a> {
    root: &'a Path,
    root_name: &'a str,
    categories: HashMap<String, String>,
    known: HashMap<&'a str, i64>,
    layout: Layout,
}

impl Reader<'_> {
    /// Reads the image if it is of the kind `wanted`, unless it `may_keep` what is known of it.
    fn outcome(&self, folder: &Folder, found: &Found, wanted: Kind, may_keep: bool, buffer: &mut Vec<u8>) -> Outcome {
        if self.layout == Layout::Photos {
            return if may_keep && self.is_kept(found, None) {
                Outcome::Kept(wanted)
            } else {
                Outcome::Read(wanted, self.read_photo(folder, found, buffer))
            };
        }
        match fmow::parse_name(found.file_name()) {
            None => Outcome::Unknown,
            Some(name) if name.kind != wanted => Outcome::Of(name.kind),
            Some(name) if may_keep && self.is_kept(found, Some(&name)) => Outcome::Kept(wanted),
            Some(name) => Outcome::Read(wanted, self.read_image(folder, found, &name, buffer)),
        }
    }

    /// Reads those of the images that `chosen` picks.
    fn redo(
        &self,
        images: &mut [(Found, Outcome)],
        threads: usize,
        kind: Kind,
        may_keep: bool,
        chosen: impl Fn(&Found, &Outcome) -> bool,
    ) {
        let rows: Vec<usize> = (0..images.len()).filter(|&i| chosen(&images[i].0, &images[i].1)).collect();
        let outcomes = parallel::map(rows.len(), threads, |i| {
            let found = &images[rows[i]].0;
            match Folder::open(&self.root.join(found.folder())) {
                Ok(folder) => self.outcome(&folder, found, kind, may_keep, &mut Vec::new()),
                Err(e) => Outcome::Read(kind, Err(header::cannot_open(&e))),
            }
        });
        for (row, outcome) in rows.into_iter().zip(outcomes) {
            images[row].1 = outcome;
        }
    }

    /// The place of a path that is named as fMoW's are.
    fn place(path: &str) -> Option<String> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        fmow::parse_name(name).map(|name| fmow::place(folder, &name).location_id)
    }

    /// Places with an image that is not as it was.
    fn changed_places(&self, images: &[(Found, Outcome)]) -> HashSet<String> {
        let kept = |outcome: &Outcome| matches!(outcome, Outcome::Kept(_));
        let here: HashSet<&str> = images.iter().filter(|i| kept(&i.1)).map(|i| i.0.path.as_str()).collect();
        let read = images.iter().filter(|i| matches!(i.1, Outcome::Read(..))).map(|i| i.0.path.as_str());
        let gone = self.known.keys().copied().filter(|path| !here.contains(path));
        read.chain(gone).filter_map(Self::place).collect()
    }

    /// Whether the files are those that a known row was read from.
    fn is_kept(&self, found: &Found, name: Option<&Name>) -> bool {
        let Some(&stamp) = self.known.get(found.path.as_str()) else { return false };
        let folder = self.root.join(found.folder());
        let of = |name: &str| folder.join(name).metadata().ok();
        let sidecar = found.has_sidecar && self.layout != Layout::Photos;
        let sidecar = if sidecar { Some(of(&sidecar_name(found))) } else { None };
        let (Some(image), Some(sidecar)) = (of(found.file_name()), sidecar.map_or(Some(None), |m| m.map(Some))) else {
            return false;
        };
        stamp != 0 && stamp == self.stamp(found, name, &image, sidecar.as_ref())
    }

    /// What changes once any of the files does, or what is known of them from elsewhere. Never 0.
    fn stamp(&self, found: &Found, name: Option<&Name>, image: &Metadata, sidecar: Option<&Metadata>) -> i64 {
        let mut hash = Fnv::default();
        for meta in [Some(image), sidecar] {
            let [size, seconds, nanos] = meta.map_or([-1; 3], |m| [m.size() as i64, m.mtime(), m.mtime_nsec()]);
            for number in [size, seconds, nanos] {
                hash.add(&number.to_le_bytes());
            }
        }
        hash.add(fmow::split(&found.path, self.root_name).unwrap_or_default().as_bytes());
        hash.add(name.map_or("", |name| self.category(name)).as_bytes());
        if hash.0 == 0 { 1 } else { hash.0 as i64 }
    }

    /// The category by the name or, where the name hides it, the test set's list.
    fn category<'a>(&'a self, name: &Name<'a>) -> &'a str {
        name.category.or_else(|| self.categories.get(name.place).map(String::as_str)).unwrap_or_default()
    }

    /// The rows of one image; the error says why it has none.
    fn read_image(
        &self,
        folder: &Folder,
        found: &Found,
        name: &Name,
        buffer: &mut Vec<u8>,
    ) -> std::result::Result<Image, String> {
        let (header, _, meta) = read_header(folder, found.file_name(), buffer)?;
        let (sidecar, sidecar_meta) = if found.has_sidecar {
            let (sidecar, meta) = read_sidecar(folder, &sidecar_name(found), buffer)?;
            (sidecar, Some(meta))
        } else {
            (Sidecar::default(), None)
        };
        let stamp = self.stamp(found, Some(name), &meta, sidecar_meta.as_ref());
        let place = fmow::place(found.folder(), name);
        let size = (i64::from(header.width), i64::from(header.height));
        let (width, height) = (header.width.unsigned_abs(), header.height.unsigned_abs());
        let category = self.category(name);
        let row = |b: Option<&BoundingBox>, category: &str| Row {
            location_id: place.location_id.clone(),
            centre: b.and_then(|b| b.centre).or(sidecar.centre),
            timestamp: sidecar.timestamp,
            category: category.to_owned(),
            rect: b.and_then(|b| b.rect).filter(|_| !place.is_crop),
            gsd: sidecar.gsd,
            cloud_cover: sidecar.cloud_cover,
            country_code: sidecar.country_code.clone(),
            sensor: sidecar.sensor.clone(),
            split: fmow::split(&found.path, self.root_name).unwrap_or_default(),
        };
        let mut image = Image {
            size_mismatch: !place.is_crop && sidecar.size.is_some_and(|claimed| claimed != size),
            no_sidecar: !found.has_sidecar,
            nulled: sidecar.problems.clone(),
            ..Image::new(header, stamp)
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

    fn read_photo(&self, folder: &Folder, found: &Found, buffer: &mut Vec<u8>) -> std::result::Result<Image, String> {
        let name = found.file_name();
        let (header, exif, meta) = read_header(folder, name, buffer)?;
        let photo = match (exif, &header.tiff) {
            (Some(exif), _) => photo::read(&|at, len| exif.get(at..at.checked_add(len)?).map(<[u8]>::to_vec)),
            (None, Some(_)) => {
                let file = folder.file(name).map_err(|e| header::cannot_open(&e))?;
                photo::read(&|at, len| {
                    let mut bytes = vec![0; len];
                    file.read_exact_at(&mut bytes, at as u64).ok().map(|()| bytes)
                })
            }
            _ => Photo::default(),
        };
        let mut nulled = photo.problems;
        let checked = |(lat, lon)| coordinates::checked(lat, lon).map_err(|why| nulled.push(why)).ok();
        let centre = photo.centre.and_then(checked);
        let own_folder = found.folder().rsplit('/').next().unwrap_or_default();
        // A folder that is a split says nothing of what is on its photos.
        let is_split = !found.folder().contains('/') && fmow::split(&found.path, "").is_some();
        let row = Row {
            centre,
            timestamp: photo.timestamp,
            category: if is_split { String::new() } else { own_folder.to_owned() },
            split: fmow::split(&found.path, self.root_name).unwrap_or_default(),
            ..Row::default()
        };
        let stamp = self.stamp(found, None, &meta, None);
        Ok(Image { rows: vec![(None, row)], nulled, ..Image::new(header, stamp) })
    }
}

impl Image {
    fn new(header: Header, stamp: i64) -> Self {
        Self {
            header,
            rows: Vec::new(),
            stamp,
            no_sidecar: false,
            size_mismatch: false,
            duplicates: 0,
            tiny: 0,
            rejected: Vec::new(),
            nulled: Vec::new(),
        }
    }
}

/// The FNV-1a hash: it has to tell apart a file's states, not resist anybody.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        // A byte that ends each part keeps "a", "b" apart from "ab".
        for &byte in bytes.iter().chain(&[0xFF]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
}

fn sidecar_name(found: &Found) -> String {
    let name = found.file_name();
    format!("{}.json", name.rsplit_once('.').map_or(name, |(stem, _)| stem))
}

/// The header, the EXIF, and the file's size and time.
fn read_header(
    folder: &Folder,
    name: &str,
    buffer: &mut Vec<u8>,
) -> std::result::Result<(Header, Option<Vec<u8>>, Metadata), String> {
    let file = folder.file(name).map_err(|e| header::cannot_open(&e))?;
    let meta = file.metadata().map_err(|e| format!("cannot be read: {e}"))?;
    let opened = header::read_open(Path::new(name), &file, buffer)?;
    Ok((opened.header, opened.exif, meta))
}

/// The first text that is not empty, else "".
fn first_of<'a>(a: &'a str, b: &'a str) -> &'a str {
    if a.is_empty() { b } else { a }
}

fn read_sidecar(folder: &Folder, name: &str, buffer: &mut Vec<u8>) -> std::result::Result<(Sidecar, Metadata), String> {
    let broken = |e: io::Error| format!("the sidecar cannot be read: {e}");
    let mut file = folder.file(name).map_err(broken)?;
    let meta = file.metadata().map_err(broken)?;
    if meta.len() > MAX_SIDECAR_BYTES {
        return Err(format!("the sidecar is too large: over {} MiB", MAX_SIDECAR_BYTES >> 20));
    }
    // One byte more than it has: a read that leaves it free was the last.
    let size = meta.len() as usize + 1;
    if buffer.len() < size {
        buffer.resize(size, 0);
    }
    let mut len = 0;
    while len < size {
        match file.read(&mut buffer[len..size]).map_err(broken)? {
            0 => break,
            n => len += n,
        }
        if len + 1 == size {
            break;
        }
    }
    Ok((sidecar::parse(&buffer[..len])?, meta))
}
