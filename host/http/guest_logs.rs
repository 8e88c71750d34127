//! What guests said, sent to the tenants who own them: the latest lines, and new ones for as long as somebody follows.
//!
//! Owns the lines' form on the wire, and how many may follow. Refuses to know what is kept: that is the telemetry's. A
//! follower is asked again now and then whether it still may, because keys end and a log that is followed does not.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::{Body, Bytes},
    http::{Method, Request, header},
    response::IntoResponse as _,
};
use futures_util::{Stream, stream::unfold};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    control::Control,
    functions::Name,
    incoming,
    orders::{Answer, Asks},
    permits::{bearer, permits},
};
use crate::telemetry::{Passage, Reader};

/// Lines that are told unless somebody asks otherwise.
const TAIL: usize = 100;
/// A caller who hears nothing for longer may take the connection for dead, and so may what is between the two.
const BEAT: Duration = Duration::from_secs(15);
/// What is said within this time goes out together: a flood is then some large pieces, and not many small ones.
const GATHER: Duration = Duration::from_millis(20);
/// What is held for one reader at a time, but for a line that is longer.
const PIECE_BYTES: usize = 32 << 10;
/// Logs that are followed at once: each keeps a connection and wakes with every line.
const MAX_FOLLOWERS: usize = 64;
/// Of these, what one tenant may have: the rest is for others.
const MAX_FOLLOWERS_OF_TENANT: usize = 16;

/// Who follows at present.
#[derive(Debug, Default)]
pub(super) struct Followers(Mutex<Following>);

#[derive(Debug, Default)]
struct Following {
    all: usize,
    by_tenant: BTreeMap<String, usize>,
}

impl Followers {
    fn following(&self) -> MutexGuard<'_, Following> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for somebody of this tenant, or for an operator; or which bound is reached.
    fn place(self: &Arc<Self>, tenant: Option<&str>) -> Result<Place, String> {
        let mut following = self.following();
        if following.all >= MAX_FOLLOWERS {
            return Err(format!("{MAX_FOLLOWERS} logs are followed on this host, which is all that may be"));
        }
        if let Some(tenant) = tenant {
            let theirs = following.by_tenant.entry(tenant.to_owned()).or_default();
            if *theirs >= MAX_FOLLOWERS_OF_TENANT {
                return Err(format!("this tenant follows {MAX_FOLLOWERS_OF_TENANT} logs, which is all that it may"));
            }
            *theirs += 1;
        }
        following.all += 1;
        Ok(Place { followers: self.clone(), tenant: tenant.map(str::to_owned) })
    }
}

/// A place among those who follow, free again when it is dropped.
struct Place {
    followers: Arc<Followers>,
    tenant: Option<String>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut following = self.followers.following();
        following.all -= 1;
        if let Some(tenant) = &self.tenant
            && let Some(theirs) = following.by_tenant.get_mut(tenant)
        {
            *theirs -= 1;
            if *theirs == 0 {
                following.by_tenant.remove(tenant);
            }
        }
    }
}

/// A function's log.
pub(super) async fn logs(asks: Asks<Name>, request: Request<Body>) -> Answer {
    let (tail, follow) = asked(request.uri().query()).map_err(|detail| asks.problem("bad-request", detail))?;
    let (control, Name { tenant, function }) = (&asks.control, &asks.names);
    let logs = control.guest_logs();
    // Whoever deploys may read why a case failed, although there is no function yet.
    let known = || control.overview.knows(tenant, function).then(|| logs.of(tenant, function));
    let log = asks.found(logs.find(tenant, function).or_else(known))?;
    let place = follow.then(|| control.followers.place(asks.caller.tenant())).transpose().map_err(|detail| {
        let mut problem = asks.problem("too-many-followers", detail);
        problem.comes_again();
        problem
    })?;
    let follow = place.map(|place| Follow::new(control, &request, place));
    let body = Body::from_stream(lines(log.read(tail, follow.is_some()), follow, BEAT));
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// How many lines are wanted, and whether new ones.
fn asked(query: Option<&str>) -> Result<(usize, bool), String> {
    let (mut tail, mut follow) = (None, None);
    for (name, value) in incoming::query(query.unwrap_or_default()) {
        let before = match &*name {
            "tail" => {
                let number = value.parse().map_err(|_| format!("tail must be a whole number, not `{value}`"))?;
                tail.replace(number).map(drop)
            }
            "follow" => {
                let truth = value.parse().map_err(|_| format!("follow must be true or false, not `{value}`"))?;
                follow.replace(truth).map(drop)
            }
            other => return Err(format!("`{other}` is not known here: there are `tail` and `follow`")),
        };
        if before.is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    Ok((tail.unwrap_or(TAIL), follow.unwrap_or(false)))
}

/// Why there is nothing more to follow. It is the last line: a reader who is told nothing was cut off.
#[derive(Clone, Copy)]
enum End {
    Host,
    Function,
    Key,
}

impl End {
    /// For people, and the code of the error that a new question would get here.
    fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Host => ("this host is going away: its guests say nothing more", "draining"),
            Self::Function => ("the function is gone, and its log with it", "function-not-found"),
            Self::Key => ("the key or token is not valid any more, or may not read this log", "forbidden"),
        }
    }

    fn line(self) -> Bytes {
        let (text, code) = self.told();
        own(json!({ "level": "warn", "kind": "end", "text": text, "code": code })).into()
    }
}

