//! An answer that may be known: looked up, waited for where somebody computes it, or computed and kept. Owns what makes two
//! requests the same.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout_at;

use super::{
    super::{
        InvokeError,
        ending::{Serving, log},
        snapshot::Snapshot,
    },
    Answer, Asked, Old, Refresh, Remembered, Shared, flight, named, scopes,
};
use crate::{
    account::Used,
    cache::{Entry, Freshness, Key, Landed, Lead, Seat, Tally, Tier},
    caching::Policy,
    invocation::{Fault, Response},
};

/// A body whose digest takes less than 100 microseconds.
const SHORT_BYTES: usize = 256 << 10;

/// What came of looking.
pub(in crate::function) enum Looked {
    /// The answer, and how it came, as `x-tenon-cache` says it.
    Known(Arc<Answer>, &'static str),
    /// It is this request's to compute.
    Compute(Duty),
    /// Somebody else computes it, and the deadline has passed.
    Late,
}

/// What is to become of an answer that is being computed. Dropped, the next who waits for it computes it.
#[derive(Debug)]
pub(in crate::function) struct Duty {
    key: Key,
    policy: Arc<Policy>,
    /// What [`Cache::seq`](crate::cache::Cache::seq) said before anything was looked at.
    seq: u64,
    /// None where nobody can wait for it: only refusals are remembered.
    lead: Option<Lead<Shared>>,
    /// What may be given if computing it fails.
    stale: Option<Old>,
}

impl Remembered {
    /// Looks for the answer; if it is being computed, waits for it, until the invocation's deadline at most.
    pub(in crate::function) async fn look(&self, asked: Asked<'_>, policy: Arc<Policy>) -> Looked {
        let (cache, seq, tally) = (&self.cache, self.cache.seq(), self.tally(asked.snapshot));
        let key = key(asked, &policy, body_digest(asked, &policy).await);
        tally.looked_up();
        let found = cache.get(&key).await;
        let mut stale = None;
        if let (Some((entry, age)), Some(tier)) = (found.entry, found.tier) {
            match (self.read(&key, &entry), age) {
                (None, _) | (_, Freshness::Gone) => {}
                (Some(answer), Freshness::Fresh) => return self.hit(tally, answer, (tier, entry.saved_us)),
                (Some(answer), Freshness::StaleWhile) => {
                    self.refresh(asked, (key, seq), (&policy, (answer.clone(), tier)));
                    tally.hit(tier, true, entry.saved_us);
                    return Looked::Known(answer, "stale");
                }
                (Some(answer), Freshness::StaleError) => stale = Some((answer, tier)),
            }
        }
        if policy.ttl == Duration::ZERO {
            return Looked::Compute(Duty { key, policy, seq, lead: None, stale });
        }
        let lead = match self.answers.join(flight(key, seq)) {
            Seat::Lead(lead) => lead,
            Seat::Follow(follow) => match timeout_at(asked.invocation.deadline.into(), follow.wait()).await {
                Ok(Landed::Lead(lead)) => lead,
                Ok(Landed::Value(Shared { answer, old, saved_us })) => {
                    tally.coalesced(saved_us);
                    return Looked::Known(answer, if old { "stale" } else { "coalesced" });
                }
                Err(_) => {
                    return stale.map_or(Looked::Late, |(answer, tier)| {
                        tally.hit(tier, true, 0);
                        Looked::Known(answer, "stale")
                    });
                }
            },
        };
        // Whoever computed it may have ended between the look and the lead.
        if let Some((entry, Freshness::Fresh)) = cache.peek(&key)
            && let Some(answer) = self.read(&key, &entry)
        {
            lead.land(Shared { answer: answer.clone(), old: false, saved_us: entry.saved_us });
            return self.hit(tally, answer, (Tier::Memory, entry.saved_us));
        }
        Looked::Compute(Duty { key, policy, seq, lead: Some(lead), stale })
    }

    fn hit(&self, tally: &Tally, answer: Arc<Answer>, (tier, saved_us): (Tier, u64)) -> Looked {
        tally.hit(tier, false, saved_us);
        Looked::Known(answer, "hit")
    }

    /// The answer that an entry holds. What is none is forgotten: its digest is right, but that says only who wrote it last.
    fn read(&self, key: &Key, entry: &Entry) -> Option<Arc<Answer>> {
        let answer = Answer::decode(entry.payload.clone());
        if answer.is_none() {
            self.cache.forget(key);
        }
        answer.map(Arc::new)
    }

    /// Has a stale answer computed again, unless somebody does.
    fn refresh(&self, asked: Asked<'_>, (key, seq): (Key, u64), (policy, stale): (&Arc<Policy>, Old)) {
        let Some(lead) = self.answers.lead_if_free(flight(key, seq)) else { return };
        let duty = Duty { key, policy: policy.clone(), seq, lead: Some(lead), stale: Some(stale) };
        let Asked { snapshot, invocation, request } = asked;
        let (snapshot, request, id) = (snapshot.clone(), request.clone(), invocation.id.clone());
        // Full: whoever comes next asks again.
        let _ = self.refreshes.try_send(Refresh { snapshot, request, id, duty });
    }

