//! What hosts tell each other through Redis, as text. Owns its forms; refuses to know who says it and what follows.
//!
//! Texts and not bytes, so that an operator can read them. They come from outside: whatever has not exactly the form of
//! one of these is none, and nothing is taken from it.

use super::{ScopeId, hex};

/// Beyond it numbers are not exact in Redis' scores and scripts: none is believed, so that none is the last one.
pub(super) const MOST: u64 = 1 << 52;
/// Scopes of one invalidation; more are told in several.
pub(super) const SCOPES: usize = 64;
/// The longest announcement.
pub(super) const ANNOUNCEMENT_BYTES: usize = 32 << 10;
/// The longest text of all, which is an announcement with what stands before it.
pub(super) const TEXT_BYTES: usize = ANNOUNCEMENT_BYTES + 256;

/// A random number that tells hosts, or lists of invalidations, from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(u64);

impl Id {
    /// Another one each time. It need not be hard to guess: whoever may write to Redis needs no guesses.
    pub(super) fn random() -> Self {
        use std::hash::{BuildHasher as _, Hasher as _};
        Self(std::collections::hash_map::RandomState::new().build_hasher().finish())
    }

    #[cfg(test)]
    pub(super) fn of(id: u64) -> Self {
        Self(id)
    }

    pub(super) fn text(self) -> String {
        format!("{:016x}", self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok())?.map(Self)
    }
}

/// The beginning of a list of invalidations: since when it is complete is its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// Which list it is.
    pub(super) list: Id,
    /// Which one was lost before it, and up to where whoever began this one had heard that.
    pub(super) before: Option<(Id, u64)>,
}

impl Marker {
    pub(super) fn text(&self) -> String {
        match self.before {
            Some((list, last)) => format!("m:{}:{}:{last}", self.list.text(), list.text()),
            None => format!("m:{}", self.list.text()),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("m:")?.split(':');
        let list = Id::parse(parts.next()?)?;
        let before = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => None,
            (Some(before), Some(last), None) => Some((Id::parse(before)?, number(last)?)),
            _ => return None,
        };
        Some(Self { list, before })
    }
}

/// An invalidation, as it stands in the list and is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalidation {
    /// The list that the number is of.
    pub(super) list: Id,
    pub(super) seq: u64,
    pub(super) sender: Id,
    pub(super) scopes: Vec<ScopeId>,
}

impl Invalidation {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("i:")?.split(':');
        let (list, seq) = (Id::parse(parts.next()?)?, number(parts.next()?)?);
        let (sender, scopes) = (Id::parse(parts.next()?)?, parse_scopes(parts.next()?)?);
        parts.next().is_none().then_some(Self { list, seq, sender, scopes })
    }
}

/// What comes on the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Invalidation(Invalidation),
    /// There is another list.
    List(Id),
    Announcement {
        sender: Id,
        topic: String,
        text: String,
    },
}

impl Message {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= TEXT_BYTES)?;
        match text.get(..2)? {
            "i:" => Invalidation::parse(text).map(Self::Invalidation),
            "l:" => Id::parse(&text[2..]).map(Self::List),
            "a:" => {
                let mut parts = text[2..].splitn(3, ':');
                let sender = Id::parse(parts.next()?)?;
                let (topic, text) = (parts.next()?.to_owned(), parts.next()?.to_owned());
                Some(Self::Announcement { sender, topic, text })
            }
            _ => None,
        }
    }
}

/// The text of an announcement, if it may be one.
pub(super) fn announcement(sender: Id, topic: &str, text: &str) -> Option<String> {
    let text = format!("a:{}:{topic}:{text}", sender.text());
    (!topic.contains(':') && text.len() <= ANNOUNCEMENT_BYTES).then_some(text)
}

pub(super) fn scopes_text(scopes: &[ScopeId]) -> String {
    scopes.iter().map(|scope| hex(scope.as_bytes())).collect()
}

fn parse_scopes(text: &str) -> Option<Vec<ScopeId>> {
    const DIGITS: usize = 2 * ScopeId::BYTES;
    let sound = !text.is_empty() && text.len().is_multiple_of(DIGITS) && text.len() <= SCOPES * DIGITS;
    if !sound || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let scope = |digits: &[u8]| {
        let mut bytes = [0; ScopeId::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(ScopeId::from_bytes(bytes))
    };
    text.as_bytes().chunks_exact(DIGITS).map(scope).collect()
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number <= MOST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(list: u64, before: Option<(u64, u32)>, seq in 0..=MOST, sender: u64,
                                   scopes in proptest::collection::vec(any::<[u8; 16]>(), 1..=SCOPES)) {
            let before = before.map(|(list, last)| (Id(list), u64::from(last)));
            let marker = Marker { list: Id(list), before };
            prop_assert_eq!(Marker::parse(&marker.text()), Some(marker));
            let scopes: Vec<_> = scopes.into_iter().map(ScopeId::from_bytes).collect();
            let text = format!("i:{}:{seq}:{}:{}", Id(list).text(), Id(sender).text(), scopes_text(&scopes));
            let wanted = Invalidation { list: Id(list), seq, sender: Id(sender), scopes };
            prop_assert_eq!(Message::parse(text.as_bytes()), Some(Message::Invalidation(wanted)));
        }

        #[test]
        fn anything_else_is_nothing_and_harms_nothing(text: String, bytes: Vec<u8>, kind in "[mila]:") {
            let _ = Message::parse(&bytes);
            for text in [text.clone(), format!("{kind}{text}")] {
                let _ = (Message::parse(text.as_bytes()), Marker::parse(&text));
            }
        }
    }

    #[test]
    fn announcements() {
        let text = announcement(Id(1), "registry", "a:b:c\nd").unwrap();
        assert_eq!(text, "a:0000000000000001:registry:a:b:c\nd");
        let heard = Message::Announcement { sender: Id(1), topic: "registry".into(), text: "a:b:c\nd".into() };
        assert_eq!(Message::parse(text.as_bytes()), Some(heard));
        assert_eq!(announcement(Id(1), "a:b", ""), None);
        assert_eq!(announcement(Id(1), "a", &"x".repeat(ANNOUNCEMENT_BYTES)), None);
    }

    #[test]
    fn texts_that_are_almost_right() {
        let (id, scope) = ("00000000000000ff", "00".repeat(16));
        assert!(Invalidation::parse(&format!("i:{id}:7:{id}:{scope}")).is_some());
        let most = MOST + 1;
        for text in [
            format!("i:{id}:{most}:{id}:{scope}"),
            format!("i:{id}:-1:{id}:{scope}"),
            format!("i:{id}:7:{}:{scope}", &id[1..]),
            format!("i:{id}:7:{id}:{}", &scope[1..]),
            format!("i:{id}:7:{id}:{}", scope.replace("00", "+0")),
            format!("i:{id}:7:{id}:"),
            format!("i:{id}:7:{id}:{scope}:"),
            format!("i:{id}:7:{id}:{}", scope.repeat(SCOPES + 1)),
            format!("m:{id}:{id}"),
            format!("m:{id}:{id}:{most}"),
            "l:".into(),
            "é".into(),
        ] {
            assert_eq!(Message::parse(text.as_bytes()), None, "{text}");
            assert_eq!(Marker::parse(&text), None, "{text}");
        }
        assert_ne!(Id::random(), Id::random());
    }
}
