//! Making a change: decided on the state, checked by the fold, created as the next record, and decided anew when
//! another host was quicker. Owns when a change is acknowledged; refuses to know what is changed.

use std::{sync::Arc, time::Duration};

use super::{
    Registry,
    change::{Author, BlobRef, Change, Record},
    error::{ChangeError, Refused, RegistryError},
    log, now_ms, snapshot,
    split::Split,
    state::{FunctionState, State},
    store::Creation,
};

/// Other hosts may be quicker this often in a row.
const ATTEMPTS: u32 = 32;
/// The pause after the first lost attempt; it doubles up to the longest, and each is drawn between half and all of it.
const PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(256);

/// A revision to add. Its blobs are put before.
#[derive(Clone, Debug)]
pub struct NewRevision {
    /// The tenant.
    pub tenant: String,
    /// The function.
    pub function: String,
    /// The manifest's text.
    pub manifest: BlobRef,
    /// The component.
    pub component: BlobRef,
    /// Names all it is made of: a kept revision with the same digest is the same revision.
    pub digest: String,
}

/// What became of a revision.
#[derive(Clone, Debug)]
pub struct Added {
    /// Its number.
    pub number: u64,
    /// Whether it was there before.
    pub existed: bool,
    /// How things stand with it.
    pub state: Arc<State>,
}

impl Registry {
    /// Makes the change that `decide` wants, as things stand when it is made: `decide` is asked again when another host
    /// changed something meanwhile. Once this returns the new state, the change is there for good.
    pub async fn change(
        &self,
        author: Author,
        mut decide: impl FnMut(&State) -> Result<Change, Refused> + Send,
    ) -> Result<Arc<State>, ChangeError> {
        self.change_if_any(author, move |state| decide(state).map(Some)).await
    }

    /// Adds a revision, unless a kept one is the same. `traffic` is asked where traffic should go, with the function as
    /// it stands, if it is there, and the revision's number; none leaves it where it goes.
    pub async fn add_revision(
        &self,
        author: Author,
        new: NewRevision,
        mut traffic: impl FnMut(Option<&FunctionState>, u64) -> Option<Split> + Send,
    ) -> Result<Added, ChangeError> {
        for blob in [&new.manifest, &new.component] {
            self.check_blob(blob).await??;
        }
        let (mut number, mut existed) = (0, false);
        let state = self.change_if_any(author, |state| {
            let change;
            (number, existed, change) = addition(state, &new, &mut traffic);
            Ok(change)
        });
        let state = state.await?;
        Ok(Added { number, existed, state })
    }

    /// Whether a revision would be taken as things stand, before anything of it is stored.
    pub fn would_take(&self, author: &Author, new: &NewRevision) -> Result<(), ChangeError> {
        let state = self.state();
        let (_, _, change) = addition(&state, new, &mut |_, _| None);
        let Some(change) = change else { return Ok(()) };
        state.apply(&Record::new(state.n.saturating_add(1), now_ms(), author, change)?)?;
        Ok(())
    }

    async fn change_if_any(
        &self,
        author: Author,
        mut decide: impl FnMut(&State) -> Result<Option<Change>, Refused> + Send,
    ) -> Result<Arc<State>, ChangeError> {
        let turn = self.turn().await?;
        for attempt in 0..ATTEMPTS {
            let state = self.state();
            let prepared = match prepare(&state, &author, &mut decide) {
                Ok(Some(prepared)) => prepared,
                // What is refused, or is so already, is so only if nothing changed meanwhile.
                other if self.read_on(&turn).await? == state.n => return other.map(|_| state),
                _ => continue,
            };
            let Prepared { record, text, next } = prepared;
            // Whatever the store means by its failure, the record may stand: on a shared store because the answer was
            // lost, in a folder because syncing failed after it was visible.
            let unsure = |source| ChangeError::Unsure { source: Box::new(source) };
            if log::create(&self.store, record.n, text).await.map_err(unsure)? == Creation::Created {
                self.publish(&turn, Arc::clone(&next));
                self.tell_others(next.n);
                drop(turn);
                self.snapshot_if_due(&next).await;
                return Ok(next);
            }
            self.read_on(&turn).await?;
            if self.is_there(&record).await? {
                return Ok(self.state());
            }
            pause(attempt).await?;
        }
        Err(ChangeError::Contended { attempts: ATTEMPTS })
    }

    /// Whether the record that stands at this place is this very one: the store's client repeats a request whose answer
    /// was lost, and meets what it created itself.
    pub(super) async fn is_there(&self, record: &Record) -> Result<bool, RegistryError> {
        Ok(log::read(&self.store, record.n).await?.is_some_and(|there| there.mark == record.mark))
    }

    async fn snapshot_if_due(&self, state: &State) {
        if snapshot::due(state.n)
            && let Err(error) = snapshot::write(&self.store, state).await
        {
            tracing::warn!(n = state.n, %error, "no snapshot of the registry was written; the log has everything");
        }
    }
}

/// A change that fits.
struct Prepared {
    record: Record,
    /// The record as it will lie in the log.
    text: Vec<u8>,
    /// The state after it.
    next: Arc<State>,
}

/// The change that is wanted, if one is.
fn prepare(
    state: &State,
    author: &Author,
    decide: impl FnOnce(&State) -> Result<Option<Change>, Refused>,
) -> Result<Option<Prepared>, ChangeError> {
    let Some(change) = decide(state)? else { return Ok(None) };
    let record = Record::new(state.n.saturating_add(1), now_ms(), author, change)?;
    let next = Arc::new(state.apply(&record)?);
    let text = log::encoded(&record)?;
    Ok(Some(Prepared { record, text, next }))
}

/// The number a new revision has or gets, whether it is there, and what has to change.
fn addition(
    state: &State,
    new: &NewRevision,
    traffic: &mut impl FnMut(Option<&FunctionState>, u64) -> Option<Split>,
) -> (u64, bool, Option<Change>) {
    let (tenant, name) = (new.tenant.clone(), new.function.clone());
    let function = state.function(&tenant, &name).map(Arc::as_ref);
    if let Some((function, same)) = function.and_then(|function| Some((function, function.with_digest(&new.digest)?))) {
        let split = traffic(Some(function), same.number).filter(|split| function.traffic.as_ref() != Some(split));
        let set = |split| Change::TrafficSet { tenant, function: name, split, clears_quarantine: false };
        return (same.number, true, split.map(set));
    }
    let number = state.last_number(&tenant, &name).saturating_add(1);
    let change = Change::RevisionAdded {
        tenant,
        function: name,
        number,
        manifest: new.manifest.clone(),
        component: new.component.clone(),
        digest: new.digest.clone(),
        traffic: traffic(function, number),
    };
    (number, false, Some(change))
}

async fn pause(attempt: u32) -> Result<(), RegistryError> {
    let longest = PAUSE.saturating_mul(1 << attempt.min(16)).min(LONGEST_PAUSE);
    let random = getrandom::u32().map_err(|source| RegistryError::Random { source })?;
    let drawn = f64::from(random) / f64::from(u32::MAX);
    tokio::time::sleep(longest.mul_f64(0.5 + drawn / 2.0)).await;
    Ok(())
}
