//! The images below a folder.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::folder::Folder;
use crate::{Error, Result, parallel};

/// Images of one folder that are read at a time, so that threads share a large folder.
const CHUNK: usize = 64;

/// An image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its folder, '/'-separated, relative to the root; "" is the root.
    pub folder: &'a str,
    /// The file's name.
    pub name: &'a str,
    /// Whether `<name without extension>.json` lies beside it.
    pub has_sidecar: bool,
}

impl Found<'_> {
    /// Writes its path, '/'-separated, relative to the root, in place of what `out` has.
    pub fn path_into(&self, out: &mut String) {
        out.clear();
        if !self.folder.is_empty() {
            out.push_str(self.folder);
            out.push('/');
        }
        out.push_str(self.name);
    }
}

/// What a walk found.
#[derive(Debug)]
pub struct Walk<S> {
    /// What the threads made of the images: of each thread, in no order.
    pub states: Vec<S>,
    /// What could not be used, as (path, reason), sorted.
    pub rejected: Vec<(String, String)>,
}

/// Every image below `root`, which is what `is_image` says of a name, is read by `read` as soon as it is found; by
/// `threads` threads (0: all cores), each with an `S` of its own. A folder's images come in order of their names, those
/// of a large folder in pieces; folders come in any order.
///
/// Hidden files and folders (".x") are left out. Links to files are followed, links to folders are not, and are
/// reported like unreadable folders and names that are not UTF-8. Fails if `root` itself cannot be listed.
pub fn walk<S: Default + Send>(
    root: &Path,
    is_image: impl Fn(&str) -> bool + Sync,
    threads: usize,
    read: impl Fn(&Folder, &Found, &mut S) + Sync,
) -> Result<Walk<S>> {
    let work = Queue::default();
    let (first, rejected) = list(root, String::new(), &is_image).map_err(|e| Error::io(root, &e))?;
    work.add(&Arc::new(first), 0);
    let states: Mutex<Vec<S>> = Mutex::default();
    let rejected = Mutex::new(rejected);
    let serve = || {
        let (mut own, mut faults) = (S::default(), Vec::new());
        let mut read_these = |listed: &Listed, images: Range<usize>| {
            for at in &listed.images[images] {
                let found =
                    Found { folder: &listed.path, name: &listed.names[at.name.clone()], has_sidecar: at.has_sidecar };
                read(&listed.folder, &found, &mut own);
            }
        };
        while let Some(task) = work.next() {
            // Told when it ends, by a panic too, or the other threads would wait for ever.
            let _done = Done(&work);
            match task {
                Task::List(path) => match list(&root.join(&path), path.clone(), &is_image) {
                    Ok((listed, mut rejected)) => {
                        faults.append(&mut rejected);
                        let listed = Arc::new(listed);
                        let own = CHUNK.min(listed.images.len());
                        work.add(&listed, own);
                        read_these(&listed, 0..own);
                    }
                    Err(e) => faults.push((path, format!("a folder that cannot be read: {e}"))),
                },
                Task::Read(listed, images) => read_these(&listed, images),
            }
        }
        states.lock().unwrap_or_else(PoisonError::into_inner).push(own);
        rejected.lock().unwrap_or_else(PoisonError::into_inner).append(&mut faults);
    };
    std::thread::scope(|scope| {
        for _ in 0..parallel::resolve_threads(threads) {
            scope.spawn(serve);
        }
    });
    let states = states.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut rejected = rejected.into_inner().unwrap_or_else(PoisonError::into_inner);
    rejected.sort();
    Ok(Walk { states, rejected })
}

enum Task {
    /// A folder, by its path relative to the root.
    List(String),
    /// Some of its images.
    Read(Arc<Listed>, Range<usize>),
}

/// What is still to be done.
#[derive(Default)]
struct Queue {
    /// The tasks, and how many are being worked on.
    state: Mutex<(Vec<Task>, usize)>,
    changed: Condvar,
}

impl Queue {
    /// The next task; None when there is none and none can come.
    fn next(&self) -> Option<Task> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(task) = state.0.pop() {
                state.1 += 1;
                return Some(task);
            }
            if state.1 == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes what a folder has, without its first `taken` images.
    fn add(&self, listed: &Arc<Listed>, taken: usize) {
        let images = listed.images.len();
        // The last is the next that is done: folders come about in order, which saves sorting what was read.
        let mut tasks: Vec<Task> = listed.folders.iter().rev().cloned().map(Task::List).collect();
        let chunks = (taken..images).step_by(CHUNK);
        tasks.extend(chunks.map(|at| Task::Read(Arc::clone(listed), at..images.min(at + CHUNK))));
        if !tasks.is_empty() {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).0.append(&mut tasks);
            self.changed.notify_all();
        }
    }
}

/// Says that a task has ended.
struct Done<'a>(&'a Queue);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 -= 1;
        if state.1 == 0 && state.0.is_empty() {
            self.0.changed.notify_all();
        }
    }
}