/// What a reader has that stays.
struct Follow {
    /// Ends when no guest will say anything any more.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    may: Box<dyn Fn() -> bool + Send>,
    _place: Place,
}

impl Follow {
    fn new(control: &Arc<Control>, request: &Request<Body>, place: Place) -> Self {
        let admission = control.runtime().admission().clone();
        let over = Box::pin(async move { admission.over().await });
        let bearer = bearer(request.headers()).unwrap_or_default().to_owned();
        let (control, path) = (control.clone(), request.uri().path().to_owned());
        let may = move || {
            let caller = control.runtime().identity().identify(Some(&bearer));
            caller.is_ok_and(|caller| permits(&caller, &Method::GET, &path))
        };
        Self { over, may: Box::new(may), _place: place }
    }
}

/// A log on its way to somebody.
struct Sending {
    reader: Reader,
    follow: Option<Follow>,
    /// When there was last something to send; none before the first piece.
    sent: Option<Instant>,
    asked: Instant,
    beat: Duration,
    /// No guest says anything any more.
    over: bool,
    ended: bool,
}

fn lines(reader: Reader, follow: Option<Follow>, beat: Duration) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let sending = Sending { reader, follow, sent: None, asked: Instant::now(), beat, over: false, ended: false };
    unfold(sending, async |mut sending| Some((Ok(sending.piece().await?), sending)))
}

impl Sending {
    /// The next piece, as soon as there is one; none where nothing more will come.
    async fn piece(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        loop {
            if let Some(follow) = &self.follow
                && self.asked.elapsed() >= self.beat
            {
                self.asked = Instant::now();
                if !(follow.may)() {
                    return Some(self.end(End::Key));
                }
            }
            let passage = self.reader.take(PIECE_BYTES);
            if passage.missed > 0 || !passage.lines.is_empty() {
                self.sent = Some(Instant::now());
                return Some(written(&passage));
            }
            if self.follow.is_some() && (passage.last || self.over) {
                return Some(self.end(if passage.last { End::Function } else { End::Host }));
            }
            let follow = self.follow.as_mut()?;
            // The first one is sent at once, so that the caller knows that it follows.
            let Some(sent) = self.sent else { return Some(self.beat()) };
            tokio::select! {
                () = self.reader.news() => sleep(GATHER).await,
                () = &mut follow.over => {
                    // The line about how an invocation ended is written just after it ended.
                    sleep(GATHER).await;
                    self.over = true;
                }
                () = sleep_until(sent + self.beat) => return Some(self.beat()),
            }
        }
    }

    fn end(&mut self, why: End) -> Bytes {
        self.ended = true;
        why.line()
    }

    fn beat(&mut self) -> Bytes {
        self.sent = Some(Instant::now());
        Bytes::from_static(b"\n")
    }
}

/// Lines as they are sent: an object on each.
fn written(passage: &Passage) -> Bytes {
    let mut bytes = Vec::new();
    if passage.missed > 0 {
        let text = format!("{} lines were missed", passage.missed);
        bytes = own(json!({ "level": "warn", "kind": "missed", "text": text }));
    }
    for line in &passage.lines {
        // Writing to memory does not fail, and a line has only texts and numbers.
        if serde_json::to_writer(&mut bytes, line).is_ok() {
            bytes.push(b'\n');
        }
    }
    bytes.into()
}

/// A line of the host's own, which concerns no invocation.
fn own(mut line: serde_json::Value) -> Vec<u8> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    line["at_ms"] = json!(at.as_millis() as u64);
    for none in ["invocation", "revision"] {
        line[none] = json!(null);
    }
    format!("{line}\n").into_bytes()
}

#[cfg(test)]
mod tests;
