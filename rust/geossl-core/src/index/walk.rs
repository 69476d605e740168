//! The images below a folder.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::{Error, Result, parallel};

/// Images of one folder that are read at a time, so that threads share a large folder.
const CHUNK: usize = 64;

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

/// An open folder: files are opened from it by their names alone, which saves walking down their paths.
#[derive(Debug)]
pub struct Folder(File);

impl Folder {
    /// Opens the folder at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(File::options().read(true).custom_flags(libc::O_DIRECTORY).open(path)?))
    }

    /// Opens a file in it for reading. A pipe is not waited for.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let name = CString::new(name)?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        loop {
            // SAFETY: `name` ends with a zero byte and lives through the call; the folder is open as long as `self`.
            let fd = unsafe { libc::openat(self.0.as_raw_fd(), name.as_ptr(), flags) };
            if fd >= 0 {
                // SAFETY: the call has just opened `fd`, and nobody else has it.
                return Ok(unsafe { File::from_raw_fd(fd) });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// What a walk found.
#[derive(Debug, PartialEq, Eq)]
pub struct Walk<T = ()> {
    /// Images, sorted by path, with what was read of each.
    pub images: Vec<(Found, T)>,
    /// What could not be used, as (path, reason), sorted.
    pub rejected: Vec<(String, String)>,
}

/// Every image below `root`, which is what `is_image` says of a name, read by `read` as soon as it is found; by
/// `threads` threads (0: all cores), each with an `S` of its own. The result does not depend on their number.
///
/// Hidden files and folders (".x") are left out. Links to files are followed, links to folders are not, and are
/// reported like unreadable folders and names that are not UTF-8. Fails if `root` itself cannot be listed.
pub fn walk<T: Send, S: Default>(
    root: &Path,
    is_image: impl Fn(&str) -> bool + Sync,
    threads: usize,
    read: impl Fn(&Folder, &Found, &mut S) -> T + Sync,
) -> Result<Walk<T>> {
    let work = Queue::default();
    let first = list(root, "", &is_image).map_err(|e| Error::io(root, &e))?;
    let mut rejected = work.add(first);
    let parts: Mutex<Vec<Vec<(Found, T)>>> = Mutex::default();
    let faults: Mutex<Vec<(String, String)>> = Mutex::default();
    let serve = || {
        let (mut own, mut parts_here, mut faults_here) = (S::default(), Vec::new(), Vec::new());
        while let Some(task) = work.next() {
            // Told when it ends, by a panic too, or the other threads would wait for ever.
            let _done = Done(&work);
            match task {
                Task::List(relative) => match list(&root.join(&relative), &relative, &is_image) {
                    Ok(listed) => faults_here.append(&mut work.add(listed)),
                    Err(e) => faults_here.push((relative, format!("a folder that cannot be read: {e}"))),
                },
                Task::Read(folder, images) => {
                    let read_one = |image: Found| {
                        let value = read(&folder, &image, &mut own);
                        (image, value)
                    };
                    parts_here.push(images.into_iter().map(read_one).collect());
                }
            }
        }
        parts.lock().unwrap_or_else(PoisonError::into_inner).append(&mut parts_here);
        faults.lock().unwrap_or_else(PoisonError::into_inner).append(&mut faults_here);
    };
    std::thread::scope(|scope| {
        for _ in 0..parallel::resolve_threads(threads) {
            scope.spawn(serve);
        }
    });
    rejected.append(&mut faults.into_inner().unwrap_or_else(PoisonError::into_inner));
    rejected.sort();
    let mut parts = parts.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Parts are sorted within: once they are in order, the sort below finds long runs.
    parts.sort_unstable_by(|a, b| a[0].0.path.cmp(&b[0].0.path));
    let mut images: Vec<_> = parts.into_iter().flatten().collect();
    images.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    Ok(Walk { images, rejected })
}

enum Task {
    /// A folder, by its path relative to the root.
    List(String),
    Read(Arc<Folder>, Vec<Found>),
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

    /// Takes what a folder has; returns what of it cannot be used.
    fn add(&self, listed: Listed) -> Vec<(String, String)> {
        let Listed { folder, mut images, folders, rejected } = listed;
        let mut tasks: Vec<Task> = folders.into_iter().map(Task::List).collect();
        let folder = Arc::new(folder);
        while !images.is_empty() {
            let rest = images.split_off(CHUNK.min(images.len()));
            tasks.push(Task::Read(Arc::clone(&folder), std::mem::replace(&mut images, rest)));
        }
        if !tasks.is_empty() {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).0.append(&mut tasks);
            self.changed.notify_all();
        }
        rejected
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
    /// Sorted by path.
    images: Vec<Found>,
    folders: Vec<String>,
    rejected: Vec<(String, String)>,
}

fn list(path: &Path, relative: &str, is_image: &impl Fn(&str) -> bool) -> io::Result<Listed> {
    let (mut folders, mut rejected) = (Vec::new(), Vec::new());
    let (mut names, mut sidecars) = (Vec::new(), Vec::new());
    let join = |name: &str| if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let mut name = match entry.file_name().into_string() {
            Ok(name) => name,
            Err(name) => {
                if kind.is_dir() || is_image(&name.to_string_lossy()) {
                    rejected.push((join(&name.to_string_lossy()), "a name that is not UTF-8".to_owned()));
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
            rejected.push((join(&name), "a link to a folder, which is not followed".to_owned()));
        } else if Path::new(&name).extension() == Some(OsStr::new("json")) {
            name.truncate(name.len() - ".json".len());
            sidecars.push(name);
        } else if is_image(&name) {
            // Opening a pipe would wait for its writer.
            if kind.is_file() || fs::metadata(entry.path()).is_ok_and(|m| m.is_file()) {
                names.push(name);
            } else {
                rejected.push((join(&name), "not a regular file".to_owned()));
            }
        }
    }
    names.sort_unstable();
    sidecars.sort_unstable();
    let found = |name: &String| {
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        let has_sidecar = sidecars.binary_search_by(|sidecar| sidecar.as_str().cmp(stem)).is_ok();
        Found { path: join(name), folder_len: relative.len(), has_sidecar }
    };
    Ok(Listed { folder: Folder::open(path)?, images: names.iter().map(found).collect(), folders, rejected })
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
            let got = walk(root.path(), is_image, threads, |_, _, (): &mut ()| ()).unwrap();
            let paths: Vec<_> = got.images.iter().map(|(f, ())| (f.path.as_str(), f.has_sidecar)).collect();
            assert_eq!(paths, [("a.png", false), ("b-c/1.TIF", false), ("b/x/10.jpg", true), ("b/x/2.jpg", false)]);
            assert_eq!((got.images[2].0.folder(), got.images[2].0.file_name()), ("b/x", "10.jpg"));
            assert_eq!((got.images[0].0.folder(), got.images[0].0.file_name()), ("", "a.png"));
            assert!(got.rejected.is_empty());
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
        let got = walk(root.path(), is_image, 2, |_, _, (): &mut ()| ()).unwrap();
        assert_eq!(got.images.iter().map(|(f, ())| f.path.as_str()).collect::<Vec<_>>(), ["ok.jpg"]);
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
