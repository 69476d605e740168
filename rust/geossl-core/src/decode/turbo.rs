//! A handle of libjpeg-turbo, and its errors as ours.

use std::ffi::CStr;
use std::path::Path;

use turbojpeg::raw;

use crate::{Error, Result};

/// Progressive files with more scans than this are refused: each scan costs a pass over the whole image.
const MAX_SCANS: i32 = 100;

/// A handle for one kind of work, made when it is first used.
pub struct Turbo {
    kind: raw::TJINIT,
    handle: Option<Handle>,
}

struct Handle(raw::tjhandle);

// SAFETY: a TurboJPEG handle may move between threads; only concurrent use is forbidden, and every use is `&mut`.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle came from tj3Init and is destroyed once.
        unsafe { raw::tj3Destroy(self.0) };
    }
}

impl Turbo {
    /// Of one of `TJINIT_*`.
    pub fn new(kind: raw::TJINIT) -> Self {
        Self { kind, handle: None }
    }

    /// The handle.
    pub fn get(&mut self) -> Result<raw::tjhandle> {
        if let Some(handle) = &self.handle {
            return Ok(handle.0);
        }
        // SAFETY: a plain constructor; null is checked.
        let made = unsafe { raw::tj3Init(self.kind as libc::c_int) };
        if made.is_null() {
            return Err(Error::Internal("libjpeg-turbo gave no handle".into()));
        }
        // SAFETY: the handle is valid; a kind that has no such limit would only return an error.
        unsafe { raw::tj3Set(made, raw::TJPARAM_TJPARAM_SCANLIMIT as libc::c_int, MAX_SCANS) };
        Ok(self.handle.insert(Handle(made)).0)
    }

    /// Sets a parameter.
    pub fn set(&mut self, path: &Path, param: raw::TJPARAM, value: i32) -> Result<()> {
        let handle = self.get()?;
        // SAFETY: the handle is valid; a value that it does not take is an error.
        let code = unsafe { raw::tj3Set(handle, param as libc::c_int, value) };
        self.check(path, code)
    }

    /// The error of a call that returned `code`, if it is one. The handle is given up with it: a broken file can leave
    /// it in a state that fails the files after it too.
    pub fn check(&mut self, path: &Path, code: libc::c_int) -> Result<()> {
        let outcome = if code == 0 { Ok(()) } else { failure(path, self.get()?) };
        if outcome.is_err() {
            self.handle = None;
        }
        outcome
    }
}

/// What went wrong in the last call.
fn failure(path: &Path, handle: raw::tjhandle) -> Result<()> {
    // SAFETY: the handle is valid; the string is the handle's, NUL-terminated, and copied before the next call.
    let message = unsafe { CStr::from_ptr(raw::tj3GetErrorStr(handle)) }.to_string_lossy().into_owned();
    // SAFETY: the handle is valid.
    let warning = unsafe { raw::tj3GetErrorCode(handle) } == raw::TJERR_TJERR_WARNING as libc::c_int;
    // Filler between markers is harmless and common; every other warning means that pixels are missing or wrong.
    if warning && message.contains("extraneous bytes before marker") {
        return Ok(());
    }
    if message.contains("Memory limit exceeded") {
        return Err(Error::data(path, "a JPEG of several scans, whose coefficients take more memory than the limit"));
    }
    let cut = ["Premature end", "premature end"].iter().any(|s| message.contains(s));
    Err(Error::data(path, if cut { format!("the JPEG is cut short ({message})") } else { message }))
}
