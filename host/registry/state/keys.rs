//! How keys come and go. Expired ones leave with the next change to a key of the same owner, by that record's clock:
//! the fold has no clock of its own.

use std::sync::Arc;

use super::{KeyRecord, Refused, State, bounds};

impl State {
    pub(super) fn add_key(&mut self, key: &KeyRecord, at_ms: u64) -> Result<(), Refused> {
        let stays = |other: &KeyRecord| other.tenant == key.tenant && !other.expired(at_ms);
        self.check_room(key, self.keys.values().filter(|other| stays(other)).count())?;
        self.drop_expired(key.tenant.as_deref(), at_ms);
        self.keys.insert(key.id.clone(), Arc::new(key.clone()));
        Ok(())
    }

    pub(super) fn revoke_key(&mut self, id: &str, at_ms: u64) -> Result<(), Refused> {
        let owner = self.key(id)?.tenant.clone();
        self.keys.remove(id);
        self.drop_expired(owner.as_deref(), at_ms);
        Ok(())
    }

    pub(super) fn rotate_key(
        &mut self,
        old: &str,
        old_expires_ms: u64,
        key: &KeyRecord,
        at_ms: u64,
    ) -> Result<(), Refused> {
        let before = self.key(old)?;
        if before.tenant != key.tenant {
            return Err(Refused::invalid("the new key must belong to the old one's owner"));
        }
        let ending = before.replaced(old_expires_ms);
        let stays = |other: &KeyRecord| other.tenant == key.tenant && other.id != old && !other.expired(at_ms);
        let others = self.keys.values().filter(|other| stays(other)).count();
        self.check_room(key, others + usize::from(!ending.expired(at_ms)))?;
        self.keys.insert(old.to_owned(), Arc::new(ending));
        self.drop_expired(key.tenant.as_deref(), at_ms);
        self.keys.insert(key.id.clone(), Arc::new(key.clone()));
        Ok(())
    }

    fn key(&self, id: &str) -> Result<&KeyRecord, Refused> {
        self.keys.get(id).map(|key| &**key).ok_or_else(|| Refused::not_found(format!("there is no key `{id}`")))
    }

    /// Whether a new key fits beside as many of the same owner's.
    fn check_room(&self, key: &KeyRecord, others: usize) -> Result<(), Refused> {
        if self.keys.contains_key(&key.id) {
            return Err(Refused::conflict(format!("there is a key `{}` already", key.id)));
        }
        if others >= bounds::KEYS_PER_TENANT {
            return Err(Refused::quota(format!("{} keys are the most: revoke one first", bounds::KEYS_PER_TENANT)));
        }
        if self.keys.len() >= bounds::KEYS {
            return Err(Refused::quota("the registry holds as many keys as it can"));
        }
        Ok(())
    }

    fn drop_expired(&mut self, owner: Option<&str>, at_ms: u64) {
        self.keys.retain(|_, key| key.tenant.as_deref() != owner || !key.expired(at_ms));
    }
}
