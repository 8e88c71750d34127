//! HTTP as the command line speaks it: one blocking request, one bounded answer, every wait limited.
//!
//! It knows that an answer comes from a Tenon, and turns everything that is not an answer into a failure with a
//! hint; it does not know what the answers mean. Blocking, because a command does one thing at a time.

use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ureq::config::ConfigBuilder;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body};

use crate::failure::{Exit, Failure};
use crate::trust::{self, Trust};

/// Where a host listens when nothing else is said.
pub(crate) const DEFAULT_HOST: &str = "http://127.0.0.1:8080";
/// The largest body that is sent or kept of an answer.
pub(crate) const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The longest wait for a whole answer when the caller gives no timeout of its own.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest wait for a connection: a host that takes longer is as good as not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The address of a host's plane.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    base: String,
    loopback: bool,
    trust: Trust,
}

/// What is asked of a host.
pub(crate) struct Question {
    /// GET, DELETE, or what carries a body.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// Headers beside those that HTTP itself needs.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The body of a POST or PUT.
    pub(crate) body: Vec<u8>,
    /// The longest wait for the whole answer; of a stream, for the next of its bytes.
    pub(crate) timeout: Duration,
}

/// What a Tenon said.
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Vec<u8>,
    /// Seen from here: connecting, sending, waiting, receiving.
    pub(crate) elapsed: Duration,
}

impl Question {
    /// A GET without further headers.
    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: ANSWER_TIMEOUT,
        }
    }
}

impl Answer {
    /// A header's text, when it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the body says that it is JSON (`application/json`, `application/problem+json`).
    pub(crate) fn is_json(&self) -> bool {
        let kind = self.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind == "application/json" || kind.ends_with("+json")
    }

    /// Every answer of a Tenon has an id or is a problem document; a web server that happens to sit on the port does not.
    fn is_from_tenon(&self) -> bool {
        let problem = self.header("content-type").is_some_and(|kind| kind.starts_with("application/problem+json"));
        problem || self.headers.contains_key("x-request-id")
    }
}

