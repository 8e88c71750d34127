//! Rows that may be known: only the others are asked of the model. Owns what makes two rows the same, and that equal rows
//! in progress are computed once; refuses to know what an answer is made of.
//!
//! Whoever leads rows computes them before it waits for those that others lead, so no two inferences wait for each other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    super::{InvokeError, snapshot::Snapshot},
    Remembered, flight, named, row,
};
use crate::{
    account::{Charge, Kind, Used},
    cache::{Entry, Follow, Freshness, Key, KeyBuilder, Landed, Lead, Seat},
    caching::RowsBy,
    engine::{Model, Pending},
    invocation::{Inference, Invocation, Outputs, Stage},
    known::{Finding, Known, KnownRows, Wanted},
    tensor::{LayoutError, Tensor},
};

/// Inputs whose digests take less than a few hundred microseconds.
const SHORT_BYTES: usize = 1 << 20;

/// Names that are made before others have their turn: some hundred microseconds.
const AT_ONCE: usize = 256;

/// The rows of one invocation.
#[derive(Debug)]
pub(in crate::function) struct Rows {
    remembered: Arc<Remembered>,
    snapshot: Snapshot,
    invocation: Arc<Invocation>,
    /// What keeps known rows in the invocation's account, as long as it may still use them.
    held: Mutex<Charge>,
}

type Inputs = Vec<(String, Tensor)>;

/// An inference on its way, of whose rows some may be known.
pub(in crate::function) enum Started {
    /// Nobody looked.
    Plain(Pending),
    /// What is known is known, and the rest is queued, or computed by others.
    Looked(Box<Work>),
}

/// The rows of one inference.
pub(in crate::function) struct Work {
    rows: Arc<Rows>,
    model: Arc<Model>,
    /// All rows, as they will come out.
    wanted: Vec<Wanted>,
    found: Vec<Option<Bytes>>,
    /// What the guest sent; row `n` is the one at `places[n]` of all.
    inputs: Inputs,
    charges: Vec<Arc<Charge>>,
    places: Vec<usize>,
    seq: u64,
    /// What is computed here, in the order of its rows, and what others compute: the row of the inputs.
    leads: Vec<(usize, Lead<Bytes>)>,
    follows: Vec<(usize, Follow<Bytes>)>,
    pending: Option<Pending>,
    computed: usize,
}

impl Rows {
    /// Of an invocation; none where its function's rows are not remembered.
    pub(in crate::function) fn of(
        remembered: &Arc<Remembered>,
        snapshot: &Snapshot,
        invocation: &Arc<Invocation>,
    ) -> Option<Arc<Self>> {
        let (remembered, snapshot, invocation) = (remembered.clone(), snapshot.clone(), invocation.clone());
        let are = snapshot.revision.manifest.cache.rows != RowsBy::Off;
        are.then(|| {
            let held = Mutex::new(invocation.account.nothing(Kind::Outputs));
            Arc::new(Self { remembered, snapshot, invocation, held })
        })
    }

    /// Begins an inference: looks for its rows, and queues those that are not known.
    pub(in crate::function) async fn start(
        self: &Arc<Self>,
        model: &Arc<Model>,
        inference: Inference,
    ) -> Result<Started, InvokeError> {
        let Inference { inputs, charges, mut wanted, .. } = inference;
        let (start, seq) = (Instant::now(), self.remembered.cache.seq());
        if self.by() == RowsBy::Input && self.may(model) {
            wanted = self.look(model, &inputs).await?;
        }
        if wanted.is_empty() {
            return Ok(Started::Plain(model.infer(inputs, charges, &self.invocation)?));
        }
        let places: Vec<usize> = match self.by() {
            RowsBy::Input => (0..wanted.len()).collect(),
            _ => (0..wanted.len()).filter(|at| !wanted[*at].is_known()).collect(),
        };
        if let Some((name, tensor)) = inputs.iter().find(|(_, tensor)| tensor.layout.rows() != places.len()) {
            let (rows, unknown) = (tensor.layout.rows(), places.len());
            return Err(InvokeError::Contract(format!(
                "the input `{name}` has {rows} rows; `inference.reuse` answered false for {unknown}"
            )));
        }
        let found =
            wanted.iter().map(|row| if let Known::Whole(bytes) = &row.known { Some(bytes.clone()) } else { None });
        let (found, rows, model) = (found.collect(), self.clone(), model.clone());
        let (leads, follows) = (Vec::new(), Vec::new());
        let mut work = Work {
            rows,
            model,
            wanted,
            found,
            inputs,
            charges,
            places,
            seq,
            leads,
            follows,
            pending: None,
            computed: 0,
        };
        work.take_seats();
        self.invocation.spent(Stage::Cache, start, start.elapsed());
        work.submit()?;
        Ok(Started::Looked(Box::new(work)))
    }

