//! From an image and its sidecar to rows.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::columns::{Columns, Row, Strings};
use super::coordinates;
use super::fmow::{self, Kind, Name};
use super::folder::{Folder, State};
use super::header::{self, Header};
use super::photo::{self, Photo};
use super::scan::Layout;
use super::sidecar::{self, BoundingBox, Sidecar};
use super::walk::Found;
use crate::Result;

/// Largest sidecar read, bytes; fMoW's have 2 kB.
const MAX_SIDECAR_BYTES: i64 = 16 << 20;

/// What became of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// It is of another kind than the one that is read.
    Of(Kind),
    /// It has not changed.
    Kept(Kind),
    /// It was read, if only to be rejected.
    Read(Kind),
}

/// An image that was seen.
pub(super) struct Seen {
    pub what: What,
    pub has_sidecar: bool,
}

/// What one thread has read.
#[derive(Default)]
pub(super) struct Part {
    /// The images that are named as they should be.
    pub images: Vec<Seen>,
    /// Their paths.
    pub paths: Strings,
    /// The rows that they gave; places are not told apart by their boxes yet.
    pub columns: Columns,
    /// The box's ID of each row that is one.
    pub boxes: Vec<Option<i64>>,
    /// Places with an image of several boxes.
    pub several: HashSet<String>,
    pub rejected: Vec<(String, String)>,
    pub nulled: Vec<(String, String)>,
    pub no_sidecar: usize,
    pub size_mismatches: usize,
    pub duplicate_boxes: usize,
    pub tiny_boxes: usize,
    /// Memory for the next image.
    buffer: Vec<u8>,
    path: String,
    sidecar: String,
}

pub(super) struct Reader<'a> {
    root: &'a Path,
    root_name: &'a str,
    /// Of the test set.
    categories: HashMap<String, String>,
    /// Stamps of the index that was made before.
    known: HashMap<&'a str, i64>,
    layout: Layout,
}

impl<'a> Reader<'a> {
    /// Fails if the root's `test_gt_mapping.json` is broken.
    pub fn new(root: &'a Path, layout: Layout, known: impl Iterator<Item = (&'a str, i64)>) -> Result<Self> {
        let is_fmow = layout != Layout::Photos;
        Ok(Self {
            root,
            root_name: root.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
            categories: if is_fmow { fmow::read_test_categories(root)? } else { HashMap::new() },
            known: known.collect(),
            layout,
        })
    }
}

