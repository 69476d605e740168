//! A folder, its entries and its files.

use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

/// Bytes of the longest name that a file system has, and the zero behind it.
const NAME_BYTES: usize = 256;

/// Size and time of a file, which tell whether it has been changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Bytes.
    pub size: i64,
    /// When it was last written, seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: i64,
}

impl State {
    /// Of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the descriptor is open, and the call fills `stat` if it succeeds.
        Self::ask(|stat| unsafe { libc::fstat(file.as_raw_fd(), stat) })
    }

    fn ask(call: impl FnOnce(*mut libc::stat) -> libc::c_int) -> io::Result<Self> {
        let mut stat = MaybeUninit::uninit();
        if call(stat.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has filled it.
        let stat = unsafe { stat.assume_init() };
        Ok(Self { size: stat.st_size, seconds: stat.st_mtime, nanos: stat.st_mtime_nsec })
    }
}

/// An open folder: files are opened from it by their names alone, which saves walking down their paths.
#[derive(Debug)]
pub struct Folder(NonNull<libc::DIR>);

// SAFETY: a directory stream may be used by any thread, by one at a time.
unsafe impl Send for Folder {}
// SAFETY: through a shared reference only its descriptor is asked for, which nothing changes.
unsafe impl Sync for Folder {}

impl Drop for Folder {
    fn drop(&mut self) {
        // SAFETY: `open` opened it, and nobody else closes it.
        unsafe { libc::closedir(self.0.as_ptr()) };
    }
}

impl Folder {
    /// Opens the folder at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: `path` ends with a zero byte and lives through the call.
        NonNull::new(unsafe { libc::opendir(path.as_ptr()) }).map(Self).ok_or_else(io::Error::last_os_error)
    }

    /// Opens a file in it for reading. A pipe is not waited for.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        with_zero(name, |name| {
            loop {
                // SAFETY: the name ends with a zero byte and lives through the call; the folder is open.
                let fd = unsafe { libc::openat(self.descriptor(), name, flags) };
                if fd >= 0 {
                    // SAFETY: the call has just opened `fd`, and nobody else has it.
                    return Ok(unsafe { File::from_raw_fd(fd) });
                }
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        })
    }

    /// The state of a file in it, or of the one that a link leads to.
    pub fn state(&self, name: &str) -> io::Result<State> {
        // SAFETY: the name ends with a zero byte and lives through the call, which fills `stat` if it succeeds; the
        // folder is open.
        with_zero(name, |name| State::ask(|stat| unsafe { libc::fstatat(self.descriptor(), name, stat, 0) }))
    }

    fn descriptor(&self) -> libc::c_int {
        // SAFETY: the stream is open as long as `self`.
        unsafe { libc::dirfd(self.0.as_ptr()) }
    }

    /// Calls `each` with the name and `d_type` of all that it has, in no order.
    pub fn entries(&mut self, mut each: impl FnMut(&[u8], u8)) -> io::Result<()> {
        loop {
            clear_errno();
            // SAFETY: the stream is open, and `self` is not shared.
            let Some(entry) = NonNull::new(unsafe { libc::readdir(self.0.as_ptr()) }) else {
                return match io::Error::last_os_error() {
                    e if e.raw_os_error() == Some(0) => Ok(()),
                    e => Err(e),
                };
            };
            let entry = entry.as_ptr();
            // SAFETY: the entry is valid until the next call, and its name ends with a zero byte. It is not referred to
            // as a whole, as it may be shorter than its type.
            let (name, kind) = unsafe { (CStr::from_ptr((&raw const (*entry).d_name).cast()), (*entry).d_type) };
            each(name.to_bytes(), kind);
        }
    }
}

/// The name as C has it. On the stack, as this is asked for every file.
fn with_zero<T>(name: &str, f: impl FnOnce(*const c_char) -> io::Result<T>) -> io::Result<T> {
    let mut bytes = [0u8; NAME_BYTES];
    if name.len() >= NAME_BYTES || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    f(bytes.as_ptr().cast())
}

/// So that the end of a folder is told from an error.
fn clear_errno() {
    // SAFETY: it is this thread's own.
    #[cfg(target_os = "linux")]
    unsafe {
        *libc::__errno_location() = 0;
    }
    // SAFETY: as above.
    #[cfg(target_os = "macos")]
    unsafe {
        *libc::__error() = 0;
    }
}
