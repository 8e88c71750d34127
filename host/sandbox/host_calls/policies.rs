//! `policies`: how an answer may be remembered. Linked so that plugins with a `caching` stage load; nothing remembers
//! answers yet, so the stage is not run and what a policy would say is not kept.

use std::sync::Arc;

use wasmtime::{Result, component::Resource};

use crate::{
    account::{Account, Charge, Kind},
    sandbox::{
        bindings::policies::{Host, HostCachePolicy},
        store::Guest,
    },
};

/// A policy. Empty until answers are remembered.
pub struct CachePolicy {
    _charge: Charge,
}

impl CachePolicy {
    /// Lets go of everything but the handle.
    pub(in crate::sandbox) fn clear(&mut self, account: &Arc<Account>) {
        self._charge = account.nothing(Kind::Handles);
    }
}

type This = Resource<CachePolicy>;

impl Guest {
    fn policy(&self, this: &This) -> Result<()> {
        self.table.get(this)?;
        Ok(())
    }
}

impl Host for Guest {}

impl HostCachePolicy for Guest {
    fn new(&mut self) -> Result<This> {
        let charge = self.limits.handle()?;
        Ok(self.table.push(CachePolicy { _charge: charge })?)
    }

    fn key(&mut self, this: This, _: Vec<u8>) -> Result<()> {
        self.policy(&this)
    }

    fn header(&mut self, this: This, _: String) -> Result<()> {
        self.policy(&this)
    }

    fn ttl_ms(&mut self, this: This, _: u64) -> Result<()> {
        self.policy(&this)
    }

    fn stale_while_revalidate_ms(&mut self, this: This, _: u64) -> Result<()> {
        self.policy(&this)
    }

    fn stale_if_error_ms(&mut self, this: This, _: u64) -> Result<()> {
        self.policy(&this)
    }

    fn negative_ttl_ms(&mut self, this: This, _: u64) -> Result<()> {
        self.policy(&this)
    }

    fn tag(&mut self, this: This, _: String) -> Result<()> {
        self.policy(&this)
    }

    fn compatibility_class(&mut self, this: This, _: String) -> Result<()> {
        self.policy(&this)
    }

    fn bypass(&mut self, this: This) -> Result<()> {
        self.policy(&this)
    }

    fn drop(&mut self, this: This) -> Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