    fn by(&self) -> RowsBy {
        self.snapshot.revision.manifest.cache.rows
    }

    /// Whether rows of this model may be remembered: it says so, and they are not too long.
    fn may(&self, model: &Model) -> bool {
        let most = self.remembered.cache.config().max_row_bytes;
        model.is_deterministic() && row::most_bytes(model.signature()) <= most
    }

    /// What is known of the rows of these inputs. None at all where they do not fit together: the model says what is wrong.
    async fn look(&self, model: &Arc<Model>, inputs: &Inputs) -> Result<Vec<Wanted>, InvokeError> {
        let count = inputs.first().map_or(0, |(_, tensor)| tensor.layout.rows());
        if inputs.iter().any(|(_, tensor)| tensor.layout.rows() != count) {
            return Ok(Vec::new());
        }
        let base = row_key("row", &self.snapshot, model);
        let bytes = inputs.iter().map(|(_, tensor)| tensor.bytes.len()).sum::<usize>();
        let keys = if bytes <= SHORT_BYTES {
            keys(&base, inputs, count)
        } else {
            let inputs = inputs.clone();
            let start = Instant::now();
            let hashed = tokio::task::spawn_blocking(move || (keys(&base, &inputs, count), start.elapsed())).await;
            let (keys, took) = hashed.map_err(|panicked| InvokeError::Internal(panicked.to_string()))?;
            self.invocation.account.spend(Used::HostCall, took);
            keys
        };
        Ok(self.find_all(model, keys, &[]).await)
    }

    /// What is known of rows with these names; `before` are those of the same inference that were asked for earlier.
    async fn find_all(&self, model: &Model, keys: Vec<Key>, before: &[Wanted]) -> Vec<Wanted> {
        let mut first: HashMap<Key, usize> = HashMap::with_capacity(before.len() + keys.len());
        let names = before.iter().map(|row| Key::from_bytes(row.key)).chain(keys.iter().copied());
        let same: Vec<Option<usize>> = names
            .enumerate()
            .map(|(at, key)| match *first.entry(key).or_insert(at) {
                earlier if earlier < at => Some(earlier),
                _ => None,
            })
            .skip(before.len())
            .collect();
        let single: Vec<Key> = keys.iter().zip(&same).filter(|(_, same)| same.is_none()).map(|(key, _)| *key).collect();
        let mut saved_us = 0;
        let mut found = self.remembered.cache.get_many(&single).await.into_iter().map(|entry| {
            let entry = entry.filter(|entry| row::is_row(model.signature(), &entry.payload))?;
            saved_us += entry.saved_us;
            Some(entry.payload)
        });
        let rows: Vec<_> = keys
            .iter()
            .zip(same)
            .map(|(key, same)| {
                let known = match same {
                    Some(earlier) => Known::Same(earlier),
                    None => found.next().flatten().map_or(Known::New, Known::Whole),
                };
                Wanted { key: *key.as_bytes(), known }
            })
            .collect();
        drop(found);
        let rows = self.hold(rows);
        let known = rows.iter().filter(|row| row.is_known()).count() as u64;
        self.remembered.tally(&self.snapshot).rows(rows.len() as u64, known, saved_us);
        rows
    }
}

