//! GPUs as libtorch sees them: whether there are any, their memory, streams, events, pinned memory.
//!
//! Owns every call into the shim's device half, and that what went wrong there comes back as an error. Refuses to know
//! models and batches. One program serves machines with and without a GPU: the half of libtorch that computes on CUDA is
//! loaded when a driver is there, and never linked.

use std::{
    ffi::{CStr, CString, c_char, c_void},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    ptr,
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tch::Tensor;

use super::memory;
use crate::engine::{BackendError, Precision};

/// Where a driver for NVIDIA's GPUs shows itself.
const DRIVER: [&str; 2] = ["/proc/driver/nvidia/version", "/dev/nvidiactl"];
/// The half of libtorch that computes on CUDA, beside the half that is linked.
const CUDA_HALF: &str = "libtorch_cuda.so";
const LINKED_HALF: &str = "libtorch_cpu.so";
/// What a message of libtorch's may take.
const SAID_BYTES: usize = 1024;
/// How often somebody looks whether a batch is done, and for how long before without letting go of the processor: short
/// batches are done sooner than a sleeping thread wakes.
const LOOK_EVERY: Duration = Duration::from_micros(20);
const SPIN: Duration = Duration::from_micros(50);

/// As the shim has it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Figures {
    pub(super) free: u64,
    pub(super) total: u64,
    pub(super) allocated: u64,
    pub(super) peak: u64,
}

/// As the shim has it: a stream by its name.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct StreamName {
    id: i64,
    device: i64,
}

#[expect(unsafe_code, reason = "tch has no name for streams, events and pinned memory")]
// SAFETY: the shim defines these with these types. Each writes at most `room` bytes of text, and nothing is thrown.
unsafe extern "C" {
    fn tenon_device_load(library: *const c_char, count: *mut i32, text: *mut c_char, room: usize) -> i32;
    fn tenon_device_tf32(allowed: bool, text: *mut c_char, room: usize) -> i32;
    fn tenon_device_figures(device: i32, figures: *mut Figures, text: *mut c_char, room: usize) -> i32;
    fn tenon_device_allocated(device: i32, bytes: *mut u64, text: *mut c_char, room: usize) -> i32;
    fn tenon_device_reset_peak(device: i32, text: *mut c_char, room: usize) -> i32;
    fn tenon_device_empty_cache(text: *mut c_char, room: usize) -> i32;
    fn tenon_stream_new(device: i32, name: *mut StreamName, text: *mut c_char, room: usize) -> i32;
    fn tenon_stream_enter(name: StreamName, before: *mut StreamName, text: *mut c_char, room: usize) -> i32;
    fn tenon_event_new(event: *mut *mut c_void, text: *mut c_char, room: usize) -> i32;
    fn tenon_event_free(event: *mut c_void);
    fn tenon_event_record(event: *mut c_void, name: StreamName, text: *mut c_char, room: usize) -> i32;
    fn tenon_event_query(event: *mut c_void, done: *mut bool, text: *mut c_char, room: usize) -> i32;
    fn tenon_event_elapsed(from: *mut c_void, to: *mut c_void, ms: *mut f64, text: *mut c_char, room: usize) -> i32;
    fn tenon_pinned(bytes: i64, tensor: *mut *mut c_void, text: *mut c_char, room: usize) -> i32;
    fn tenon_copy(to: *mut c_void, from: *const c_void, text: *mut c_char, room: usize) -> i32;
}

/// Runs a call of the shim, and reads what it said where it failed.
pub(super) fn call(run: impl FnOnce(*mut c_char, usize) -> i32) -> Result<(), BackendError> {
    call_or::<SAID_BYTES>(run, error)
}

/// The same, where so much may be said, which is to be understood otherwise.
pub(super) fn call_or<const ROOM: usize>(
    run: impl FnOnce(*mut c_char, usize) -> i32,
    understood: impl FnOnce(&str) -> BackendError,
) -> Result<(), BackendError> {
    let mut said = [0_u8; ROOM];
    if run(said.as_mut_ptr().cast(), ROOM) == 0 {
        return Ok(());
    }
    let text = CStr::from_bytes_until_nul(&said).map(CStr::to_string_lossy).unwrap_or_default();
    Err(understood(&text))
}

