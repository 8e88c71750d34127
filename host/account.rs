//! Accounts: what an invocation, its tenant and the host hold in bytes and have used in CPU and device time.
//!
//! Owns the counting and the limits; refuses to know what the bytes are for. A charge is made *before* the bytes are
//! allocated and gives them back when it is dropped, so nothing can be held that no account shows.

mod bytes;
mod places;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

pub use bytes::ChargedBytes;
pub use places::{Place, Places};

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// One run of a function.
    Invocation,
    /// All invocations of a tenant.
    Tenant,
    /// The whole process.
    Host,
}

/// What bytes are held for, as `tenon_host_memory_bytes` tells it. Only told: limits know no kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Linear memory and tables of guests.
    Guest,
    /// Heads and bodies of requests.
    Request,
    /// Tensors that guests made.
    Tensors,
    /// What guests gave to the tokenizer, what it works with, and what it gave.
    Text,
    /// Pixels, and what decoders, filters and encoders work with.
    Images,
    /// What models gave.
    Outputs,
    /// Answers and refusals, until they are sent.
    Response,
    /// Guests' handles, and what lies behind them beside bytes of the kinds above.
    Handles,
    /// Lines of guests' logs that have no end yet.
    Log,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Guest,
        Self::Request,
        Self::Tensors,
        Self::Text,
        Self::Images,
        Self::Outputs,
        Self::Response,
        Self::Handles,
        Self::Log,
    ];

    /// The name as a label's value.
    pub fn name(self) -> &'static str {
        ["guest", "request", "tensors", "text", "images", "outputs", "response", "handles", "log"][self as usize]
    }
}

/// One holder's account; charges go up the chain of parents.
#[derive(Debug)]
pub struct Account {
    holder: Holder,
    parent: Option<Arc<Account>>,
    limit_bytes: AtomicU64,
    held_bytes: AtomicU64,
    /// Counted where the chain ends: at the host.
    held_by_kind: [AtomicU64; Kind::ALL.len()],
    cpu_guest_ns: AtomicU64,
    cpu_host_call_ns: AtomicU64,
    device_ns: AtomicU64,
}

/// A charge that did not fit.
#[derive(Debug, thiserror::Error)]
#[error("{wanted} bytes more would exceed the {limit} bytes that the {} may hold", match holder { Holder::Invocation => "invocation", Holder::Tenant => "tenant", Holder::Host => "host" })]
pub struct OverLimit {
    /// Whose limit.
    pub holder: Holder,
    /// The limit in bytes.
    pub limit: u64,
    /// What was asked for, in bytes.
    pub wanted: u64,
}

/// What kind of processor time was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// Guest code.
    Guest,
    /// Work that the host did for a guest's call.
    HostCall,
    /// Time on a model's instance.
    Device,
}

impl Account {
    /// The process's account.
    pub fn host(limit_bytes: u64) -> Arc<Self> {
        Self::make(Holder::Host, None, limit_bytes)
    }

    /// An account below this one.
    pub fn child(self: &Arc<Self>, holder: Holder, limit_bytes: u64) -> Arc<Self> {
        Self::make(holder, Some(self.clone()), limit_bytes)
    }