    /// Counts an invocation whose answer is neither looked up nor kept.
    pub(in crate::function) fn bypassed(&self, snapshot: &Snapshot) {
        self.tally(snapshot).bypassed();
    }

    pub(super) fn tally<'a>(&self, snapshot: &'a Snapshot) -> &'a Arc<Tally> {
        let revision = &snapshot.revision;
        revision.remembers.tally(&self.cache, (&revision.tenant, &revision.function))
    }

    /// Keeps what was computed, gives it to those who wait for it, and says what the caller gets: that, or where it failed
    /// the old answer, if it may still be given.
    pub(in crate::function) fn settle(
        &self,
        duty: Duty,
        asked: Asked<'_>,
        result: Result<Response, InvokeError>,
    ) -> (Result<Response, InvokeError>, &'static str) {
        let Duty { key, policy, seq, lead, stale } = duty;
        let (answer, fresh) = match &result {
            Ok(response) => (Arc::new(Answer::response(response)), policy.ttl),
            Err(InvokeError::Rejected(rejection)) => (Arc::new(Answer::rejection(rejection)), policy.negative_ttl),
            Err(error) => {
                let Some((answer, tier)) = stale.filter(|_| error.fault() != Fault::Caller) else {
                    return (result, "miss");
                };
                // Its caller does not see it; its tenant does.
                let (id, trace) = (&asked.invocation.id, &asked.invocation.trace);
                log((id, trace), Serving::from(asked.snapshot), error);
                self.tally(asked.snapshot).hit(tier, true, 0);
                if let Some(lead) = lead {
                    lead.land(Shared { answer: answer.clone(), old: true, saved_us: 0 });
                }
                return (answer.give(&asked.invocation.account), "stale");
            }
        };
        if fresh > Duration::ZERO {
            let entry = entry(&answer, asked, (&policy, fresh, seq));
            self.cache.keep(vec![(key, entry)], self.tally(asked.snapshot), asked.invocation.clone());
        }
        if let Some(lead) = lead {
            lead.land(Shared { answer, old: false, saved_us: spared(asked) });
        }
        (result, "miss")
    }
}

/// The time on models that who is given this answer is spared.
fn spared(asked: Asked<'_>) -> u64 {
    u64::try_from(asked.invocation.account.spent(Used::Device).as_micros()).unwrap_or(u64::MAX)
}

fn entry(answer: &Answer, asked: Asked<'_>, (policy, fresh, seq): (&Policy, Duration, u64)) -> Entry {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // A refusal is not worth giving when it is old.
    let stale = |time: Duration| if answer.is_refusal() { 0 } else { ms(time) };
    Entry {
        tenant: asked.snapshot.revision.tenant.clone(),
        created_ms: Entry::now_ms(),
        fresh_ms: ms(fresh),
        stale_while_ms: stale(policy.stale_while_revalidate),
        stale_error_ms: stale(policy.stale_if_error),
        seq,
        scopes: scopes(asked.snapshot, policy),
        saved_us: spared(asked),
        payload: answer.encode(),
    }
}

/// Names a long body, where that is a part of the key, by another thread. None for a short one, which is a part itself.
async fn body_digest(asked: Asked<'_>, policy: &Policy) -> Option<[u8; 32]> {
    let body = &asked.request.body;
    if policy.material.is_some() || body.len() <= SHORT_BYTES {
        return None;
    }
    let body = body.clone();
    let hashed = tokio::task::spawn_blocking(move || *blake3::hash(&body).as_bytes());
    // Only while the host ends: then the body is hashed here.
    hashed.await.ok()
}

/// Names the answer: tenant, function, revision or class, the models that compute it, and what the policy says.
fn key(asked: Asked<'_>, policy: &Policy, digest: Option<[u8; 32]>) -> Key {
    let Asked { snapshot, request, .. } = asked;
    let revision = &snapshot.revision;
    let same = match &policy.class {
        Some(class) => [&b"class"[..], class.as_bytes()],
        None => [&b"revision"[..], revision.digest.as_bytes()],
    };
    let key = named(snapshot).0.clone().parts(same);
    let key = match &policy.material {
        Some(material) => key.part(b"material").parts(material),
        None => {
            let query = request.query.iter().flat_map(|(name, value)| [name, value]);
            let key = key.part(b"request").part(request.method.as_bytes()).part(request.path.as_bytes());
            let key = key.parts(query);
            match &digest {
                Some(digest) => key.part(b"digest").part(digest),
                None => key.part(b"body").part(&request.body),
            }
        }
    };
    policy
        .headers
        .iter()
        .fold(key, |key, name| {
            let values = request.headers.iter().filter(|(header, _)| header == name).map(|(_, value)| value);
            key.parts(std::iter::once(name).chain(values))
        })
        .finish()
}
