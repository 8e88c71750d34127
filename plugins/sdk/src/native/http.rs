//! Requests that a test writes and answers that it reads.

use std::cell::RefCell;

use super::Failure;

/// One HTTP request; every field may be set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The HTTP method in upper case.
    pub method: String,
    /// The path below the function's name.
    pub path: String,
    /// The query's names and values.
    pub query: Vec<(String, String)>,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The tenant that owns the function.
    pub tenant: String,
    /// The body.
    pub body: Vec<u8>,
    /// Milliseconds until the deadline.
    pub time_left_ms: u64,
}

impl Request {
    /// A `POST` with this body.
    pub fn post(body: impl Into<Vec<u8>>) -> Self {
        Request { method: "POST".to_owned(), body: body.into(), ..Request::default() }
    }

    /// The HTTP method in upper case.
    pub fn method(&self) -> String {
        self.method.clone()
    }

    /// The path below the function's name: empty, or starting with `/`.
    pub fn path(&self) -> String {
        self.path.clone()
    }

    /// The query's names and values, in order.
    pub fn query(&self) -> Vec<(String, String)> {
        self.query.clone()
    }

    /// The first value of a header; `name` in any case.
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(candidate, _)| candidate.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }

    /// All headers.
    pub fn headers(&self) -> Vec<(String, String)> {
        self.headers.clone()
    }

    /// The tenant that owns the function.
    pub fn tenant(&self) -> String {
        self.tenant.clone()
    }

    /// The size of the body in bytes.
    pub fn body_size(&self) -> u64 {
        self.body.len() as u64
    }

    /// The whole body.
    pub fn body(&self) -> Vec<u8> {
        self.body.clone()
    }

    /// `length` bytes from `offset` on; fewer where the body ends earlier.
    pub fn read_body(&self, offset: u64, length: u64) -> Vec<u8> {
        let size = self.body.len() as u64;
        let start = offset.min(size);
        let end = offset.saturating_add(length).min(size);
        self.body[start as usize..end as usize].to_vec()
    }

    /// Milliseconds until the deadline.
    pub fn time_left_ms(&self) -> u64 {
        self.time_left_ms
    }
}

/// What an answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: String,
    /// Further headers, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// One HTTP answer.
#[derive(Debug)]
pub struct Response(RefCell<Sent>);

impl Response {
    /// An answer without a body.
    pub fn new(status: u16, content_type: &str) -> Self {
        let content_type = content_type.to_owned();
        Response(RefCell::new(Sent { status, content_type, headers: Vec::new(), body: Vec::new() }))
    }

    /// Adds a header.
    pub fn header(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.0.borrow_mut().headers.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Adds bytes to the end of the body.
    pub fn write(&self, data: &[u8]) -> Result<(), Failure> {
        self.0.borrow_mut().body.extend_from_slice(data);
        Ok(())
    }

    /// What it holds so far: for tests.
    pub fn sent(&self) -> Sent {
        self.0.borrow().clone()
    }
}