/// What a text of libtorch's tells: of memory, or of something else. Whether a device is lost it does not tell.
pub(super) fn error(text: &str) -> BackendError {
    memory::out_of_memory(text).unwrap_or_else(|| BackendError::one_line(text))
}

/// Loads the other half of libtorch where there is a driver, and tells how many GPUs there are; none is no error.
pub(super) fn load() -> Result<u32, String> {
    if !DRIVER.iter().any(|file| Path::new(file).exists()) {
        return Ok(0);
    }
    let library = linked_half().ok_or("where libtorch lies cannot be told")?.with_file_name(CUDA_HALF);
    let name = CString::new(library.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    let mut count = 0;
    #[expect(unsafe_code, reason = "the shim's calls")]
    // SAFETY: a text that ends with 0, a number to be written to, and room for what is said.
    let loaded = call(|text, room| unsafe { tenon_device_load(name.as_ptr(), &raw mut count, text, room) });
    loaded.map_err(|error| format!("{}: {}", library.display(), error.detail))?;
    // It compiles kernels for each new shape while callers wait: seen to take 180 ms.
    tch::jit::f_set_tensor_expr_fuser_enabled(false).map_err(|error| error.to_string())?;
    u32::try_from(count).map_err(|error| error.to_string())
}

/// The file of the half that is linked, as the loader has found it.
fn linked_half() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let files = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    files.into_iter().find(|file| file.ends_with(LINKED_HALF)).map(Path::to_owned)
}

/// What a device's memory holds.
pub(super) fn figures(device: u32) -> Result<Figures, BackendError> {
    let mut figures = Figures::default();
    #[expect(unsafe_code, reason = "the shim's calls")]
    // SAFETY: figures to be written to, and room for what is said.
    call(|text, room| unsafe { tenon_device_figures(device as i32, &raw mut figures, text, room) })?;
    Ok(figures)
}

/// What of a device's memory is in tensors.
pub(super) fn allocated(device: u32) -> Result<u64, BackendError> {
    let mut bytes = 0;
    #[expect(unsafe_code, reason = "the shim's calls")]
    // SAFETY: a number to be written to, and room for what is said.
    call(|text, room| unsafe { tenon_device_allocated(device as i32, &raw mut bytes, text, room) })?;
    Ok(bytes)
}

/// From now on the peak is what is held now.
pub(super) fn reset_peak(device: u32) -> Result<(), BackendError> {
    #[expect(unsafe_code, reason = "the shim's calls")]
    // SAFETY: room for what is said.
    call(|text, room| unsafe { tenon_device_reset_peak(device as i32, text, room) })
}

/// Gives back what libtorch only keeps.
pub(super) fn empty_cache() -> Result<(), BackendError> {
    #[expect(unsafe_code, reason = "the shim's calls")]
    // SAFETY: room for what is said.
    call(|text, room| unsafe { tenon_device_empty_cache(text, room) })
}

/// Whether a device still does what it is given.
pub(super) fn answers(device: u32) -> Result<(), BackendError> {
    let (stream, mark) = (Stream::new(device)?, Event::new()?);
    mark.record(stream)?;
    mark.wait()
}

/// What a lane gives to its GPU, in order. Streams live as long as the process; libtorch has no way to end one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream(StreamName);

impl Stream {
    pub(super) fn new(device: u32) -> Result<Self, BackendError> {
        let mut name = StreamName::default();
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: a name to be written to, and room for what is said.
        call(|text, room| unsafe { tenon_stream_new(device as i32, &raw mut name, text, room) })?;
        Ok(Self(name))
    }

    /// What this thread computes goes there, until what comes back is dropped.
    pub(super) fn enter(self) -> Result<OnStream, BackendError> {
        let mut before = StreamName::default();
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: a name that libtorch gave, one to be written to, and room for what is said.
        call(|text, room| unsafe { tenon_stream_enter(self.0, &raw mut before, text, room) })?;
        Ok(OnStream(before))
    }
}

