//! Images named by a list (CSV or Parquet) rather than found by a walk.

use std::path::{Component, Path, PathBuf};

use super::columns::Strings;
use super::fmow;
use super::header;
use crate::parallel;

/// The headers of listed images, one entry a path, in order.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)] // the fields are `Header`'s
pub struct Headers {
    /// '/'-separated, relative to the root; as given where the image cannot be used.
    pub path: Strings,
    /// 0 where the image cannot be used; also the next two.
    pub width: Vec<i32>,
    pub height: Vec<i32>,
    pub bands: Vec<i16>,
    /// "" where the image cannot be used.
    pub dtype: Strings,
    /// Why images cannot be used, as (number of the path, "what: why"), in order.
    pub rejected: Vec<(usize, String)>,
}

/// What listed paths say by fMoW's names, one entry a path; "" where a path says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListedNames {
    /// The place; never empty for a path that is named as fMoW's are.
    pub location_id: Strings,
    /// The category.
    pub category: Strings,
    /// `train`, `val` or `test`.
    pub split: Strings,
}

/// Reads the headers of `paths`, which are relative to `root`, or absolute and below it. 0 threads are all cores;
/// the result does not depend on their number.
pub fn read_headers(root: &Path, paths: &[impl AsRef<str> + Sync], threads: usize) -> Headers {
    let results = parallel::map(paths.len(), threads, |i| {
        let path = relative(root, paths[i].as_ref())?;
        let full = root.join(&path);
        // Opening a pipe would wait for its writer.
        if std::fs::metadata(&full).is_ok_and(|m| !m.is_file()) {
            return Err("not a regular file".to_owned());
        }
        Ok((path, header::read(&full)?))
    });
    let mut out = Headers::default();
    for (i, result) in results.into_iter().enumerate() {
        let (width, height, bands, dtype) = match result {
            Ok((path, header)) => {
                out.path.push(&path);
                (header.width, header.height, header.bands, header.dtype.name())
            }
            Err(reason) => {
                out.path.push(paths[i].as_ref());
                out.rejected.push((i, reason));
                (0, 0, 0, "")
            }
        };
        out.width.push(width);
        out.height.push(height);
        out.bands.push(bands);
        out.dtype.push(dtype);
    }
    out
}

/// Reads places, categories and splits off `paths`, which are '/'-separated.
pub fn listed_names(root: &Path, paths: &[impl AsRef<str>]) -> ListedNames {
    let root_name = root.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut out = ListedNames::default();
    for path in paths {
        let path = path.as_ref();
        let (folder, file_name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = fmow::parse_name(file_name);
        out.location_id.push(&name.map(|name| fmow::place(folder, &name).location_id).unwrap_or_default());
        out.category.push(name.and_then(|name| name.category).unwrap_or_default());
        out.split.push(name.and_then(|_| fmow::split(path, root_name)).unwrap_or_default());
    }
    out
}

/// The path relative to the root, '/'-separated, without "." and "..".
fn relative(root: &Path, path: &str) -> Result<String, String> {
    let outside = || "a path outside the root".to_owned();
    let mut given = PathBuf::from(path);
    if given.is_absolute() {
        given = if let Ok(below) = given.strip_prefix(root) {
            below.to_owned()
        } else {
            // The root may have been reached by a link.
            let (folder, name) = given.parent().zip(given.file_name()).ok_or_else(outside)?;
            let folder = folder.canonicalize().map_err(|_| "no such file".to_owned())?;
            folder.join(name).strip_prefix(root).map_err(|_| outside())?.to_owned()
        };
    }
    let mut parts = Vec::new();
    for part in given.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str().ok_or_else(outside)?),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop().ok_or_else(outside)?;
            }
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    if parts.is_empty() { Err("no path is given".to_owned()) } else { Ok(parts.join("/")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{listed_names, relative};

    #[test]
    fn paths_are_brought_below_the_root() {
        let root = Path::new("/data/fmow");
        for (path, want) in [
            ("a/b.jpg", Ok("a/b.jpg")),
            ("./a//b.jpg", Ok("a/b.jpg")),
            ("a/../c.jpg", Ok("c.jpg")),
            ("/data/fmow/a/b.jpg", Ok("a/b.jpg")),
            ("../b.jpg", Err("a path outside the root")),
            ("/data/other/b.jpg", Err("no such file")),
            ("", Err("no path is given")),
        ] {
            assert_eq!(relative(root, path), want.map(str::to_owned).map_err(str::to_owned), "{path}");
        }
    }

    #[test]
    fn names() {
        let got = listed_names(Path::new("/data/fmow"), &["val/zoo/zoo_3/zoo_3_0_rgb.jpg", "photo.jpg"]);
        assert_eq!(got.location_id.iter().collect::<Vec<_>>(), ["val/zoo/zoo_3", ""]);
        assert_eq!(got.category.iter().collect::<Vec<_>>(), ["zoo", ""]);
        assert_eq!(got.split.iter().collect::<Vec<_>>(), ["val", ""]);
    }
}
