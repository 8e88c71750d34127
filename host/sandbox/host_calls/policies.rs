//! `policies`: how the answer to a request may be remembered. What a guest says is kept as it says it; what makes no sense
//! is noted, and is the plugin's breach of the contract once it hands the policy over.

use std::{sync::Arc, time::Duration};

use wasmtime::{Result, component::Resource};

use crate::{
    account::{Account, Charge, Kind},
    caching::{MAX_HEADERS, MAX_TAGS, Policy, check_header, check_name},
    sandbox::{
        bindings::policies::{Host, HostCachePolicy},
        store::Guest,
    },
};

/// What a name or a part of a key takes beside its bytes.
const PART_BYTES: u64 = 64;

/// A policy that the guest has not handed over yet.
pub struct CachePolicy {
    policy: Policy,
    wrong: Option<String>,
    handle: Charge,
}

impl CachePolicy {
    /// The policy, or the first thing in it that makes no sense.
    pub(in crate::sandbox) fn finish(self) -> std::result::Result<Policy, String> {
        match self.wrong {
            Some(wrong) => Err(format!("the cache policy: {wrong}")),
            None => Ok(self.policy),
        }
    }

    /// Lets go of everything but the handle.
    pub(in crate::sandbox) fn clear(&mut self, account: &Arc<Account>) {
        self.policy = Policy::default();
        self.handle = account.nothing(Kind::Handles);
    }

    fn refuse(&mut self, wrong: String) {
        self.wrong.get_or_insert(wrong);
    }

    fn tag(&mut self, name: String) -> std::result::Result<(), String> {
        check_name(&name)?;
        self.policy.tags.insert(name);
        if self.policy.tags.len() > MAX_TAGS { Err(format!("more than {MAX_TAGS} tags")) } else { Ok(()) }
    }

    fn header(&mut self, name: &str) -> std::result::Result<(), String> {
        check_header(name)?;
        self.policy.headers.insert(name.to_ascii_lowercase());
        if self.policy.headers.len() > MAX_HEADERS { Err(format!("more than {MAX_HEADERS} headers")) } else { Ok(()) }
    }

    fn class(&mut self, name: String) -> std::result::Result<(), String> {
        check_name(&name)?;
        self.policy.class = Some(name);
        Ok(())
    }
}

type This = Resource<CachePolicy>;

impl Guest {
    fn policy(&mut self, this: &This) -> Result<&mut CachePolicy> {
        Ok(self.table.get_mut(this)?)
    }

    /// Charges what the policy is about to keep.
    fn keep(&mut self, this: &This, bytes: usize) -> Result<&mut CachePolicy> {
        let policy = self.table.get_mut(this)?;
        self.limits.beside(&mut policy.handle, bytes as u64 + PART_BYTES)?;
        Ok(policy)
    }

    fn say(&mut self, this: &This, said: impl FnOnce(&mut Policy)) -> Result<()> {
        said(&mut self.policy(this)?.policy);
        Ok(())
    }
}

impl Host for Guest {}

impl HostCachePolicy for Guest {
    fn new(&mut self) -> Result<This> {
        let handle = self.limits.handle()?;
        Ok(self.table.push(CachePolicy { policy: Policy::default(), wrong: None, handle })?)
    }

    fn key(&mut self, this: This, material: Vec<u8>) -> Result<()> {
        let policy = &mut self.keep(&this, material.len())?.policy;
        policy.material.get_or_insert_default().push(material);
        Ok(())
    }

    fn header(&mut self, this: This, name: String) -> Result<()> {
        let policy = self.keep(&this, name.len())?;
        policy.header(&name).unwrap_or_else(|wrong| policy.refuse(wrong));
        Ok(())
    }

    fn ttl_ms(&mut self, this: This, ms: u64) -> Result<()> {
        self.say(&this, |policy| policy.ttl = Duration::from_millis(ms))
    }

    fn stale_while_revalidate_ms(&mut self, this: This, ms: u64) -> Result<()> {
        self.say(&this, |policy| policy.stale_while_revalidate = Duration::from_millis(ms))
    }

    fn stale_if_error_ms(&mut self, this: This, ms: u64) -> Result<()> {
        self.say(&this, |policy| policy.stale_if_error = Duration::from_millis(ms))
    }

    fn negative_ttl_ms(&mut self, this: This, ms: u64) -> Result<()> {
        self.say(&this, |policy| policy.negative_ttl = Duration::from_millis(ms))
    }

    fn tag(&mut self, this: This, name: String) -> Result<()> {
        let policy = self.keep(&this, name.len())?;
        policy.tag(name).unwrap_or_else(|wrong| policy.refuse(wrong));
        Ok(())
    }

    fn compatibility_class(&mut self, this: This, name: String) -> Result<()> {
        let policy = self.keep(&this, name.len())?;
        policy.class(name).unwrap_or_else(|wrong| policy.refuse(wrong));
        Ok(())
    }

    fn bypass(&mut self, this: This) -> Result<()> {
        self.say(&this, |policy| policy.bypass = true)
    }

    fn drop(&mut self, this: This) -> Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
