//! Accounts of libtorch's memory: whose each block is, how much there may be of it, and how an error says that it was
//! too much.
//!
//! Owns the counting and, with `shim.cpp`, its place below every tensor. Refuses to know batches and policy. A block
//! goes back to the account that it was taken from, whichever thread frees it. What oneDNN and OpenMP take for
//! themselves (packed weights, scratch) does not come through c10's allocator and is not counted.

use std::{
    cell::RefCell,
    sync::{
        Arc, LazyLock, Once,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
};

use crate::engine::{BackendError, Short};

/// What the shim begins its message with.
const MARK: &str = "tenon-memory ";
/// How libtorch itself says it; on CUDA the allocator is its own.
const OWN_WORDS: [&str; 5] =
    ["out of memory", "not enough memory", "can't allocate memory", "std::bad_alloc", "STATUS_ALLOC_FAILED"];

/// Bytes of a lane, of a kind, or of a device; charged upwards.
#[derive(Debug)]
pub(super) struct Account {
    parent: Option<Arc<Self>>,
    short: Short,
    held: AtomicU64,
    peak: AtomicU64,
    limit: AtomicU64,
}

/// Why there was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Over {
    short: Short,
    held: u64,
    limit: u64,
}

thread_local! {
    /// On whose account this thread allocates; nobody's is `OTHER`'s.
    static CURRENT: RefCell<Option<Arc<Account>>> = const { RefCell::new(None) };
}

/// Tensors that no model and no lane asked for: none in a host, the tests' own in tests.
static OTHER: LazyLock<Arc<Account>> = LazyLock::new(|| Account::new(None, Short::Device));

impl Account {
    fn new(parent: Option<Arc<Self>>, short: Short) -> Arc<Self> {
        let (held, peak, limit) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Arc::new(Self { parent, short, held, peak, limit })
    }

    /// Of a device, without a limit at first.
    pub(super) fn device() -> Arc<Self> {
        Self::new(None, Short::Device)
    }

    /// Of a kind of use, or of a model's weights.
    pub(super) fn part(self: &Arc<Self>) -> Arc<Self> {
        Self::new(Some(self.clone()), Short::Device)
    }

    /// Of a lane.
    pub(super) fn lane(self: &Arc<Self>) -> Arc<Self> {
        Self::new(Some(self.clone()), Short::Lane)
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Holds for what is taken from now on.
    pub(super) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Relaxed);
    }

    /// The most that was held since this was last asked.
    pub(super) fn take_peak(&self) -> u64 {
        self.peak.swap(self.held(), AcqRel)
    }

    fn charge(&self, bytes: u64) -> Result<(), Over> {
        let limit = self.limit();
        let fits = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= limit);
        let before = self.held.fetch_update(AcqRel, Relaxed, fits);
        let before = before.map_err(|held| Over { short: self.short, held, limit })?;
        if let Some(parent) = &self.parent {
            parent.charge(bytes).inspect_err(|_| {
                self.held.fetch_sub(bytes, AcqRel);
            })?;
        }
        self.peak.fetch_max(before + bytes, AcqRel);
        Ok(())
    }

    fn discharge(&self, bytes: u64) {
        self.held.fetch_sub(bytes, AcqRel);
        if let Some(parent) = &self.parent {
            parent.discharge(bytes);
        }
    }

    /// Charges what libtorch's allocator does not see.
    pub(super) fn hold(self: &Arc<Self>, bytes: u64) -> Result<Held, BackendError> {
        let refused = |Over { short, held, limit }| {
            let figures = format!("{bytes} bytes more are wanted, and {held} of {limit} are in use");
            BackendError::out_of_memory(short, format!("out of memory of the device: {figures}"))
        };
        self.charge(bytes).map_err(refused)?;
        Ok(Held { account: self.clone(), bytes })
    }

    /// From now on this thread allocates on this account, until what comes back is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Entered {
        Entered(CURRENT.replace(Some(self.clone())))
    }
}

/// Bytes that are charged to an account without libtorch's allocator, for as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.discharge(self.bytes);
    }
}

/// While it lives, a thread allocates on an account; then on the one before.
#[must_use = "dropping it ends it"]
pub(super) struct Entered(Option<Arc<Account>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// What is held outside of every device's account.
pub(super) fn other_bytes() -> u64 {
    OTHER.held()
}

/// The error that a text of libtorch's tells of, if it is one of memory.
pub(super) fn out_of_memory(text: &str) -> Option<BackendError> {
    if let Some((_, told)) = text.split_once(MARK) {
        let told = told.lines().next().unwrap_or_default();
        let (who, figures) = told.split_once(": ").unwrap_or(("device", told));
        let short = if who == "lane" { Short::Lane } else { Short::Device };
        return Some(BackendError::out_of_memory(short, format!("out of memory of the {who}: {figures}")));
    }
    let own = OWN_WORDS.iter().any(|words| text.contains(words));
    own.then(|| BackendError::out_of_memory(Short::Device, BackendError::one_line(text).detail))
}

/// As the shim has it.
#[repr(C)]
struct Refusal {
    held: u64,
    limit: u64,
    by_device: u32,
}

type Charge = extern "C" fn(bytes: usize, refusal: &mut Refusal) -> *const Account;
type Discharge = unsafe extern "C" fn(account: *const Account, bytes: usize);

#[expect(unsafe_code, reason = "the allocator of libtorch is a C++ object")]
// SAFETY: the shim defines it with these types. It may be called at any time: blocks that were allocated before keep
// the deleter that they came with.
unsafe extern "C" {
    safe fn tenon_memory_install(charge: Charge, discharge: Discharge);
}

/// Puts the accounts below libtorch's tensors; once is enough for a process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tenon_memory_install(charge_current, discharge));
}

