//! Wire in: from a request's head and body to a `Call` and a `Body`. Everything here is the caller's claim. Where another
//! path than a function's own leads to it, that is `mapped`'s to know.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::http::{HeaderMap, Method, header, request::Parts};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;

use super::handle::Head;
use crate::{
    access::Caller,
    function::{Body, Call},
    invocation,
    tenant::Priority,
};

/// Below this lie all functions.
pub(super) const FUNCTIONS: &str = "/v1/functions/";

/// Credentials never reach a guest.
const HIDDEN: [header::HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// A request's body as it comes off the wire.
pub(super) struct WireBody {
    announced: Option<u64>,
    body: axum::body::Body,
}

impl WireBody {
    pub(super) fn new(body: axum::body::Body) -> Self {
        Self { announced: http_body::Body::size_hint(&body).exact(), body }
    }
}

impl Body for WireBody {
    fn announced(&self) -> Option<u64> {
        self.announced
    }

    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.body.frame().await? {
                // Trailers say nothing to a function.
                Ok(frame) => match frame.into_data() {
                    Ok(piece) => return Some(Ok(piece)),
                    Err(_) => continue,
                },
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }
}

/// Which function a request is for, and what of the request that function sees as its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) tenant: String,
    pub(super) function: String,
    pub(super) revision: Option<String>,
    /// None if it is not UTF-8.
    pub(super) path: Option<String>,
    pub(super) methods: Methods,
}

/// By which methods something is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Methods {
    Both,
    Get,
    Post,
}

impl Methods {
    /// As `Allow` says them.
    pub(super) fn allowed(self) -> &'static str {
        match self {
            Self::Both => "GET, POST",
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }

    fn find(self, method: &Method) -> Option<&'static str> {
        match (self, method) {
            (Self::Both | Self::Post, &Method::POST) => Some("POST"),
            (Self::Both | Self::Get, &Method::GET) => Some("GET"),
            _ => None,
        }
    }
}

/// What a head says beside whose function it is for.
pub(super) struct Asked {
    method: &'static str,
    timeout: Option<Duration>,
    priority: Priority,
}

/// The function that a path below [`FUNCTIONS`] names.
pub(super) fn place(path: &str) -> Option<Place> {
    let (tenant, function, path) = split(path)?;
    let (function, revision) = match function.split_once('@') {
        Some((function, revision)) => (function, Some(revision.to_owned())),
        None => (function, None),
    };
    let (tenant, function) = (tenant.to_owned(), function.to_owned());
    Some(Place { tenant, function, revision, path: decoded(path), methods: Methods::Both })
}

/// A path as a guest sees it.
pub(super) fn decoded(path: &str) -> Option<String> {
    percent_decode_str(path).decode_utf8().ok().map(Cow::into_owned)
}

/// Judges the rest of a head.
pub(super) fn asked(parts: &Parts, place: &Place) -> Result<Asked, (&'static str, String)> {
    let allowed = place.methods.allowed();
    let Some(method) = place.methods.find(&parts.method) else {
        let detail = format!("this is called by {}, not {}", allowed.replace(", ", " or "), parts.method);
        return Err(("method-not-allowed", detail));
    };
    let bad = |detail: String| ("bad-request", detail);
    if place.path.is_none() {
        return Err(bad("the path is not UTF-8".into()));
    }
    let (timeout, priority) = (timeout(&parts.headers).map_err(bad)?, priority(&parts.headers).map_err(bad)?);
    Ok(Asked { method, timeout, priority })
}

/// The call that a head makes.
pub(super) fn call(mut parts: Parts, place: Place, asked: Asked, head: &Head) -> Call {
    let Asked { method, timeout, priority } = asked;
    let Place { tenant, function, revision, path, .. } = place;
    let request = invocation::Request {
        method: method.into(),
        path: path.unwrap_or_default(),
        query: query(parts.uri.query().unwrap_or_default()),
        headers: headers(&parts.headers),
        ..invocation::Request::default()
    };
    let caller = parts.extensions.remove::<Caller>().unwrap_or_default();
    let (id, arrived, trace) = (head.id.clone(), head.arrived, head.trace);
    Call { id, tenant, function, revision, timeout, priority, arrived, trace, caller, afresh: false, request }
}

/// Tenant, function, and the path below the function, which is empty or begins with a slash.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let (tenant, rest) = path.strip_prefix(FUNCTIONS)?.split_once('/')?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (function, path) = rest.split_at(end);
    (!tenant.is_empty() && !function.is_empty()).then_some((tenant, function, path))
}

