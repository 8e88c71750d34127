//! What `tenon invoke` is asked to call: `<tenant>/<function>[@revision][/path][?query]`, read into the path of
//! the data plane.
//!
//! It refuses what cannot be a name before anything is sent, because the host could only answer 404 to it; it
//! does not know which functions exist.

use std::fmt::{self, Write as _};

/// A function to be invoked, as a path of the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The owner.
    pub(crate) tenant: String,
    /// The function, with `@revision` where one was named.
    pub(crate) function: String,
    /// The rest, percent-encoded where needed: empty, or beginning with `/` or `?`.
    pub(crate) rest: String,
}

/// What may follow the function's name unencoded (RFC 3986: pchar, `/`, `?`, and `%` of what is encoded already).
const PLAIN: &str = "-._~!$&'()*+,;=:@/?%";

const PREFIX: &str = "v1/functions/";

impl Target {
    /// Reads a target; the error is a sentence that names the place.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err(format!("`{text}` is a URL; write <tenant>/<function> here and give the server with --host"));
        }
        // Pasted from a curl line: the meaning is clear, so take it.
        let text = text.trim_start_matches('/');
        let text = text.strip_prefix(PREFIX).unwrap_or(text);
        let end = text.find('?').unwrap_or(text.len());
        let (path, query) = text.split_at(end);
        let mut parts = path.splitn(3, '/');
        let tenant = parts.next().unwrap_or_default();
        let Some(function) = parts.next() else {
            return Err(format!("`{text}` names no function; write <tenant>/<function>, such as demo/reranker"));
        };
        name("tenant", tenant)?;
        let (bare, revision) = match function.split_once('@') {
            Some((bare, revision)) => (bare, Some(revision)),
            None => (function, None),
        };
        name("function", bare)?;
        if let Some(revision) = revision
            && (revision.is_empty() || !revision.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(format!("revision `{revision}` is not a number; write {bare}@3"));
        }
        let mut rest = String::new();
        if let Some(path) = parts.next() {
            rest.push('/');
            rest.push_str(&encode(path));
        }
        rest.push_str(&encode(query));
        Ok(Self { tenant: tenant.to_owned(), function: function.to_owned(), rest })
    }

    /// The path and query on the data plane.
    pub(crate) fn path(&self) -> String {
        format!("/{PREFIX}{}/{}{}", self.tenant, self.function, self.rest)
    }
}

/// A function by its two names, for what is asked about it and not of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// The owner.
    pub(crate) tenant: String,
    /// The function.
    pub(crate) function: String,
}

impl Name {
    /// Reads `<tenant>/<function>`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Target { tenant, function, rest } = Target::parse(text)?;
        if !rest.is_empty() || function.contains('@') {
            return Err(format!("write {tenant}/{} alone", function.split('@').next().unwrap_or_default()));
        }
        Ok(Self { tenant, function })
    }

    /// Where the control plane has it, with `rest` behind.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/admin/v1/functions/{}/{}{rest}", self.tenant, self.function)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.function)
    }
}

/// Reads a tenant's name.
pub(crate) fn parse_tenant(text: &str) -> Result<String, String> {
    name("tenant", text).map(|()| text.to_owned())
}

/// Percent-encodes a value of a query, or a piece of a path.
pub(crate) fn encode_value(text: &str) -> String {
    encoded(text, "-._~")
}

fn name(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("the {what} is empty; write <tenant>/<function>, such as demo/reranker"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
        return Err(format!("the {what} `{text}` contains {bad:?}; names have letters, digits, `-`, `_` and `.`"));
    }
    if text.chars().all(|c| c == '.') {
        return Err(format!("the {what} `{text}` is not a name"));
    }
    Ok(())
}

fn encode(text: &str) -> String {
    encoded(text, PLAIN)
}

fn encoded(text: &str, plain: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || plain.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_become_paths() {
        for (text, path) in [
            ("demo/reranker", "/v1/functions/demo/reranker"),
            ("demo/reranker@12", "/v1/functions/demo/reranker@12"),
            ("demo/reranker/a/b?x=1&y=2", "/v1/functions/demo/reranker/a/b?x=1&y=2"),
            ("demo/reranker?x=1/2", "/v1/functions/demo/reranker?x=1/2"),
            ("demo/reranker/", "/v1/functions/demo/reranker/"),
            ("/v1/functions/demo/reranker", "/v1/functions/demo/reranker"),
            ("a.b_c/d-e/ü x?q=%20 #", "/v1/functions/a.b_c/d-e/%C3%BC%20x?q=%20%20%23"),
        ] {
            assert_eq!(Target::parse(text).expect(text).path(), path);
        }
    }

    #[test]
    fn a_name_is_a_function_alone() {
        let name = Name::parse("demo/reranker").unwrap();
        assert_eq!(name.path("/traffic"), "/admin/v1/functions/demo/reranker/traffic");
        for text in ["demo", "demo/x@3", "demo/x/y", "demo/x?y"] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
        assert_eq!(encode_value("a b&c=%ü"), "a%20b%26c%3D%25%C3%BC");
    }

    #[test]
    fn refusals_name_the_place() {
        for (text, part) in [
            ("", "names no function"),
            ("demo", "names no function"),
            ("demo?x=1/2", "names no function"),
            ("demo/", "function is empty"),
            ("/demo//x", "function is empty"),
            ("../reranker", "tenant `..` is not a name"),
            ("de mo/reranker", "contains ' '"),
            ("demo/rer%61nker", "contains '%'"),
            ("demo/reranker@latest", "revision `latest` is not a number"),
            ("demo/reranker@", "revision `` is not a number"),
            ("http://127.0.0.1:8080/v1/functions/demo/x", "give the server with --host"),
        ] {
            let error = Target::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