impl Reader<'_> {
    /// Reads the image if it is of the kind `wanted`, unless it `may_keep` what is known of it.
    pub fn read(&self, folder: &Folder, found: &Found, wanted: Kind, may_keep: bool, part: &mut Part) {
        let mut path = std::mem::take(&mut part.path);
        found.path_into(&mut path);
        match self.outcome(folder, found, &path, wanted, may_keep, part) {
            None => part.rejected.push((path.clone(), "a name that is not fMoW's".to_owned())),
            Some(what) => {
                part.images.push(Seen { what, has_sidecar: found.has_sidecar });
                part.paths.push(&path);
            }
        }
        part.path = path;
    }

    /// Reads images that were found before, by their paths and whether they have a sidecar.
    pub fn read_again(&self, images: &[(String, bool)], kind: Kind, may_keep: bool) -> Part {
        let mut part = Part::default();
        let mut open: Option<(&str, Folder)> = None;
        for (path, has_sidecar) in images {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            if open.as_ref().is_none_or(|(of, _)| *of != folder) {
                open = match Folder::open(&self.root.join(folder)) {
                    Ok(opened) => Some((folder, opened)),
                    Err(e) => {
                        part.rejected.push((path.clone(), header::cannot_open(&e)));
                        None
                    }
                };
            }
            if let Some((_, opened)) = &open {
                let found = Found { folder, name, has_sidecar: *has_sidecar };
                self.read(opened, &found, kind, may_keep, &mut part);
            }
        }
        part
    }

    /// None for a name that is not fMoW's.
    fn outcome(
        &self,
        folder: &Folder,
        found: &Found,
        path: &str,
        wanted: Kind,
        may_keep: bool,
        part: &mut Part,
    ) -> Option<What> {
        let name = match self.layout {
            Layout::Photos => None,
            Layout::Fmow(_) => Some(fmow::parse_name(found.name)?),
        };
        if let Some(Name { kind, .. }) = name.filter(|name| name.kind != wanted) {
            return Some(What::Of(kind));
        }
        let source = Source { folder, found, path };
        if may_keep && self.is_kept(&source, name.as_ref(), part) {
            return Some(What::Kept(wanted));
        }
        let read = match &name {
            Some(name) => self.read_image(&source, name, part),
            None => self.read_photo(&source, part),
        };
        if let Err(reason) = read {
            part.rejected.push((path.to_owned(), reason));
        }
        Some(What::Read(wanted))
    }

    /// Whether the files are those that a known row was read from.
    fn is_kept(&self, source: &Source, name: Option<&Name>, part: &mut Part) -> bool {
        let Some(&stamp) = self.known.get(source.path).filter(|&&stamp| stamp != 0) else { return false };
        let Ok(image) = source.folder.state(source.found.name) else { return false };
        let sidecar = if source.found.has_sidecar && name.is_some() {
            sidecar_name(source.found.name, &mut part.sidecar);
            let Ok(state) = source.folder.state(&part.sidecar) else { return false };
            Some(state)
        } else {
            None
        };
        stamp == self.stamp(source.path, name, image, sidecar)
    }

    /// What changes once any of the files does, or what is known of them from elsewhere. Never 0.
    fn stamp(&self, path: &str, name: Option<&Name>, image: State, sidecar: Option<State>) -> i64 {
        let mut hash = Fnv::default();
        for state in [Some(image), sidecar] {
            for number in state.map_or([-1; 3], |s| [s.size, s.seconds, s.nanos]) {
                hash.add(&number.to_le_bytes());
            }
        }
        hash.add(fmow::split(path, self.root_name).unwrap_or_default().as_bytes());
        hash.add(name.map_or("", |name| self.category(name)).as_bytes());
        if hash.0 == 0 { 1 } else { hash.0 as i64 }
    }

    /// The category by the name or, where the name hides it, the test set's list.
    fn category<'a>(&'a self, name: &Name<'a>) -> &'a str {
        name.category.or_else(|| self.categories.get(name.place).map(String::as_str)).unwrap_or_default()
    }

    /// Adds the rows of one image; the error says why it has none.
    fn read_image(&self, source: &Source, name: &Name, part: &mut Part) -> std::result::Result<(), String> {
        let Source { folder, found, path } = *source;
        let (header, _, state) = read_header(folder, found.name, &mut part.buffer)?;
        let (sidecar, sidecar_state) = if found.has_sidecar {
            sidecar_name(found.name, &mut part.sidecar);
            let (len, state) = read_sidecar(folder, &part.sidecar, &mut part.buffer)?;
            (sidecar::parse(&part.buffer[..len])?, Some(state))
        } else {
            (Sidecar::default(), None)
        };
        let place = fmow::place(found.folder, name);
        let category = self.category(name);
        let row = |b: Option<&BoundingBox>| Row {
            location_id: &place.location_id,
            centre: b.and_then(|b| b.centre).or(sidecar.centre),
            timestamp: sidecar.timestamp,
            category: "",
            rect: b.and_then(|b| b.rect).filter(|_| !place.is_crop),
            gsd: sidecar.gsd,
            cloud_cover: sidecar.cloud_cover,
            country_code: &sidecar.country_code,
            sensor: &sidecar.sensor,
            split: fmow::split(path, self.root_name).unwrap_or_default(),
        };
        let size = (i64::from(header.width), i64::from(header.height));
        let size_mismatch = !place.is_crop && sidecar.size.is_some_and(|claimed| claimed != size);
        part.no_sidecar += usize::from(!found.has_sidecar);
        part.size_mismatches += usize::from(size_mismatch);
        // What went wrong is told again by the next update, which therefore reads it again.
        let faultless = sidecar.problems.is_empty() && !size_mismatch;
        let stamp = self.stamp(path, Some(name), state, sidecar_state);
        let mut push = |b: Option<(&BoundingBox, bool)>, category: &str, stamp: i64| {
            part.columns.push(path, &header, &Row { category, ..row(b.map(|b| b.0)) }, stamp);
            part.boxes.push(b.filter(|b| b.1).map(|b| b.0.id));
        };
        if place.is_crop || sidecar.boxes.is_empty() {
            // The boxes of a ready-made crop are those of the image that it was cut from.
            let b = sidecar.boxes.first();
            let its_own = b.map_or("", |b| &b.category);
            push(b.map(|b| (b, false)), first_of(category, its_own), if faultless { stamp } else { 0 });
        } else {
            let selected = sidecar::select(&sidecar.boxes, header.width.unsigned_abs(), header.height.unsigned_abs());
            let faultless = faultless && selected.tiny == 0 && selected.rejected.is_empty();
            let several = selected.boxes.len() > 1;
            for b in &selected.boxes {
                // The name's word on the category; the box's where the name hides it, or for each of several boxes.
                let (first, second) = if several { (&*b.category, category) } else { (category, &*b.category) };
                push(Some((b, true)), first_of(first, second), if faultless { stamp } else { 0 });
            }
            if several && !part.several.contains(&*place.location_id) {
                part.several.insert(place.location_id.into_owned());
            }
            part.duplicate_boxes += selected.duplicates;
            part.tiny_boxes += selected.tiny;
            if selected.boxes.is_empty() && selected.rejected.is_empty() {
                part.rejected.push((path.to_owned(), "every box has 2 pixels a side or less".to_owned()));
            }
            part.rejected.extend(selected.rejected.into_iter().map(|reason| (path.to_owned(), reason)));
        }
        part.nulled.extend(sidecar.problems.into_iter().map(|reason| (path.to_owned(), reason)));
        Ok(())
    }

    fn read_photo(&self, source: &Source, part: &mut Part) -> std::result::Result<(), String> {
        let Source { folder, found, path } = *source;
        let name = found.name;
        let (header, exif, state) = read_header(folder, name, &mut part.buffer)?;
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
        let own_folder = found.folder.rsplit('/').next().unwrap_or_default();
        // A folder that is a split says nothing of what is on its photos.
        let is_split = !found.folder.contains('/') && fmow::split(path, "").is_some();
        let row = Row {
            centre,
            timestamp: photo.timestamp,
            category: if is_split { "" } else { own_folder },
            split: fmow::split(path, self.root_name).unwrap_or_default(),
            ..Row::default()
        };
        let stamp = if nulled.is_empty() { self.stamp(path, None, state, None) } else { 0 };
        part.columns.push(path, &header, &row, stamp);
        part.boxes.push(None);
        part.nulled.extend(nulled.into_iter().map(|reason| (path.to_owned(), reason)));
        Ok(())
    }
}

