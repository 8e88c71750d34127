//! What a head may not say although hyper lets it pass: ambiguities that two programs on a request's way could read in
//! two ways, which is how one caller's request becomes part of another's.
//!
//! Refuses to know what the request is for: both planes and every path are judged alike.

use axum::http::{HeaderMap, HeaderName, Request, Uri, Version, header, uri::Authority};

/// Fields of which there is one, or the second would be a matter of taste.
const SINGLE: [HeaderName; 5] = [
    header::HOST,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("x-tenon-timeout-ms"),
    HeaderName::from_static("x-tenon-priority"),
];

/// What is wrong with a head, as its caller is told.
pub(super) fn flaw<B>(request: &Request<B>) -> Option<String> {
    let headers = request.headers();
    if let Some(name) = SINGLE.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        return Some(format!("the header {name} is there more than once"));
    }
    if request.version() == Version::HTTP_11 && !headers.contains_key(header::HOST) {
        return Some("HTTP/1.1 wants a Host header".into());
    }
    let path = request.uri().path();
    if !path.starts_with('/') && path != "*" {
        return Some("the request's target has no path".into());
    }
    if two_hosts(request.uri(), headers) {
        return Some("the Host header names another host than the request's target".into());
    }
    transfer(headers)
}

/// HTTP/2 names the host in `:authority`, HTTP/1.1 may do so in its target, and either may have a `Host` as well.
fn two_hosts(uri: &Uri, headers: &HeaderMap) -> bool {
    let (Some(target), Some(host)) = (uri.authority(), headers.get(header::HOST)) else { return false };
    let Ok(host) = Authority::try_from(host.as_bytes()) else { return true };
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
    // A user in front is in no host's name.
    target.as_str().contains('@')
        || host.as_str().contains('@')
        || !target.host().eq_ignore_ascii_case(host.host())
        || port(target) != port(&host)
}

/// hyper reads bodies that end in `chunked`; whatever lies below would reach a function undecoded.
fn transfer(headers: &HeaderMap) -> Option<String> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next()?;
    let plain = first.to_str().is_ok_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"));
    (!plain || codings.next().is_some())
        .then(|| "the only transfer-encoding that is understood is chunked, once".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flawed(target: &str, version: Version, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().uri(target).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        flaw(&request.body(()).unwrap()).is_some()
    }

    #[test]
    fn ambiguous_heads_are_flawed() {
        let host = ("host", "a");
        for headers in [
            &[][..],
            &[host, host],
            &[host, ("content-type", "a"), ("content-type", "a")],
            &[host, ("authorization", "Bearer a"), ("authorization", "Bearer b")],
            &[host, ("x-tenon-timeout-ms", "1"), ("x-tenon-timeout-ms", "2")],
            &[host, ("transfer-encoding", "gzip, chunked")],
            &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert!(flawed("/", Version::HTTP_11, headers), "{headers:?}");
        }
        assert!(flawed("a:1", Version::HTTP_11, &[host]));
    }

    #[test]
    fn a_host_is_named_once_or_twice_the_same() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            for (target, host) in [("http://a/", "b"), ("http://a/", "a:81"), ("http://a@b/", "b"), ("http://a/", "")] {
                assert!(flawed(target, version, &[("host", host)]), "{target} {host}");
            }
            for (target, host) in
                [("http://a/", "A"), ("http://a:80/", "a"), ("https://a:443/", "a"), ("http://[::1]:8/", "[::1]:8")]
            {
                assert!(!flawed(target, version, &[("host", host)]), "{target} {host}");
            }
        }
    }

    #[test]
    fn others_are_fine() {
        let chunked = ("transfer-encoding", "Chunked");
        assert!(!flawed("/", Version::HTTP_11, &[("host", "a"), chunked, ("x-a", "1"), ("x-a", "2")]));
        assert!(!flawed("/", Version::HTTP_10, &[]) && !flawed("http://a/", Version::HTTP_2, &[]));
        assert!(!flawed("*", Version::HTTP_11, &[("host", "a")]));
    }
}
