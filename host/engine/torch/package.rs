//! Packages of AOTInductor (`model.pt2`): a model that PyTorch compiled ahead of time, for one kind of device.
//!
//! Owns the calls into `aoti.cpp` and whether a package is for this machine: its code is native, and one for another processor
//! would end the process. Refuses to know batches.

use std::{
    ffi::{CString, c_char, c_void},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    ptr,
    sync::OnceLock,
};

use tch::Tensor;

use super::{
    archive::{self, Unpacked},
    device,
};
use crate::engine::BackendError;

/// A library that is called `libtorch.so` and has nothing in it (build.rs): packages want to be linked with one of that name,
/// and what they need of it is in the half that is there.
static NAME: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtorch_name.so"));
/// Under which keys a package tells what it was compiled for.
const DEVICE_KEY: &str = "AOTI_DEVICE_KEY";
const PROCESSOR_KEY: &str = "AOTI_CPU_ISA";
/// What is overheard, and what was thrown.
const SAID_BYTES: usize = 6 << 10;
/// Where the kernel tells what the processor can do.
const PROCESSOR: &str = "/proc/cpuinfo";
/// What stands before the reason in what a package says.
const PREFIXES: [&str; 2] = ["Exception in aoti_torch: ", "Error: "];

#[expect(unsafe_code, reason = "tch has no name for packages")]
// SAFETY: aoti.cpp defines these with these types. Each writes at most `room` bytes of text, and nothing is thrown.
unsafe extern "C" {
    fn tenon_package_name(library: *const c_char, length: usize, text: *mut c_char, room: usize) -> i32;
    fn tenon_package_load(
        code: *const c_char,
        device: *const c_char,
        folder: *const c_char,
        lanes: usize,
        runner: *mut *mut c_void,
        text: *mut c_char,
        room: usize,
    ) -> i32;
    fn tenon_package_free(runner: *mut c_void);
    fn tenon_package_run(
        runner: *mut c_void,
        inputs: *const *const c_void,
        count: usize,
        outputs: *mut *mut c_void,
        most: usize,
        gave: *mut usize,
        text: *mut c_char,
        room: usize,
    ) -> i32;
}

/// An opened package. Once per model version and device; as many lanes as it was opened for run it at once.
pub(super) struct Package {
    runner: *mut c_void,
    /// What it reads when it is first run, until the last lane lets go: code for GPUs.
    _files: Option<Unpacked>,
}

#[expect(unsafe_code, reason = "a package is not bound to the thread that opened it")]
// SAFETY: libtorch's container gives each call code of its own, under its own locks, and waits while there is none.
unsafe impl Send for Package {}
#[expect(unsafe_code, reason = "lanes share a package")]
// SAFETY: as above; nothing else of it is written to after it has been opened.
unsafe impl Sync for Package {}

impl Package {
    /// Opens a package that is for this device, of which so many lanes run batches at once.
    pub(super) fn load(file: &Path, to: tch::Device, lanes: usize) -> Result<Self, BackendError> {
        let files = archive::unpack(file)?;
        let (kind, device) = match to {
            tch::Device::Cuda(index) => ("cuda", format!("cuda:{index}")),
            _ => ("cpu", "cpu".into()),
        };
        fits(files.tells(DEVICE_KEY), files.tells(PROCESSOR_KEY), kind)?;
        named()?;
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|error| BackendError::threw(error.to_string()));
        let paths = [files.code.as_path(), files.folder()].map(|path| text(path.as_os_str().as_bytes()));
        let [code, folder] = paths;
        let (code, folder, device) = (code?, folder?, text(device.as_bytes())?);
        let mut runner = ptr::null_mut();
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: three texts that end with 0, a pointer to be written to, and room for what is said.
        call(|text, room| unsafe {
            let (code, device, folder) = (code.as_ptr(), device.as_ptr(), folder.as_ptr());
            tenon_package_load(code, device, folder, lanes.max(1), &raw mut runner, text, room)
        })
        .map_err(may_not_run)?;
        Ok(Self { runner, _files: files.read(kind == "cuda") })
    }

    /// Computes outputs, in the order of the exported module's. What is given is read until the thread's stream has come as
    /// far.
    pub(super) fn run(&self, inputs: &[Tensor], most: usize) -> Result<Vec<Tensor>, BackendError> {
        let given: Vec<_> = inputs.iter().map(|input| input.as_ptr().cast::<c_void>()).collect();
        let mut made = vec![ptr::null_mut(); most];
        let mut gave = 0;
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: an opened package, as many tensors as are counted, which live, room for as many as are counted, a number to be
        // written to, and room for what is said.
        call(|text, room| unsafe {
            let (inputs, outputs) = (given.as_ptr(), made.as_mut_ptr());
            tenon_package_run(self.runner, inputs, given.len(), outputs, most, &raw mut gave, text, room)
        })?;
        #[expect(unsafe_code, reason = "tch takes over tensors of libtorch's")]
        // SAFETY: the shim made each with `new`, and nobody else has it.
        let outputs: Vec<_> = made.into_iter().take(gave).map(|it| unsafe { Tensor::from_ptr(it.cast()) }).collect();
        if gave > most {
            return Err(BackendError::threw(format!("the model gave {gave} outputs, its model.toml states {most}")));
        }
        Ok(outputs)
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: it came from `tenon_package_load` and is freed once.
        unsafe {
            tenon_package_free(self.runner);
        }
    }
}

