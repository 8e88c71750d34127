//! Paths that an operator mapped to functions: `[[route]]`. Old clients go on asking for what they always asked for.
//!
//! Owns the setting, its rules, and looking a path up: a table and no router, because a path is looked up before it is
//! known who asks (a 401 has the route's shape, too), and because what may stand beside the host's own paths is a rule with
//! an error that says why. Refuses to know requests.

use std::collections::HashMap;

use serde::Deserialize;

use super::incoming::{Methods, Place, decoded};
use crate::function::{ErrorShape, is_name};

/// One of them as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `/rerank`, exactly that; or `/old/{*rest}`, all that begins with `/old/` and goes on.
    pub path: String,
    /// `tenant/function`.
    pub function: String,
    /// The path that the function sees; the route's own, unless stated. Ends in `{*rest}` for what that stands for.
    pub to: Option<String>,
    /// By which methods it is called; both, unless stated.
    pub methods: Option<Vec<Method>>,
    /// How errors look; as the function says, unless stated.
    pub errors: Option<ErrorShape>,
}

/// A method by which functions are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    Post,
}

/// Routes of one host at most.
const MAX_ROUTES: usize = 256;
/// Bytes of a path.
const MAX_PATH_BYTES: usize = 256;
/// How a path ends that stands for all that begin like it.
const TAIL: &str = "{*rest}";
/// What is the host's own, with all that is below it. Of `/v2` only what the Open Inference Protocol names: `/v2/rerank` is
/// somebody else's.
const RESERVED: [&str; 12] = [
    "/v1/functions",
    "/v1/models",
    "/openapi.json",
    "/health",
    "/inference.GRPCInferenceService",
    "/v2/health",
    "/v2/models",
    "/v2/repository",
    "/v2/systemsharedmemory",
    "/v2/cudasharedmemory",
    "/v2/trace",
    "/v2/logging",
];

/// All routes, ready to be looked up.
#[derive(Debug, Default)]
pub struct Mapped {
    exact: HashMap<String, Line>,
    /// The longest first.
    tails: Vec<Line>,
}

/// One route.
#[derive(Debug)]
pub(super) struct Line {
    /// The path, without its tail if it has one.
    start: String,
    tail: bool,
    pub(super) tenant: String,
    pub(super) function: String,
    to: To,
    pub(super) methods: Methods,
    pub(super) errors: Option<ErrorShape>,
}

/// What the function sees as its path.
#[derive(Debug)]
enum To {
    /// The request's.
    Own,
    /// Always the same.
    Fixed(String),
    /// This, and what stands in the place of the tail.
    Below(String),
}

impl Mapped {
    /// Reads and checks; the error names the route.
    pub fn new(routes: &[Route]) -> Result<Self, String> {
        if routes.len() > MAX_ROUTES {
            return Err(format!("route: at most {MAX_ROUTES} routes, not {}", routes.len()));
        }
        let mut mapped = Self::default();
        for (index, route) in routes.iter().enumerate() {
            let name = format!("route {} (`{}`)", index + 1, shortened(&route.path));
            let line = Line::new(route).map_err(|reason| format!("{name}: {reason}"))?;
            if mapped.lines().any(|other| (&other.start, other.tail) == (&line.start, line.tail)) {
                return Err(format!("{name}: path is a second time the same"));
            }
            if line.tail {
                mapped.tails.push(line);
            } else {
                mapped.exact.insert(line.start.clone(), line);
            }
        }
        mapped.tails.sort_by(|one, other| other.start.len().cmp(&one.start.len()).then(one.start.cmp(&other.start)));
        Ok(mapped)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.tails.is_empty()
    }

    /// All of them.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.exact.values().chain(&self.tails)
    }

    /// The route of a path as a request has it: one that is exactly that, else the longest that goes on.
    pub(super) fn find(&self, path: &str) -> Option<&Line> {
        let goes_on = |line: &&Line| path.len() > line.start.len() && path.starts_with(&line.start);
        self.exact.get(path).or_else(|| self.tails.iter().find(goes_on))
    }
}

