//! The loader's threads give way to the trainer's.

/// How much nicer than the process they are.
#[cfg(target_os = "linux")]
const STEP: libc::c_int = 10;

/// Lowers the priority of the thread that calls. Where that fails, it stays as it is.
pub fn lower() {
    // On Linux a nice value belongs to a thread, and 0 means the one that calls.
    // SAFETY: plain numbers in, plain numbers out.
    #[cfg(target_os = "linux")]
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, now + STEP);
    }
}