/// While it lives, a thread computes on a stream; then on the one before.
#[must_use = "dropping it ends it"]
pub(super) struct OnStream(StreamName);

impl Drop for OnStream {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: a name that libtorch gave; nothing is to be written, and there is room for what is said.
        let left = call(|text, room| unsafe { tenon_stream_enter(self.0, ptr::null_mut(), text, room) });
        if let Err(error) = left {
            tracing::error!(%error, "a stream could not be left");
        }
    }
}

/// A mark in a stream, used again and again by its lane.
#[derive(Debug)]
pub(super) struct Event(*mut c_void);

#[expect(unsafe_code, reason = "an event is not bound to the thread that made it")]
// SAFETY: CUDA's events may be used by any thread; c10's holds nothing else but numbers, and is not shared (no `Sync`).
unsafe impl Send for Event {}

impl Event {
    pub(super) fn new() -> Result<Self, BackendError> {
        let mut event = ptr::null_mut();
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: a pointer to be written to, and room for what is said.
        call(|text, room| unsafe { tenon_event_new(&raw mut event, text, room) })?;
        Ok(Self(event))
    }

    /// Marks the end of what the stream was given.
    pub(super) fn record(&self, stream: Stream) -> Result<(), BackendError> {
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: an event that lives as long as this, a name that libtorch gave, and room for what is said.
        call(|text, room| unsafe { tenon_event_record(self.0, stream.0, text, room) })
    }

    /// Waits until the stream has come as far, without keeping the processor.
    pub(super) fn wait(&self) -> Result<(), BackendError> {
        let begun = Instant::now();
        while !self.is_done()? {
            if begun.elapsed() < SPIN {
                std::hint::spin_loop();
            } else {
                pause();
            }
        }
        Ok(())
    }

    /// How long after this one the other came, which may be less than nothing; both are done.
    pub(super) fn seconds_to(&self, other: &Self) -> Result<f64, BackendError> {
        let mut milliseconds = 0.0;
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: two events that live as long as these, a number to be written to, and room for what is said.
        call(|text, room| unsafe { tenon_event_elapsed(self.0, other.0, &raw mut milliseconds, text, room) })?;
        Ok(milliseconds / 1000.0)
    }

    fn is_done(&self) -> Result<bool, BackendError> {
        let mut done = false;
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: an event that lives as long as this, a truth to be written to, and room for what is said.
        call(|text, room| unsafe { tenon_event_query(self.0, &raw mut done, text, room) })?;
        Ok(done)
    }
}

/// libtorch's device-generic half tells of an event only when it is asked.
#[expect(
    clippy::disallowed_methods,
    reason = "a lane's own thread waits for its device, and there is nothing else to wait on"
)]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

impl Drop for Event {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: it came from `tenon_event_new` and is freed once.
        unsafe {
            tenon_event_free(self.0);
        }
    }
}

/// So many bytes that a GPU copies from and to by itself.
pub(super) fn pinned(bytes: usize) -> Result<Tensor, BackendError> {
    let mut tensor = ptr::null_mut();
    #[expect(unsafe_code, reason = "the shim's calls")]
    // SAFETY: a pointer to be written to, and room for what is said.
    call(|text, room| unsafe { tenon_pinned(bytes as i64, &raw mut tensor, text, room) })?;
    #[expect(unsafe_code, reason = "tch takes over a tensor of libtorch's")]
    // SAFETY: the shim made it with `new`, and nobody else has it.
    Ok(unsafe { Tensor::from_ptr(tensor.cast()) })
}

/// Copies behind what the thread's stream has to do, and returns before that has happened.
pub(super) fn copy(to: &mut Tensor, from: &Tensor) -> Result<(), BackendError> {
    let (to, from) = (to.as_mut_ptr().cast(), from.as_ptr().cast());
    #[expect(unsafe_code, reason = "the shim's calls")]
    // SAFETY: two tensors that live, of which one is borrowed mutably, and room for what is said. Whoever asks keeps both
    // until the stream has come as far.
    call(|text, room| unsafe { tenon_copy(to, from, text, room) })
}

