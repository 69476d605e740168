//! The images below a folder.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::{Error, Result, parallel};

/// An image file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// '/'-separated, relative to the root.
    pub path: String,
    /// Bytes of `path` that are its folder, without the last '/'.
    pub folder_len: usize,
    /// Whether `<path without extension>.json` lies beside it.
    pub has_sidecar: bool,
}

impl Found {
    /// The folder, '/'-separated, relative to the root; "" is the root.
    pub fn folder(&self) -> &str {
        &self.path[..self.folder_len]
    }

    /// The file's name.
    pub fn file_name(&self) -> &str {
        self.path[self.folder_len..].trim_start_matches('/')
    }
}

/// What a walk found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Images, sorted by path.
    pub images: Vec<Found>,
    /// What could not be used, as (path, reason), sorted.
    pub rejected: Vec<(String, String)>,
}

impl Walk {
    fn append(&mut self, mut other: Self) {
        self.images.append(&mut other.images);
        self.rejected.append(&mut other.rejected);
    }
}

/// Every image below `root`, which is what `is_image` says of a name, looked for by `threads` threads (0: all cores);
/// the result does not depend on them.
///
/// Hidden files and folders (".x") are left out. Links to files are followed, links to folders are not, and are
/// reported like unreadable folders and names that are not UTF-8. Fails if `root` itself cannot be listed.
pub fn walk(root: &Path, is_image: impl Fn(&str) -> bool + Sync, threads: usize) -> Result<Walk> {
    let (mut found, mut level) = list(root, "", &is_image).map_err(|e| Error::io(root, &e))?;
    while !level.is_empty() {
        let listed = parallel::map(level.len(), threads, |i| {
            list(&root.join(&level[i]), &level[i], &is_image).unwrap_or_else(|e| {
                let rejected = vec![(level[i].clone(), format!("a folder that cannot be read: {e}"))];
                (Walk { rejected, ..Walk::default() }, Vec::new())
            })
        });
        level = Vec::new();
        for (part, mut folders) in listed {
            found.append(part);
            level.append(&mut folders);
        }
    }
    found.images.sort();
    found.rejected.sort();
    Ok(found)
}

/// The images of one folder and its subfolders' paths.
fn list(folder: &Path, relative: &str, is_image: &impl Fn(&str) -> bool) -> std::io::Result<(Walk, Vec<String>)> {
    let (mut out, mut folders) = (Walk::default(), Vec::new());
    let (mut images, mut sidecars) = (Vec::new(), Vec::new());
    let join = |name: &str| if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = match entry.file_name().into_string() {
            Ok(name) => name,
            Err(name) => {
                if kind.is_dir() || is_image(&name.to_string_lossy()) {
                    out.rejected.push((join(&name.to_string_lossy()), "a name that is not UTF-8".to_owned()));
                }
                continue;
            }
        };
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            folders.push(join(&name));
        } else if kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|m| m.is_dir()) {
            out.rejected.push((join(&name), "a link to a folder, which is not followed".to_owned()));
        } else if Path::new(&name).extension() == Some(OsStr::new("json")) {
            sidecars.push(name);
        } else if is_image(&name) {
            // Opening a pipe would wait for its writer.
            if kind.is_file() || fs::metadata(entry.path()).is_ok_and(|m| m.is_file()) {
                images.push(name);
            } else {
                out.rejected.push((join(&name), "not a regular file".to_owned()));
            }
        }
    }
    sidecars.sort_unstable();
    out.images = images
        .into_iter()
        .map(|name| {
            let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
            let has_sidecar = sidecars.binary_search(&format!("{stem}.json")).is_ok();
            Found { path: join(&name), folder_len: relative.len(), has_sidecar }
        })
        .collect();
    Ok((out, folders))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::walk;
    use crate::index::fmow::is_image;

    #[test]
    fn finds_images_in_order_for_any_thread_count() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            "b/x/2.jpg",
            "b/x/10.jpg",
            "b/x/10.json",
            "a.png",
            "b-c/1.TIF",
            "b/readme.txt",
            ".hidden/x.jpg",
            "b/._2.jpg",
        ];
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        for threads in [1, 2, 7] {
            let got = walk(root.path(), is_image, threads).unwrap();
            let paths: Vec<_> = got.images.iter().map(|f| (f.path.as_str(), f.has_sidecar)).collect();
            assert_eq!(paths, [("a.png", false), ("b-c/1.TIF", false), ("b/x/10.jpg", true), ("b/x/2.jpg", false)]);
            assert_eq!((got.images[2].folder(), got.images[2].file_name()), ("b/x", "10.jpg"));
            assert_eq!((got.images[0].folder(), got.images[0].file_name()), ("", "a.png"));
            assert!(got.rejected.is_empty());
        }
        assert!(walk(&root.path().join("nowhere"), is_image, 1).unwrap_err().to_string().contains("nowhere"));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_odd_names() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;

        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("1.jpg"), "").unwrap();
        symlink(other.path(), root.path().join("linked")).unwrap();
        symlink(root.path(), root.path().join("loop")).unwrap();
        symlink(other.path().join("1.jpg"), root.path().join("ok.jpg")).unwrap();
        symlink("nothing", root.path().join("dangling.jpg")).unwrap();
        fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"a\xFF.jpg")), "").unwrap();
        let got = walk(root.path(), is_image, 2).unwrap();
        assert_eq!(got.images.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["ok.jpg"]);
        let rejected: Vec<_> = got.rejected.iter().map(|(path, reason)| (path.as_str(), reason.as_str())).collect();
        assert_eq!(
            rejected,
            [
                ("a\u{fffd}.jpg", "a name that is not UTF-8"),
                ("dangling.jpg", "not a regular file"),
                ("linked", "a link to a folder, which is not followed"),
                ("loop", "a link to a folder, which is not followed"),
            ]
        );
    }
}