    fn make(holder: Holder, parent: Option<Arc<Self>>, limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            holder,
            parent,
            limit_bytes: AtomicU64::new(limit_bytes),
            held_bytes: AtomicU64::new(0),
            held_by_kind: Default::default(),
            cpu_guest_ns: AtomicU64::new(0),
            cpu_host_call_ns: AtomicU64::new(0),
            device_ns: AtomicU64::new(0),
        })
    }

    /// Charges `bytes` to this account and all above it, or to none.
    pub fn charge(self: &Arc<Self>, kind: Kind, bytes: u64) -> Result<Charge, OverLimit> {
        self.add(kind, bytes)?;
        Ok(Charge { account: self.clone(), kind, bytes })
    }

    /// A charge of no bytes, which always fits.
    pub fn nothing(self: &Arc<Self>, kind: Kind) -> Charge {
        Charge { account: self.clone(), kind, bytes: 0 }
    }

    fn add(&self, kind: Kind, wanted: u64) -> Result<(), OverLimit> {
        let limit = self.limit_bytes();
        let fits = |held: u64| held.checked_add(wanted).filter(|sum| *sum <= limit);
        if self.held_bytes.try_update(Relaxed, Relaxed, fits).is_err() {
            return Err(OverLimit { holder: self.holder, limit, wanted });
        }
        match &self.parent {
            Some(parent) => parent.add(kind, wanted).inspect_err(|_| {
                self.held_bytes.fetch_sub(wanted, Relaxed);
            })?,
            None => drop(self.held_by_kind[kind as usize].fetch_add(wanted, Relaxed)),
        }
        Ok(())
    }

    fn give_back(&self, kind: Kind, bytes: u64) {
        self.held_bytes.fetch_sub(bytes, Relaxed);
        match &self.parent {
            Some(parent) => parent.give_back(kind, bytes),
            None => drop(self.held_by_kind[kind as usize].fetch_sub(bytes, Relaxed)),
        }
    }

    /// Adds time used, here and above.
    pub fn spend(&self, used: Used, time: Duration) {
        self.counter(used).fetch_add(time.as_nanos() as u64, Relaxed);
        if let Some(parent) = &self.parent {
            parent.spend(used, time);
        }
    }

    /// Time used so far.
    pub fn spent(&self, used: Used) -> Duration {
        Duration::from_nanos(self.counter(used).load(Relaxed))
    }

    fn counter(&self, used: Used) -> &AtomicU64 {
        match used {
            Used::Guest => &self.cpu_guest_ns,
            Used::HostCall => &self.cpu_host_call_ns,
            Used::Device => &self.device_ns,
        }
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Relaxed)
    }

    /// Bytes of one kind held now by the whole process; asked of the host's account, 0 of any other.
    pub fn held_by_kind(&self, kind: Kind) -> u64 {
        self.held_by_kind[kind as usize].load(Relaxed)
    }

    /// The limit in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes.load(Relaxed)
    }

    /// Another limit from now on; what is held stays held.
    pub fn set_limit(&self, bytes: u64) {
        self.limit_bytes.store(bytes, Relaxed);
    }
}

/// Bytes that an account holds until this is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    kind: Kind,
    bytes: u64,
}

impl Charge {
    /// Makes the charge `bytes` larger, or leaves it as it is.
    pub fn grow(&mut self, bytes: u64) -> Result<(), OverLimit> {
        self.account.add(self.kind, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives `bytes` of it back; at most all.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.account.give_back(self.kind, bytes);
        self.bytes -= bytes;
    }

    /// The bytes charged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.give_back(self.kind, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_counts_everywhere_or_nowhere_and_comes_back() {
        let host = Account::host(100);
        let tenant = host.child(Holder::Tenant, 80);
        let invocation = tenant.child(Holder::Invocation, 200);
        let mut first = invocation.charge(Kind::Guest, 50).unwrap();
        assert_eq!(invocation.charge(Kind::Guest, 40).unwrap_err().holder, Holder::Tenant);
        assert_eq!((invocation.held_bytes(), tenant.held_bytes(), host.held_bytes()), (50, 50, 50));
        first.grow(30).unwrap();
        assert!(first.grow(u64::MAX).is_err());
        let neighbour = host.child(Holder::Tenant, 80);
        assert_eq!(neighbour.charge(Kind::Log, 21).unwrap_err().holder, Holder::Host);
        assert_eq!((host.held_by_kind(Kind::Guest), host.held_by_kind(Kind::Log)), (80, 0));
        first.shrink(30);
        let second = neighbour.charge(Kind::Log, 21).unwrap();
        assert_eq!((host.held_by_kind(Kind::Guest), host.held_by_kind(Kind::Log), host.held_bytes()), (50, 21, 71));
        drop(second);
        first.shrink(u64::MAX);
        drop(first);
        assert!(Kind::ALL.iter().all(|kind| host.held_by_kind(*kind) == 0));
        assert_eq!((invocation.held_bytes(), tenant.held_bytes(), host.held_bytes()), (0, 0, 0));
    }
}
