//! What `tenon bench` drives: a function of the host, or any URL, so that other servers are measured by the same tool.
//!
//! It knows addresses and nothing of what is sent there.

use std::net::{SocketAddr, ToSocketAddrs as _};

use hyper::http::Uri;
use hyper::http::uri::Scheme;
use rustls::pki_types::ServerName;

use crate::client::Host;
use crate::failure::{Exit, Failure};
use crate::target::Target;

/// What was given on the command line.
#[derive(Clone, Debug)]
pub(super) enum Goal {
    /// `<tenant>/<function>[/path]`, to be asked of `--host`.
    Function(Target),
    /// A whole address.
    Url(Uri),
}

/// Where connections go, and what is asked there.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// The whole address, for people and saved runs.
    pub(super) url: String,
    /// `host:port` for the `host` header.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
    /// The first address that the name resolves to: every connection goes to the same one, and no cell pays for
    /// looking it up.
    pub(super) address: SocketAddr,
    /// A function of the host: what is meant for the host may go there.
    pub(super) own: bool,
    /// For `https://` the name that the certificate has to be for.
    pub(super) secure: Option<ServerName<'static>>,
}

/// The port of `http://` where none is named.
const HTTP_PORT: u16 = 80;
/// The port of `https://` where none is named.
const HTTPS_PORT: u16 = 443;

impl Goal {
    /// Reads a function's name or a URL; the error is a sentence that names the place.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            return Target::parse(text).map(Self::Function);
        }
        let uri: Uri = text.parse().map_err(|error| format!("`{text}` is not a URL: {error}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(format!("`{text}`: only http:// and https:// are driven here"));
        }
        match uri.host() {
            None | Some("") => Err(format!("`{text}` names no host")),
            Some(_) => Ok(Self::Url(uri)),
        }
    }

    /// Finds the address, once.
    pub(super) fn resolve(&self, host: &Host) -> Result<Endpoint, Failure> {
        let url = match self {
            Self::Function(target) => format!("{}{}", host.base(), target.path()),
            Self::Url(uri) => uri.to_string(),
        };
        let uri: Uri =
            url.parse().map_err(|error| Failure::new(Exit::Usage, format!("`{url}` is not a URL: {error}")))?;
        let authority = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        if authority.contains('@') {
            // Not repeated here, nor in what is saved.
            return Err(Failure::new(Exit::Usage, "the address has a name or password before its host").hint(
                "leave out what stands before the `@`; --key, or --header 'authorization: …', sends credentials",
            ));
        }
        let name = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = (uri.scheme() == Some(&Scheme::HTTPS)).then(|| ServerName::try_from(name.clone()));
        let secure = secure.transpose().map_err(|error| {
            Failure::new(Exit::Usage, format!("no certificate can be for the name in {url}: {error}"))
        })?;
        let port = uri.port_u16().unwrap_or(if secure.is_some() { HTTPS_PORT } else { HTTP_PORT });
        let unknown = |why: String| {
            Failure::new(Exit::Environment, format!("the name in {url} does not resolve{why}"))
                .hint("check the URL, or --host and TENON_HOST")
        };
        let mut found = (name.as_str(), port).to_socket_addrs().map_err(|error| unknown(format!(": {error}")))?;
        let address = found.next().ok_or_else(|| unknown(String::new()))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Endpoint { url, authority, path, address, own: matches!(self, Self::Function(_)), secure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_urls_become_endpoints() {
        let host = Host::parse("127.0.0.1:9").unwrap();
        for (text, url, path, port) in [
            ("demo/echo/a?b=1", "http://127.0.0.1:9/v1/functions/demo/echo/a?b=1", "/v1/functions/demo/echo/a?b=1", 9),
            ("http://127.0.0.1:81/x", "http://127.0.0.1:81/x", "/x", 81),
            ("http://[::1]", "http://[::1]/", "/", HTTP_PORT),
            ("https://[::1]", "https://[::1]/", "/", HTTPS_PORT),
            ("HTTPS://127.0.0.1:82/x", "https://127.0.0.1:82/x", "/x", 82),
        ] {
            let endpoint = Goal::parse(text).unwrap().resolve(&host).unwrap();
            assert_eq!((endpoint.url.as_str(), endpoint.path.as_str(), endpoint.address.port()), (url, path, port));
            assert_eq!(endpoint.secure.is_some(), url.starts_with("https"), "{url}");
            assert_eq!(endpoint.own, text.starts_with("demo"), "{url}");
        }
        let host = Host::parse("https://127.0.0.1:9").unwrap();
        assert!(Goal::parse("demo/echo").unwrap().resolve(&host).unwrap().secure.is_some());
        for text in ["demo", "ftp://x/", "http:///x", "https:///x"] {
            assert!(Goal::parse(text).is_err(), "{text}");
        }
    }
}