impl Rows {
    /// The same rows, charged; where the invocation may not hold them, they are not known.
    fn hold(&self, mut rows: Vec<Wanted>) -> Vec<Wanted> {
        let bytes = |row: &Wanted| if let Known::Whole(bytes) = &row.known { bytes.len() as u64 } else { 0 };
        // Whatever panicked within left a charge of what was held.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.grow(rows.iter().map(bytes).sum()).is_err() {
            let whole = rows.iter_mut().filter(|row| matches!(row.known, Known::Whole(_)));
            whole.for_each(|row| row.known = Known::New);
        }
        rows
    }
}

impl KnownRows for Rows {
    fn find<'a>(&'a self, model: &'a str, keys: &'a [Vec<u8>], before: &'a [Wanted]) -> Option<Finding<'a>> {
        let model = self.snapshot.models.by_alias.get(model)?;
        let revision = &self.snapshot.revision;
        // More than it may ask for in the end: nothing is looked for, and the step is refused.
        let fits = (before.len() + keys.len()) as u64 <= revision.manifest.limits.max_rows;
        if self.by() != RowsBy::Key || !self.may(model) || !fits {
            return None;
        }
        let same = match &revision.manifest.cache.class {
            Some(class) => [&b"class"[..], class.as_bytes()],
            None => [&b"revision"[..], revision.digest.as_bytes()],
        };
        let base = row_key("row by key", &self.snapshot, model).part(revision.function.as_bytes()).parts(same);
        Some(Box::pin(async move {
            let start = Instant::now();
            let mut named = Vec::with_capacity(keys.len());
            for some in keys.chunks(AT_ONCE) {
                named.extend(some.iter().map(|key| base.clone().part(key).finish()));
                tokio::task::yield_now().await;
            }
            let found = self.find_all(model, named, before).await;
            self.invocation.spent(Stage::Cache, start, start.elapsed());
            found
        }))
    }
}

/// What the names of all rows of a model begin with.
fn row_key(domain: &'static str, snapshot: &Snapshot, model: &Model) -> KeyBuilder {
    let key = KeyBuilder::new(domain, &snapshot.revision.tenant).part(model.name().as_bytes());
    key.part(&model.version().to_le_bytes()).parts(model.digests())
}

/// Names each row by what the model reads of it.
fn keys(base: &KeyBuilder, inputs: &Inputs, count: usize) -> Vec<Key> {
    let row = |row: usize| {
        let key = inputs.iter().fold(base.clone(), |key, (name, tensor)| {
            let layout = &tensor.layout;
            let extents = (0..layout.row_dimensions()).map(|axis| layout.extent(row, axis).unwrap_or_default());
            let key = key.part(name.as_bytes()).part(tensor.datatype.name().as_bytes());
            key.parts(extents.map(u64::to_le_bytes)).part(tensor.row(row))
        });
        key.finish()
    };
    (0..count).map(row).collect()
}

impl Work {
    /// Leads what nobody computes; of what others do, waits.
    fn take_seats(&mut self) {
        for input in 0..self.places.len() {
            let at = self.places[input];
            if self.wanted[at].is_known() {
                continue;
            }
            let key = Key::from_bytes(self.wanted[at].key);
            match self.rows.remembered.rows.join(flight(key, self.seq)) {
                Seat::Follow(follow) => self.follows.push((input, follow)),
                Seat::Lead(lead) => match self.peek(&key) {
                    // Whoever computed it may have ended between the look and the lead.
                    Some(bytes) => {
                        lead.land(bytes.clone());
                        self.found[at] = Some(bytes);
                    }
                    None => self.leads.push((input, lead)),
                },
            }
        }
    }

    fn peek(&self, key: &Key) -> Option<Bytes> {
        let (entry, age) = self.rows.remembered.cache.peek(key)?;
        let good = age == Freshness::Fresh && row::is_row(self.model.signature(), &entry.payload);
        good.then_some(entry.payload)
    }