impl Host {
    /// Reads an address such as `http://127.0.0.1:8080` or `127.0.0.1:8080`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('/');
        let base = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = base.parse().map_err(|error| format!("`{text}` is not an address: {error}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(format!("`{text}` begins with neither http:// nor https://"));
        }
        let name = uri.host().unwrap_or_default();
        if name.is_empty() {
            return Err(format!("`{text}` names no host"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("`{text}` has a path; give only scheme, host and port"));
        }
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let loopback = name == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        Ok(Self { base, loopback, trust: Trust::default() })
    }

    /// The same host, believed on the word of `trust`.
    pub(crate) fn trusting(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Who is believed about this host.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The address as it was understood.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// `host:port` of the address.
    pub(crate) fn authority(&self) -> &str {
        self.base.split_once("://").map_or(&self.base[..], |(_, authority)| authority)
    }

    /// Whether the host is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Asks and waits for the whole answer, which is one of a Tenon.
    pub(crate) fn ask(&self, question: Question) -> Result<Answer, Failure> {
        let timeout = question.timeout;
        let began = Instant::now();
        let answer = self.send(question, began).map_err(|error| self.failure(&error, timeout))?;
        if answer.is_from_tenon() {
            return Ok(answer);
        }
        let server = answer.header("server").map(|name| format!(" (server: {name})")).unwrap_or_default();
        let message = format!("what answers at {} is not a Tenon: status {}{server}", self.base, answer.status);
        Err(Failure::new(Exit::Environment, message).hint("give the host's address with --host or TENON_HOST"))
    }

    /// Asks, and gives an answer that is good as it comes; any other is whole.
    pub(crate) fn stream(&self, question: Question) -> Result<Result<impl BufRead + use<>, Answer>, Failure> {
        let (timeout, began) = (question.timeout, Instant::now());
        let config = self.config().timeout_per_read(Some(timeout)).timeout_recv_response(Some(timeout));
        let response =
            self.sent(config.build().new_agent(), question).map_err(|error| self.failure(&error, timeout))?;
        if response.status().is_success() && response.headers().contains_key("x-request-id") {
            return Ok(Ok(BufReader::new(response.into_body().into_reader())));
        }
        whole(response, began).map(Err).map_err(|error| self.failure(&error, timeout))
    }

    fn send(&self, question: Question, began: Instant) -> Result<Answer, ureq::Error> {
        let agent = self.config().timeout_global(Some(question.timeout)).build().new_agent();
        whole(self.sent(agent, question)?, began)
    }

    fn config(&self) -> ConfigBuilder<AgentScope> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .tls_config(self.trust.tls())
            .user_agent(concat!("tenon/", env!("CARGO_PKG_VERSION")));
        // A proxy of the environment cannot reach this machine's loopback.
        if self.loopback { config.proxy(None) } else { config }
    }

    fn sent(&self, agent: Agent, question: Question) -> Result<Response<Body>, ureq::Error> {
        let bare = question.body.is_empty() && matches!(question.method, Method::GET | Method::DELETE);
        let mut request = Request::builder().method(question.method).uri(format!("{}{}", self.base, question.path));
        for (name, value) in question.headers {
            request = request.header(name, value);
        }
        if bare { agent.run(request.body(())?) } else { agent.run(request.body(question.body)?) }
    }

    fn failure(&self, error: &ureq::Error, timeout: Duration) -> Failure {
        let base = &self.base;
        let environment = |message: String| Failure::new(Exit::Environment, message);
        if let Some(failure) = trust::failure(error, base) {
            return failure;
        }
        match error {
            ureq::Error::Io(io) if io.kind() == io::ErrorKind::ConnectionRefused => {
                environment(format!("nothing listens at {base}"))
                    .hint("start a host with `tenon serve`, or name another with --host or TENON_HOST")
            }
            ureq::Error::HostNotFound => {
                environment(format!("the name in {base} does not resolve")).hint("check --host and TENON_HOST")
            }
            ureq::Error::Timeout(ureq::Timeout::Connect) => {
                environment(format!("no connection to {base} within {} s", CONNECT_TIMEOUT.as_secs()))
                    .hint("check the address, and that no firewall stands between")
            }
            ureq::Error::Timeout(_) => {
                Failure::new(Exit::Capacity, format!("no answer from {base} within {} ms", timeout.as_millis()))
                    .hint("see whether the host is busy (`tenon doctor`), or wait longer with --timeout-ms")
            }
            ureq::Error::Protocol(_) => environment(format!("what answers at {base} does not speak HTTP: {error}"))
                .hint("give the host's address with --host or TENON_HOST"),
            ureq::Error::BodyExceedsLimit(_) => {
                Failure::new(Exit::Function, format!("the answer is larger than {BODY_BYTES_MAX} bytes"))
                    .hint("ask for less, or fetch it with a tool that streams")
            }
            _ => environment(format!("asking {base} failed: {error}"))
                .hint("`tenon doctor` says what is wrong on this machine"),
        }
    }
}

fn whole(response: Response<Body>, began: Instant) -> Result<Answer, ureq::Error> {
    let (head, body) = response.into_parts();
    let body = body.into_with_config().limit(BODY_BYTES_MAX).read_to_vec()?;
    Ok(Answer { status: head.status, headers: head.headers, body, elapsed: began.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_a_scheme() {
        for (text, base, loopback) in [
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080", true),
            ("localhost:9000", "http://localhost:9000", true),
            ("http://[::1]:8080", "http://[::1]:8080", true),
            ("http://gpu-1.example:80", "http://gpu-1.example:80", false),
            ("https://gpu-1.example", "https://gpu-1.example", false),
        ] {
            let host = Host::parse(text).expect(text);
            assert_eq!((host.base(), host.is_loopback()), (base, loopback));
        }
        for text in ["", "https://x/y", "ftp://x", "http://x/y", "http://x?y", "http://:80", "a b"] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
    }
}