/// Sees to it once that there is a `libtorch.so`.
fn named() -> Result<(), BackendError> {
    static DONE: OnceLock<Result<(), BackendError>> = OnceLock::new();
    let name = || {
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: as many bytes as are counted, and room for what is said.
        call(|text, room| unsafe { tenon_package_name(NAME.as_ptr().cast(), NAME.len(), text, room) })
    };
    DONE.get_or_init(name).clone()
}

/// Runs a call of the shim, and reads why it failed.
fn call(run: impl FnOnce(*mut c_char, usize) -> i32) -> Result<(), BackendError> {
    device::call_or::<SAID_BYTES>(run, |text| device::error(&reason(text)))
}

/// Why a package failed, of what it said, each part after its own fashion: what it says is the reason before what it only warns
/// of, and what was thrown is last and says least. All of it stays, for who looks for words.
fn reason(text: &str) -> String {
    let after = |line: &str| PREFIXES.iter().find_map(|prefix| Some(line.split_once(prefix)?.1.to_owned()));
    let reasons = text.lines().filter_map(after);
    let thrown = text.lines().last().filter(|line| after(line).is_none()).map(str::to_owned);
    reasons.chain(thrown).collect::<Vec<_>>().join("\n")
}

/// Says what helps where code may not be run from where it was unpacked.
fn may_not_run(error: BackendError) -> BackendError {
    if error.detail.contains("failed to map segment") {
        let folder = std::env::temp_dir();
        let detail = format!("{}: {} lets no code be run; TMPDIR names another folder", error.detail, folder.display());
        return BackendError { detail, ..error };
    }
    error
}

/// Whether what it was compiled for is here.
fn fits(compiled_for: &str, processor: &str, device: &str) -> Result<(), BackendError> {
    if compiled_for != device {
        let message = format!(
            "the package was compiled for `{compiled_for}`, and this model is to run on `{device}`: compile it there, or \
             state `instances.device`"
        );
        return Err(BackendError::threw(message));
    }
    let known = std::fs::read_to_string(PROCESSOR).unwrap_or_default();
    let known = known.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    match lacks(processor, known) {
        Some(lacking) => Err(BackendError::threw(format!(
            "the package was compiled for a processor with {processor}, and this one has no {lacking}: compile it here"
        ))),
        None => Ok(()),
    }
}

/// What this processor has none of, by the kernel's list of what it has. Words that the list never has say nothing.
fn lacks<'a>(compiled_for: &'a str, known: &str) -> Option<&'a str> {
    let flag = |word: &str| match word {
        "AVX512" => Some("avx512f".to_owned()),
        word if word.starts_with("AVX") || word.starts_with("AMX") => Some(word.to_lowercase()),
        _ => None,
    };
    let has = |flag: &String| known.split_whitespace().any(|known| known == flag);
    compiled_for.split_whitespace().find(|word| flag(word).is_some_and(|flag| !has(&flag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_for_another_device_or_processor_is_refused_in_words() {
        let said = |device: &str, processor: &str| fits(device, processor, "cpu").map_err(|error| error.detail);
        assert_eq!(said("cpu", ""), Ok(()));
        let other = said("cuda", "").unwrap_err();
        assert!(other.starts_with("the package was compiled for `cuda`, and this model is to run on `cpu`"), "{other}");
        assert!(said("", "").is_err(), "nothing tells what it is for");
        let newer = said("cpu", "AVX1024").unwrap_err();
        assert!(newer.ends_with("this one has no AVX1024: compile it here"), "{newer}");
    }

    #[test]
    fn what_a_processor_lacks_is_told_by_the_kernels_list() {
        let zen = "flags\t\t: fpu avx2 avx512f avx512_vnni";
        assert_eq!(lacks("AVX512 AVX512_VNNI", zen), None);
        assert_eq!(lacks("AVX512 AVX512_VNNI AMX_TILE", zen), Some("AMX_TILE"));
        assert_eq!(lacks("AVX512", "flags\t\t: fpu avx2"), Some("AVX512"));
        assert_eq!((lacks("AVX2", zen), lacks("", zen), lacks("asimd", zen)), (None, None, None));
    }

    #[test]
    fn the_reason_comes_first_and_warnings_do_not_count() {
        let text = "[W1127 x.cpp:1] out of memory is near\n[E1127 shim.cpp:7] Exception in aoti_torch: tenon-memory lane: 5 \
                    bytes\nError: f(x) API call failed\nrun_func_( API call failed at y.cpp, line 7";
        let lines = "tenon-memory lane: 5 bytes\nf(x) API call failed\nrun_func_( API call failed at y.cpp, line 7";
        assert_eq!(reason(text), lines);
        assert_eq!(reason("a warning\nError in dlopen: x.so: failed to map"), "Error in dlopen: x.so: failed to map");
    }
}