/// Charges the thread's account; null, with the figures, if there is no room.
extern "C" fn charge_current(bytes: usize, refusal: &mut Refusal) -> *const Account {
    // A thread that is ending has no account of its own any more.
    let current = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
    let account = current.unwrap_or_else(|| OTHER.clone());
    match account.charge(bytes as u64) {
        Ok(()) => Arc::into_raw(account),
        Err(Over { short, held, limit }) => {
            *refusal = Refusal { held, limit, by_device: u32::from(short == Short::Device) };
            std::ptr::null()
        }
    }
}

/// Gives a block's bytes back to the account that it came from.
#[expect(unsafe_code, reason = "a block's header keeps its account alive as a raw pointer")]
unsafe extern "C" fn discharge(account: *const Account, bytes: usize) {
    // SAFETY: the shim calls it once for each pointer that `charge_current` gave it, with that pointer.
    let account = unsafe { Arc::from_raw(account) };
    account.discharge(bytes as u64);
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::*;

    fn kibibytes(count: i64) -> Result<Tensor, tch::TchError> {
        Tensor::f_empty([count << 10], (Kind::Uint8, tch::Device::Cpu))
    }

    #[test]
    fn a_tensor_is_its_accounts_and_what_fits_nowhere_is_charged_nowhere() {
        install();
        let device = Account::device();
        let (weights, lane) = (device.part(), device.part().lane());
        let held = || [device.held(), weights.held(), lane.held()].map(|bytes| bytes >> 10);
        device.set_limit(100 << 10);
        lane.set_limit(50 << 10);
        let loaded = {
            let _entered = weights.enter();
            kibibytes(40).unwrap()
        };
        let entered = lane.enter();
        let stacked = kibibytes(30).unwrap();
        assert_eq!(held(), [70, 40, 30]);
        let said = kibibytes(21).unwrap_err().to_string();
        let error = out_of_memory(&said).unwrap();
        assert_eq!(error.short(), Some(Short::Lane));
        let wanted = "out of memory of the lane: 21504 bytes more are wanted, and 30720 of 51200 are in use";
        assert_eq!(error.detail, wanted, "{said}");
        device.set_limit(80 << 10);
        let error = out_of_memory(&kibibytes(20).unwrap_err().to_string()).unwrap();
        assert_eq!(error.short(), Some(Short::Device), "{error}");
        assert_eq!(held(), [70, 40, 30]);
        assert_eq!(lane.take_peak() >> 10, 30);
        drop(entered);
        // On another thread, after its account was left: it still goes where it came from.
        std::thread::spawn(|| drop(stacked)).join().unwrap();
        assert_eq!((held(), lane.take_peak() >> 10, lane.take_peak()), ([40, 40, 0], 30, 0));
        drop(loaded);
        assert_eq!((held(), Arc::strong_count(&weights)), ([0, 0, 0], 1));
    }

    #[test]
    fn what_is_computed_and_grows_is_counted_and_aligned() {
        install();
        let lane = Account::device().lane();
        let _entered = lane.enter();
        let ones = Tensor::ones([300, 300], (Kind::Float, tch::Device::Cpu));
        let product = ones.matmul(&ones);
        assert_eq!((product.data_ptr() as usize % 64, product.double_value(&[299, 299])), (0, 300.0));
        assert_eq!(lane.held(), 2 * 4 * 300 * 300);
        let mut grown = Tensor::ones([10], (Kind::Uint8, tch::Device::Cpu));
        let _ = grown.resize_([1 << 20]);
        assert!(lane.held() >= 1 << 20 && (grown.data_ptr() as usize).is_multiple_of(64));
        drop((ones, product, grown));
        assert_eq!(lane.held(), 0);
        assert_eq!(Tensor::ones([0], (Kind::Float, tch::Device::Cpu)).numel(), 0);
    }

    #[test]
    fn libtorchs_own_words_are_understood() {
        let cuda = "CUDA out of memory. Tried to allocate 2.00 GiB.\nException raised from malloc";
        assert_eq!(out_of_memory(cuda).unwrap().detail, "CUDA out of memory. Tried to allocate 2.00 GiB.");
        let cpu = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried";
        assert_eq!(out_of_memory(cpu).unwrap().short(), Some(Short::Device));
        assert_eq!(out_of_memory("index out of range in self"), None);
    }
}
