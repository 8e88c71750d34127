//! How hosts tell each other of changes.
//!
//! Vocabulary: the cache's room, which speaks to Redis, implements it, and whoever changes something uses it.

/// Something that hosts tell each other. It may get lost, and anybody who may write to Redis may have said it: a reason to
/// look sooner, never something to rely on.
pub trait Announce: Send + Sync {
    /// Tells the others, as far as they can be told now. A topic has no colon in it.
    fn announce(&self, topic: &'static str, text: &str);
}
