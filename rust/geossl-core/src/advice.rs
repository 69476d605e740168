//! Words to the system about files that are read soon.

use std::path::Path;

/// Most bytes of a file that are read ahead: of a large scene a crop needs a small part, wherever that lies.
#[cfg(target_os = "linux")]
const AHEAD_BYTES: libc::off_t = 8 << 20;

/// Starts reading a file, or the start of a large one, into the page cache, without waiting for it. Errors are left to
/// the one who reads it.
pub fn will_need(path: &Path) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::OpenOptionsExt;

        // Not blocking: opening a FIFO would wait for its writer.
        let opened = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        if let Ok(file) = opened {
            // SAFETY: the descriptor is open for as long as `file` lives.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, AHEAD_BYTES, libc::POSIX_FADV_WILLNEED) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = path;
}