/// What one folder has.
struct Listed {
    folder: Folder,
    /// Relative to the root.
    path: String,
    /// Names of files end to end.
    names: String,
    /// In order of their names.
    images: Vec<Image>,
    /// Paths relative to the root, sorted.
    folders: Vec<String>,
}

/// An image of a folder.
struct Image {
    /// Where its name stands among the folder's.
    name: Range<usize>,
    has_sidecar: bool,
}

/// What the folder at `path` has, which is `relative` to the root, and what of it cannot be used.
fn list(
    path: &Path,
    relative: String,
    is_image: &impl Fn(&str) -> bool,
) -> io::Result<(Listed, Vec<(String, String)>)> {
    let (mut folders, mut rejected) = (Vec::new(), Vec::new());
    let (mut names, mut images, mut sidecars) = (String::new(), Vec::new(), Vec::new());
    let join = |name: &str| if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
    let mut folder = Folder::open(path)?;
    folder.entries(|name, kind| {
        if name.starts_with(b".") {
            return;
        }
        let Ok(name) = std::str::from_utf8(name) else {
            let readable = String::from_utf8_lossy(name);
            if kind == libc::DT_DIR || is_image(&readable) {
                rejected.push((join(&readable), "a name that is not UTF-8".to_owned()));
            }
            return;
        };
        let mut add = |name: &str| {
            names.push_str(name);
            names.len() - name.len()..names.len()
        };
        // Some file systems do not say what an entry is.
        let asked = |name: &str| fs::metadata(path.join(name)).ok();
        let is_unknown = kind == libc::DT_UNKNOWN && !path.join(name).is_symlink();
        if kind == libc::DT_DIR || is_unknown && asked(name).is_some_and(|m| m.is_dir()) {
            folders.push(join(name));
        } else if matches!(kind, libc::DT_LNK | libc::DT_UNKNOWN) && asked(name).is_some_and(|m| m.is_dir()) {
            rejected.push((join(name), "a link to a folder, which is not followed".to_owned()));
        } else if let Some(stem) = name.strip_suffix(".json") {
            sidecars.push(add(stem));
        } else if is_image(name) {
            // Opening a pipe would wait for its writer.
            if kind == libc::DT_REG || asked(name).is_some_and(|m| m.is_file()) {
                images.push(Image { name: add(name), has_sidecar: false });
            } else {
                rejected.push((join(name), "not a regular file".to_owned()));
            }
        }
    })?;
    folders.sort_unstable();
    images.sort_unstable_by(|a, b| names[a.name.clone()].cmp(&names[b.name.clone()]));
    sidecars.sort_unstable_by(|a, b| names[a.clone()].cmp(&names[b.clone()]));
    for image in &mut images {
        let name = &names[image.name.clone()];
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        image.has_sidecar = sidecars.binary_search_by(|at| names[at.clone()].cmp(stem)).is_ok();
    }
    Ok((Listed { folder, path: relative, names, images, folders }, rejected))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::walk;
    use crate::index::fmow::is_image;

    /// Path, folder and whether there is a sidecar of each image, sorted; and what was rejected.
    #[allow(clippy::type_complexity)] // two lists
    fn found(root: &Path, threads: usize) -> (Vec<(String, String, bool)>, Vec<(String, String)>) {
        let walked = walk(root, is_image, threads, |_, found, own: &mut Vec<_>| {
            let mut path = String::new();
            found.path_into(&mut path);
            own.push((path, found.folder.to_owned(), found.has_sidecar));
        })
        .unwrap();
        let mut all = walked.states.concat();
        all.sort();
        (all, walked.rejected)
    }

    #[test]
    fn large_folders_are_shared() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..200).map(|i| format!("{i:03}.jpg")).collect();
        for name in &names {
            fs::write(root.path().join(name), "").unwrap();
        }
        let (found, _) = found(root.path(), 3);
        assert_eq!(found.into_iter().map(|f| f.0).collect::<Vec<_>>(), names);
    }

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
            let (found, rejected) = found(root.path(), threads);
            let found: Vec<_> = found.iter().map(|(path, folder, sidecar)| (&**path, &**folder, *sidecar)).collect();
            let want = [
                ("a.png", "", false),
                ("b-c/1.TIF", "b-c", false),
                ("b/x/10.jpg", "b/x", true),
                ("b/x/2.jpg", "b/x", false),
            ];
            assert_eq!(found, want);
            assert!(rejected.is_empty());
        }
        assert!(
            walk(&root.path().join("nowhere"), is_image, 1, |_, _, (): &mut ()| ())
                .unwrap_err()
                .to_string()
                .contains("nowhere")
        );
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
        let (found, rejected) = found(root.path(), 2);
        assert_eq!(found, [("ok.jpg".to_owned(), String::new(), false)]);
        let rejected: Vec<_> = rejected.iter().map(|(path, reason)| (path.as_str(), reason.as_str())).collect();
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