/// Whether work that is submitted now may be rounded to TF32, and how many lanes are submitting. libtorch has one switch for
/// the whole process, so who wants the one waits for those who want the other: for as long as a batch is handed over, not
/// for as long as it computes. Where all models are alike nobody waits.
static ROUNDING: Rounding =
    Rounding { state: Mutex::new(Switch { rounds: None, lanes: 0, waiting: [0; 2] }), changed: Condvar::new() };

struct Rounding {
    state: Mutex<Switch>,
    changed: Condvar,
}

struct Switch {
    /// How it stands.
    rounds: Option<bool>,
    /// Lanes that hand work over.
    lanes: usize,
    /// Lanes that wait to do so, exactly and rounded.
    waiting: [usize; 2],
}

impl Switch {
    /// Whether a lane must wait: while the switch stands otherwise for others, and while others wait for it to be turned, or
    /// they would wait for ever.
    fn keeps_out(&self, rounds: bool) -> bool {
        match self.rounds {
            Some(now) if now == rounds => self.waiting[usize::from(!rounds)] > 0,
            Some(_) => self.lanes > 0,
            None => false,
        }
    }
}

/// What is handed over is computed so exactly, until what comes back is dropped.
pub(super) fn exactly(precision: Precision) -> Result<Exactly, BackendError> {
    let rounds = precision == Precision::Tf32;
    let mut state = ROUNDING.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.waiting[usize::from(rounds)] += 1;
    let keeps_out = |state: &mut Switch| state.keeps_out(rounds);
    let mut state = ROUNDING.changed.wait_while(state, keeps_out).unwrap_or_else(PoisonError::into_inner);
    state.waiting[usize::from(rounds)] -= 1;
    // Whoever waited for this one to have its turn.
    ROUNDING.changed.notify_all();
    if state.rounds != Some(rounds) {
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: room for what is said.
        call(|text, room| unsafe { tenon_device_tf32(rounds, text, room) })?;
        state.rounds = Some(rounds);
    }
    state.lanes += 1;
    Ok(Exactly(()))
}

/// While it lives, nobody hands work over that is to be computed otherwise.
#[must_use = "dropping it ends it"]
pub(super) struct Exactly(());

impl Drop for Exactly {
    fn drop(&mut self) {
        ROUNDING.state.lock().unwrap_or_else(PoisonError::into_inner).lanes -= 1;
        ROUNDING.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Cause, Short};

    #[test]
    fn an_error_of_a_device_is_memory_or_just_an_error() {
        let short = error("CUDA out of memory. Tried to allocate 98.00 MiB. GPU 0 has a total capacity of 79.18 GiB");
        assert_eq!(short.short(), Some(Short::Device));
        let assert =
            error("CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in https://docs.nvidia.com");
        assert_eq!((assert.cause, &assert.detail[..]), (Cause::Threw, "CUDA error: device-side assert triggered"));
        assert_eq!(error("mat1 and mat2 shapes cannot be multiplied").cause, Cause::Threw);
        let handle = error("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`");
        assert_eq!(handle.short(), Some(Short::Device));
    }

    #[test]
    fn who_computes_exactly_and_who_rounds_take_turns() {
        let switch = |rounds, lanes, waiting| Switch { rounds, lanes, waiting };
        let kept_out = |switch: &Switch| [false, true].map(|rounds| switch.keeps_out(rounds));
        assert_eq!(kept_out(&switch(None, 0, [1, 1])), [false, false]);
        assert_eq!(kept_out(&switch(Some(false), 2, [1, 0])), [false, true]);
        assert_eq!(kept_out(&switch(Some(false), 2, [0, 1])), [true, true], "nobody new while others wait");
        assert_eq!(kept_out(&switch(Some(false), 0, [1, 1])), [true, false], "and then it is their turn");
    }

    #[test]
    fn where_libtorch_lies_is_read_off_the_kernels_list() {
        assert!(linked_half().is_some_and(|file| file.is_absolute() && file.exists()));
    }

    #[test]
    fn without_a_driver_there_is_no_gpu_and_no_error() {
        if !DRIVER.iter().any(|file| Path::new(file).exists()) {
            assert_eq!(load(), Ok(0));
        }
    }
}
