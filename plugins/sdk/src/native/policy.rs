//! Cache policies that a test can read.

use std::cell::RefCell;

/// What a policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// What makes two requests the same.
    pub key: Vec<Vec<u8>>,
    /// Request headers whose values do so too.
    pub headers: Vec<String>,
    /// How long an answer is fresh.
    pub ttl_ms: u64,
    /// How long after that it may be given while a new one is computed.
    pub stale_while_revalidate_ms: u64,
    /// How long after that it may be given if computing fails.
    pub stale_if_error_ms: u64,
    /// How long rejections are remembered.
    pub negative_ttl_ms: u64,
    /// Names under which the answer can be invalidated.
    pub tags: Vec<String>,
    /// Revisions that name the same class share answers.
    pub compatibility_class: Option<String>,
    /// Neither look up nor remember.
    pub bypass: bool,
}

/// How an answer may be remembered.
#[derive(Debug, Default)]
pub struct CachePolicy(RefCell<Remembered>);

impl CachePolicy {
    /// Remembers nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds to what makes two requests the same.
    pub fn key(&self, material: &[u8]) {
        self.0.borrow_mut().key.push(material.to_vec());
    }

    /// Adds the value of a request header to it.
    pub fn header(&self, name: &str) {
        self.0.borrow_mut().headers.push(name.to_owned());
    }

    /// How long an answer is fresh.
    pub fn ttl_ms(&self, ms: u64) {
        self.0.borrow_mut().ttl_ms = ms;
    }

    /// How long after that it may be given while a new one is computed.
    pub fn stale_while_revalidate_ms(&self, ms: u64) {
        self.0.borrow_mut().stale_while_revalidate_ms = ms;
    }

    /// How long after that it may be given if computing fails.
    pub fn stale_if_error_ms(&self, ms: u64) {
        self.0.borrow_mut().stale_if_error_ms = ms;
    }

    /// How long the plugin's own rejections are remembered.
    pub fn negative_ttl_ms(&self, ms: u64) {
        self.0.borrow_mut().negative_ttl_ms = ms;
    }

    /// Adds a name under which the answer can be invalidated.
    pub fn tag(&self, name: &str) {
        self.0.borrow_mut().tags.push(name.to_owned());
    }

    /// Revisions that name the same class share answers.
    pub fn compatibility_class(&self, name: &str) {
        self.0.borrow_mut().compatibility_class = Some(name.to_owned());
    }

    /// Neither look up nor remember this request.
    pub fn bypass(&self) {
        self.0.borrow_mut().bypass = true;
    }

    /// What it says so far: for tests.
    pub fn remembered(&self) -> Remembered {
        self.0.borrow().clone()
    }
}