/// An image to be read.
struct Source<'a> {
    folder: &'a Folder,
    found: &'a Found<'a>,
    path: &'a str,
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

/// Writes the name of an image's sidecar in place of what `out` has.
fn sidecar_name(name: &str, out: &mut String) {
    out.clear();
    out.push_str(name.rsplit_once('.').map_or(name, |(stem, _)| stem));
    out.push_str(".json");
}

/// The first text that is not empty, else "".
fn first_of<'a>(a: &'a str, b: &'a str) -> &'a str {
    if a.is_empty() { b } else { a }
}

/// The header, the EXIF, and the file's size and time.
fn read_header(
    folder: &Folder,
    name: &str,
    buffer: &mut Vec<u8>,
) -> std::result::Result<(Header, Option<Vec<u8>>, State), String> {
    let file = folder.file(name).map_err(|e| header::cannot_open(&e))?;
    let state = State::of(&file).map_err(|e| format!("cannot be read: {e}"))?;
    let opened = header::read_open(Path::new(name), &file, buffer)?;
    Ok((opened.header, opened.exif, state))
}

/// Reads the sidecar to the start of the buffer: its length, and the file's size and time.
fn read_sidecar(folder: &Folder, name: &str, buffer: &mut Vec<u8>) -> std::result::Result<(usize, State), String> {
    let broken = |e: io::Error| format!("the sidecar cannot be read: {e}");
    let mut file = folder.file(name).map_err(broken)?;
    let state = State::of(&file).map_err(broken)?;
    if state.size > MAX_SIDECAR_BYTES {
        return Err(format!("the sidecar is too large: over {} MiB", MAX_SIDECAR_BYTES >> 20));
    }
    // One byte more than it has: a read that leaves it free was the last.
    let size = state.size as usize + 1;
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
    Ok((len, state))
}