    /// Queues the rows that are led here.
    fn submit(&mut self) -> Result<(), InvokeError> {
        if self.leads.is_empty() {
            return Ok(());
        }
        let rows: Vec<usize> = self.leads.iter().map(|(input, _)| *input).collect();
        let mut charges = self.charges.clone();
        let inputs = if rows.len() == self.places.len() {
            self.inputs.clone()
        } else {
            let row = |tensor: &Tensor| rows.iter().map(|row| tensor.row(*row).len() as u64).sum::<u64>();
            let bytes = self.inputs.iter().map(|(_, tensor)| row(tensor)).sum();
            charges.push(Arc::new(self.rows.invocation.account.charge(Kind::Tensors, bytes)?));
            let some = self.inputs.iter().map(|(name, tensor)| Ok((name.clone(), row::some_of(tensor, &rows)?)));
            some.collect::<Result<_, LayoutError>>().map_err(|error| InvokeError::Internal(error.to_string()))?
        };
        self.computed += rows.len();
        self.pending = Some(self.model.infer(inputs, charges, &self.rows.invocation)?);
        Ok(())
    }

    /// Waits for the rows that are led here, then for the others; where their leads leave, computes them, too.
    async fn finish(mut self) -> Result<Outputs, InvokeError> {
        loop {
            if let Some(pending) = self.pending.take() {
                let account = &self.rows.invocation.account;
                let before = account.spent(Used::Device);
                let outputs = pending.outputs().await?;
                let took = account.spent(Used::Device).saturating_sub(before);
                let all = self.leads.len() == self.wanted.len();
                self.landed(&outputs, took);
                if all {
                    self.count();
                    return Ok(outputs);
                }
            }
            let Some((input, follow)) = self.follows.pop() else { break };
            match follow.wait().await {
                Landed::Value(bytes) => self.found[self.places[input]] = Some(bytes),
                // Computed at once: others may wait for it, and must not be waited for meanwhile.
                Landed::Lead(lead) => {
                    self.leads.push((input, lead));
                    self.submit()?;
                }
            }
        }
        self.count();
        let rows = self.wanted.iter().enumerate().map(|(at, row)| match row.known {
            Known::Same(earlier) => self.found[earlier].clone(),
            Known::Whole(_) | Known::New => self.found[at].clone(),
        });
        let rows: Option<Vec<Bytes>> = rows.collect();
        let lost = || InvokeError::Internal("a row was neither known nor computed".into());
        let outputs = row::assemble(self.model.signature(), &rows.ok_or_else(lost)?, &self.rows.invocation.account)?;
        outputs.ok_or_else(|| InvokeError::Internal("rows of one model do not fit together".into()))
    }

    /// Keeps what was computed, and gives it to those who wait for it.
    fn landed(&mut self, outputs: &Outputs, took: Duration) {
        let (rows, remembered) = (self.rows.clone(), &self.rows.remembered);
        let saved_us = took.as_micros() as u64 / self.leads.len().max(1) as u64;
        let config = remembered.cache.config();
        let most =
            rows.snapshot.revision.manifest.cache.max_ttl_s.map_or(config.max_ttl_s, |own| own.min(config.max_ttl_s));
        let (scopes, created_ms) = (&named(&rows.snapshot).1, Entry::now_ms());
        let made: Vec<_> = (0..self.leads.len()).map(|row| row::encode(outputs, row)).collect();
        let entries = self.leads.iter().zip(&made).map(|((input, _), payload)| {
            let entry = Entry {
                tenant: rows.snapshot.revision.tenant.clone(),
                created_ms,
                fresh_ms: most.saturating_mul(1000),
                stale_while_ms: 0,
                stale_error_ms: 0,
                seq: self.seq,
                scopes: scopes.clone(),
                saved_us,
                payload: payload.clone(),
            };
            (Key::from_bytes(self.wanted[self.places[*input]].key), entry)
        });
        remembered.cache.keep(entries.collect(), remembered.tally(&rows.snapshot), rows.invocation.clone());
        for ((input, lead), bytes) in self.leads.drain(..).zip(made) {
            self.found[self.places[input]] = Some(bytes.clone());
            lead.land(bytes);
        }
    }

    fn count(&self) {
        let asked = self.wanted.len() as u64;
        self.rows.invocation.rows.add(asked, asked - self.computed.min(self.wanted.len()) as u64);
    }
}

impl Started {
    /// The outputs of all rows.
    pub(in crate::function) async fn outputs(self) -> Result<Outputs, InvokeError> {
        match self {
            Self::Plain(pending) => Ok(pending.outputs().await?),
            Self::Looked(work) => work.finish().await,
        }
    }
}