/// How long the caller would wait.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, String> {
    let Some(value) = headers.get("x-tenon-timeout-ms") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse::<u64>().ok()).filter(|number| *number > 0);
    match number {
        Some(milliseconds) => Ok(Some(Duration::from_millis(milliseconds))),
        None => Err("x-tenon-timeout-ms must be a whole number of milliseconds from 1".into()),
    }
}

/// How urgent it is; a caller may only lower it.
pub(super) fn priority(headers: &HeaderMap) -> Result<Priority, String> {
    match headers.get("x-tenon-priority").map(|value| value.as_bytes()) {
        None | Some(b"interactive") => Ok(Priority::Interactive),
        Some(b"batch") => Ok(Priority::Batch),
        Some(_) => Err("x-tenon-priority must be `interactive`, which it is without the header, or `batch`".into()),
    }
}

/// Names and values in the caller's order, decoded; what is not UTF-8 is replaced.
pub(super) fn query(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let spaces = text.replace('+', " ");
        percent_decode_str(&spaces).decode_utf8_lossy().into_owned()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// Header fields that are text and no credentials.
fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let shown = headers.iter().filter(|(name, _)| !HIDDEN.contains(name));
    let text = shown.filter_map(|(name, value)| {
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    text.collect()
}

/// The caller's own id where it is short and printable, so that logs of both sides meet; else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> Arc<str> {
    const MAX_ID_BYTES: usize = 128;
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    match given
        .filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        Some(id) => id.into(),
        None => uuid::Uuid::now_v7().to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_tenant_function_and_rest() {
        let found = |path: &str| {
            let Place { tenant, function, revision, path, .. } = place(path).unwrap();
            (tenant, function, revision.unwrap_or_default(), path.unwrap())
        };
        let told = |parts: [&str; 4]| (parts[0].into(), parts[1].into(), parts[2].into(), parts[3].into());
        assert_eq!(found("/v1/functions/demo/reranker"), told(["demo", "reranker", "", ""]));
        assert_eq!(found("/v1/functions/demo/a@3/b/../c"), told(["demo", "a", "3", "/b/../c"]));
        assert_eq!(found("/v1/functions/demo/a/%C3%A4"), told(["demo", "a", "", "/ä"]));
        assert_eq!(found("/v1/functions/demo/a/"), told(["demo", "a", "", "/"]));
        for none in ["/v1/functions/", "/v1/functions/demo", "/v1/functions/demo/", "/v1/functions//a", "/other/demo/a"]
        {
            assert_eq!(place(none), None, "{none}");
        }
        assert_eq!(place("/v1/functions/demo/a/%ff").unwrap().path, None);
    }

    #[test]
    fn what_is_called_by_one_method_is_not_called_by_another() {
        for (methods, get, post) in
            [(Methods::Both, true, true), (Methods::Get, true, false), (Methods::Post, false, true)]
        {
            assert_eq!([&Method::GET, &Method::POST].map(|method| methods.find(method).is_some()), [get, post]);
            for other in [Method::HEAD, Method::OPTIONS, Method::PUT] {
                assert_eq!(methods.find(&other), None);
            }
        }
    }

    #[test]
    fn a_query_is_decoded_in_order() {
        let pairs = query("a=1&b=%20x+y&a=2&&c&d=%ff");
        let expected = [("a", "1"), ("b", " x y"), ("a", "2"), ("c", ""), ("d", "\u{fffd}")];
        assert!(pairs.iter().map(|(name, value)| (&name[..], &value[..])).eq(expected));
    }

    #[test]
    fn a_bad_timeout_is_an_error_and_a_bad_id_is_replaced() {
        let with =
            |name: &'static str, value: &str| HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        assert_eq!(timeout(&with("x-tenon-timeout-ms", "250")), Ok(Some(Duration::from_millis(250))));
        for bad in ["0", "-1", "1.5", "", "soon", "99999999999999999999"] {
            assert!(timeout(&with("x-tenon-timeout-ms", bad)).is_err(), "{bad}");
        }
        assert_eq!(&*request_id(&with("x-request-id", "abc-1")), "abc-1");
        assert_ne!(&*request_id(&with("x-request-id", "a b")), "a b");
        assert_ne!(&*request_id(&with("x-request-id", &"a".repeat(129))), "a".repeat(129));
    }
}