impl Line {
    fn new(route: &Route) -> Result<Self, String> {
        let (start, tail) = path("path", &route.path)?;
        if start == "/" && tail {
            return Err("path takes all there is, also what is the host's own".into());
        }
        let root = if tail { start.trim_end_matches('/') } else { start };
        if let Some(own) = owned(root, tail) {
            return Err(format!("path is the host's own, or would hide it: {own}"));
        }
        let (tenant, function) = match route.function.split_once('/') {
            Some((tenant, function)) if is_name(tenant) && is_name(function) => (tenant.into(), function.into()),
            _ => {
                let found = shortened(&route.function);
                return Err(format!("function is `tenant/function` (which revision, traffic says), not `{found}`"));
            }
        };
        let to = match route.to.as_deref() {
            None => To::Own,
            Some("") => To::Fixed(String::new()),
            Some(to) => match path("to", to)? {
                (_, true) if !tail => return Err(format!("to ends in {TAIL}, and path does not")),
                (start, true) => To::Below(start.into()),
                (all, false) => To::Fixed(all.into()),
            },
        };
        let methods = match route.methods.as_deref() {
            None => Methods::Both,
            Some([]) => return Err("methods is empty: nobody could call it".into()),
            Some(methods) => match (methods.contains(&Method::Get), methods.contains(&Method::Post)) {
                (true, false) => Methods::Get,
                (false, true) => Methods::Post,
                _ => Methods::Both,
            },
        };
        Ok(Self { start: start.into(), tail, tenant, function, to, methods, errors: route.errors })
    }

    /// The function, and the path that it sees of a request for `path`, which is this route's.
    pub(super) fn place(&self, path: &str) -> Place {
        let path = match &self.to {
            To::Own => decoded(path),
            To::Fixed(all) => Some(all.clone()),
            To::Below(start) => {
                decoded(path.strip_prefix(&*self.start).unwrap_or_default()).map(|rest| start.clone() + &rest)
            }
        };
        let (tenant, function) = (self.tenant.clone(), self.function.clone());
        Place { tenant, function, revision: None, path, methods: self.methods }
    }

    /// Whether it stands for more than one path.
    pub(super) fn has_tail(&self) -> bool {
        self.tail
    }

    /// As OpenAPI writes it.
    pub(super) fn shown(&self) -> String {
        if self.tail { format!("{}{{rest}}", self.start) } else { self.start.clone() }
    }
}

/// A path that is written plainly, and whether it ends in a tail, which is taken off.
fn path<'a>(key: &str, path: &'a str) -> Result<(&'a str, bool), String> {
    let (start, tail) = path.strip_suffix(TAIL).map_or((path, false), |start| (start, true));
    if path.len() > MAX_PATH_BYTES {
        return Err(format!("{key} has {} bytes, at most {MAX_PATH_BYTES}", path.len()));
    }
    if !start.starts_with('/') {
        return Err(format!("{key} begins with a slash"));
    }
    if tail && !start.ends_with('/') {
        return Err(format!("{key}: {TAIL} follows a slash"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
    if let Some(odd) = start.chars().find(|odd| !u8::try_from(*odd).is_ok_and(plain)) {
        let hint = if odd == '{' { format!("; it may end in `/{TAIL}`") } else { String::new() };
        return Err(format!("{key} has `{}`, which a path is written without{hint}", odd.escape_debug()));
    }
    let middle = start.split('/').skip(1);
    let count = middle.clone().count();
    if middle.enumerate().any(|(index, part)| part == "." || part == ".." || (part.is_empty() && index + 1 < count)) {
        return Err(format!("{key} has `//`, `/./` or `/../`, which clients take out on their way"));
    }
    Ok((start, tail))
}

/// What of the host's own a path is, or would hide with its tail.
fn owned(root: &str, tail: bool) -> Option<&'static str> {
    let below =
        |path: &str, root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if root.trim_end_matches('/') == "/v2" {
        return Some("/v2");
    }
    RESERVED.into_iter().find(|own| below(root, own) || (tail && below(own, root)))
}

/// What of a text is said back.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(80)]
}

#[cfg(test)]
mod tests;
