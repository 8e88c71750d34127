//! Sample cases as they are run: the whole way of a request, on a revision that need not be in traffic.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{Body, Call, InvokeError, Runtime, Snapshot, case::Case};
use crate::{
    access::Caller,
    invocation::{Fault, Request},
    telemetry::TraceContext,
    tenant::Priority,
};

/// Why a case did not pass.
pub(super) enum Wrong {
    /// The answer is not the expected one.
    Answer(String),
    /// The host could not run it.
    Host(String),
    /// Its tenant has used its rate; there is some again after this.
    Later(Duration),
}

impl Case {
    /// Runs it on a revision that need not be in traffic; the text says what was not as expected.
    pub(super) async fn run(&self, runtime: &Runtime, snapshot: &Snapshot) -> Result<(), Wrong> {
        loop {
            match self.attempt(runtime, snapshot).await {
                // Its tenant's own rate is no reason to refuse it; how long this may go on is the caller's to say.
                Err(Wrong::Later(wait)) => tokio::time::sleep(wait).await,
                ran => return ran,
            }
        }
    }

    async fn attempt(&self, runtime: &Runtime, snapshot: &Snapshot) -> Result<(), Wrong> {
        let pairs = |map: &BTreeMap<String, String>| map.iter().map(|(name, it)| (name.clone(), it.clone())).collect();
        let headers: Vec<(String, String)> = pairs(&self.headers);
        let call = Call {
            id: format!("case-{}", uuid::Uuid::now_v7()).into(),
            tenant: snapshot.revision.tenant.to_string(),
            function: snapshot.revision.function.to_string(),
            revision: None,
            timeout: None,
            priority: Priority::Interactive,
            arrived: std::time::Instant::now(),
            trace: TraceContext::begin(),
            caller: Caller::Anonymous,
            // What is to be seen is this revision.
            afresh: true,
            request: Request {
                method: self.method.clone(),
                path: self.path.clone(),
                query: pairs(&self.query),
                headers: headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect(),
                ..Request::default()
            },
        };
        let outcome = runtime.serve(snapshot, call, Whole(Some(self.content().map_err(Wrong::Answer)?))).await;
        let answer = match &outcome.result {
            Ok(response) => Ok((response.status, "", &response.body[..])),
            Err(InvokeError::Rejected(rejection)) => {
                let body = rejection.body.as_ref().map_or(rejection.detail.as_bytes(), |(_, bytes)| &bytes[..]);
                Ok((rejection.status, &*rejection.code, body))
            }
            Err(InvokeError::RateLimited { retry_after, .. }) => return Err(Wrong::Later(*retry_after)),
            // The host has no room for it, or ends: that says nothing of the function.
            Err(error) if error.fault() == Fault::Capacity && !matches!(error, InvokeError::Deadline { .. }) => {
                return Err(Wrong::Host(format!("the case `{}` could not run: {error}", self.name)));
            }
            Err(error) => Err(format!("there was no answer: {error}")),
        };
        let met = answer.and_then(|answer| self.expect.meets(answer));
        met.map_err(|wrong| Wrong::Answer(format!("the case `{}`: {wrong}", self.name)))
    }
}

/// A body that is there already.
struct Whole(Option<Bytes>);

impl Body for Whole {
    fn announced(&self) -> Option<u64> {
        self.0.as_ref().map(|bytes| bytes.len() as u64)
    }

    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        self.0.take().filter(|bytes| !bytes.is_empty()).map(Ok)
    }
}
