//! What is sent: one body or many in turn, and the head around it, made once before anything is measured.
//!
//! It reads files and flags under a bound and knows nothing of connections. Bodies are shared, not copied, however many
//! clients send them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

use super::flags::BodyFlags;
use super::form;
use super::goal::Endpoint;
use crate::client::BODY_BYTES_MAX;
use crate::failure::{Exit, Failure};
use crate::key;

/// Bodies of one run together: they stay in memory.
const ALL_BODIES_BYTES_MAX: u64 = 1 << 30;
/// Lines of a file of bodies.
const LINES_MAX: usize = 10_000_000;
const JSON: &str = "application/json";

/// The requests of a run, to be asked for by number.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    /// Never empty.
    bodies: Vec<Bytes>,
    /// `file`, `data`, `form`, `jsonl` or `none`.
    pub(super) kind: &'static str,
}

impl Requests {
    /// Reads what the flags name.
    pub(super) fn new(flags: &BodyFlags, endpoint: &Endpoint, http2: bool) -> Result<Self, Failure> {
        let (kind, bodies, guessed) = bodies(flags)?;
        let mut headers: HeaderMap = flags.header.iter().cloned().collect();
        let usage = |what: String| Failure::new(Exit::Usage, what);
        if !http2 {
            let host = HeaderValue::from_str(&endpoint.authority);
            headers.insert(header::HOST, host.map_err(|error| usage(format!("`{}`: {error}", endpoint.authority)))?);
        }
        let agent = concat!("tenon-bench/", env!("CARGO_PKG_VERSION"));
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(agent));
        if let Some(kind) = flags.content_type.clone().or(guessed) {
            headers.entry(header::CONTENT_TYPE).or_insert(kind);
        }
        if let Some(key) = key_of(flags, endpoint)? {
            headers.insert(header::AUTHORIZATION, key::bearer(&key)?);
        }
        // HTTP/2 has scheme and authority in its own fields, HTTP/1.1 wants the path alone.
        let uri = if http2 { &endpoint.url } else { &endpoint.path };
        let uri = uri.parse().map_err(|error| usage(format!("`{uri}` is not an address: {error}")))?;
        let method = flags.method.clone().unwrap_or(if kind == "none" { Method::GET } else { Method::POST });
        let version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        Ok(Self { method, uri, version, headers, bodies, kind })
    }

    /// The request of this number; bodies come in turn. Its body's length, too.
    pub(super) fn request(&self, number: u64) -> (Request<Full<Bytes>>, u64) {
        let body = self.bodies[(number % self.bodies.len() as u64) as usize].clone();
        let length = body.len() as u64;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        (request, length)
    }

    /// How many bodies there are, and their bytes together.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.bodies.len() as u64, self.bodies.iter().map(|body| body.len() as u64).sum())
    }
}

/// The flag's key goes anywhere, the variable's to functions of the host alone: a URL may be anybody's, and who set the
/// variable once did not mean them.
fn key_of(flags: &BodyFlags, endpoint: &Endpoint) -> Result<Option<String>, Failure> {
    if flags.key.is_some() || !endpoint.own {
        return Ok(flags.key.clone());
    }
    key::given()
}

type Bodies = (&'static str, Vec<Bytes>, Option<HeaderValue>);

fn bodies(flags: &BodyFlags) -> Result<Bodies, Failure> {
    if let Some(text) = &flags.data {
        let kind = if is_json(text.as_bytes()) { JSON } else { "text/plain; charset=utf-8" };
        return Ok(("data", vec![text.clone().into()], Some(HeaderValue::from_static(kind))));
    }
    if let Some(path) = &flags.body {
        let body = read(path)?;
        let kind = if is_json(&body) { JSON } else { form::type_of(path) };
        return Ok(("file", vec![body.into()], Some(HeaderValue::from_static(kind))));
    }
    if let Some(path) = &flags.jsonl {
        let mut lines = lines(path)?;
        if let Some(seed) = flags.shuffle {
            fastrand::Rng::with_seed(seed).shuffle(&mut lines);
        }
        return Ok(("jsonl", lines, Some(HeaderValue::from_static(JSON))));
    }
    if !flags.form.is_empty() {
        let (body, kind) = form::encode(&flags.form)?;
        return Ok(("form", vec![body.into()], Some(kind)));
    }
    Ok(("none", vec![Bytes::new()], None))
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// Every line is a body, and is JSON: a wrong line would be found only as a rate of errors that nobody can explain.
fn lines(path: &Path) -> Result<Vec<Bytes>, Failure> {
    let whole = Bytes::from(read_up_to(path, ALL_BODIES_BYTES_MAX)?);
    let mut bodies = Vec::new();
    for (number, line) in whole.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let wrong = |what: String| Failure::new(Exit::Usage, format!("{}:{}: {what}", path.display(), number + 1));
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(line) {
            return Err(wrong(format!("this line is not JSON: {error}")).hint("--jsonl wants one JSON body per line"));
        }
        if bodies.len() == LINES_MAX {
            return Err(wrong(format!("more than {LINES_MAX} lines")));
        }
        bodies.push(whole.slice_ref(line));
    }
    if bodies.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("{} holds no body", path.display())));
    }
    Ok(bodies)
}

/// A file's bytes under the limit for one body.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    read_up_to(path, BODY_BYTES_MAX)
}

fn read_up_to(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: io::Error| {
        Failure::new(Exit::Usage, format!("cannot read the body from {}: {error}", path.display()))
            .hint("give a readable file (`-` for standard input)")
    };
    let mut body = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().lock().take(limit + 1).read_to_end(&mut body).map_err(unreadable)?;
    } else {
        File::open(path).map_err(unreadable)?.take(limit + 1).read_to_end(&mut body).map_err(unreadable)?;
    }
    if body.len() as u64 > limit {
        return Err(Failure::new(Exit::Usage, format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(body)
}

/// Reads `NAME:VALUE`; what HTTP or this program sets itself is refused.
pub(super) fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    crate::invoke::parse_header(text)
}
