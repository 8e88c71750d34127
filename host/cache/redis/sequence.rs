//! The numbers of invalidations: what this host has heard, and what follows from what it finds in Redis.
//!
//! Pure: owns the decisions. Refuses to know how the list is read and who is told.
//!
//! An entry in Redis carries the number up to which its host had heard all when its computing began, and is void if one
//! of its scopes was invalidated with a higher one. So numbers must only rise, whatever becomes of Redis, and each host
//! must hear all of them, each once and in their order, or else a floor: that everything begun before is void. The
//! channel alone does not do, as it forgets whoever is away; so there is a list as well, and what comes by the channel
//! counts only while nothing was missed since the list was read. Two things endanger that:
//!
//! - *The list was shortened* beyond what the host has heard. Its beginning says since when it is complete: that is the
//!   floor.
//! - *Redis lost the list*. The first host that sees it begins another one, and notes up to where it had heard the old
//!   one. Who had heard exactly as much goes on; who had heard less has a floor to heed; who had heard more, or cannot
//!   tell, begins a list again, with a number above all, and a floor for everybody. So a Redis without persistence that
//!   starts again costs nothing in memory as long as no host was behind.
//!
//! What is lost for good is an invalidation that a host missed, whose list was lost before the host came back, if
//! whoever had heard it is gone as well. What it should have made void lives as long as entries do.

use super::message::{Id, Marker};

/// Numbers begin with the milliseconds of Unix time, and each costs a question to Redis: they do not run ahead of it.
const LEAP: u64 = 1 << 36;

/// What was found in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) marker: Marker,
    /// Since when the list is complete.
    pub(super) base: u64,
    /// The highest number in it.
    pub(super) top: u64,
    /// Up to where this host had heard all when it asked: the answer cannot know of more.
    pub(super) above: u64,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Hear what is in this list above `last`; if `floor` is set, everything begun before its base is void.
    Follow { list: Id, base: u64, floor: bool },
    /// Begin another list, with this base at least; then look again.
    Begin { marker: Marker, base: u64 },
}

/// What became of an invalidation that came by the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// It is the next one.
    New,
    /// It was heard before.
    Old,
    /// Others may be missing before it: the list has to be read, where it is, too.
    Early,
}

#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The list that is followed; none before the first contact.
    list: Option<Id>,
    /// Everything up to here was heard.
    last: u64,
    /// The highest number that was seen.
    seen: u64,
    /// Whether what comes by the channel is all there is: nothing was missed since the list was read.
    gapless: bool,
    /// Counts what made it not so.
    interruptions: u64,
}

impl Numbers {
    pub(super) fn list(&self) -> Option<Id> {
        self.list
    }

    /// Everything up to here was heard.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// There is this number, whatever it belongs to.
    pub(super) fn saw(&mut self, seq: u64) {
        self.seen = self.seen.max(seq);
    }

    /// The highest number there is, as far as known here.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// An invalidation came by the channel, with a number in this list.
    pub(super) fn by_channel(&mut self, list: Id, seq: u64) -> Hearing {
        let same = self.list == Some(list);
        if same && seq <= self.last {
            return Hearing::Old;
        }
        // Nobody gives numbers so far ahead; whoever says so is not to have them run out.
        let sound = same && seq - self.last < LEAP;
        if sound {
            self.saw(seq);
        }
        if sound && self.gapless {
            self.last = seq;
            return Hearing::New;
        }
        // A reading on its way may be too early for it.
        self.interrupted();
        Hearing::Early
    }

    /// One was read in the list, whose numbers come in order; whether it is new.
    pub(super) fn by_list(&mut self, seq: u64) -> bool {
        self.saw(seq);
        let new = seq > self.last;
        self.last = self.last.max(seq);
        new
    }

    /// Messages may be missing from here on.
    pub(super) fn interrupted(&mut self) {
        self.gapless = false;
        self.interruptions += 1;
    }

    pub(super) fn interruptions(&self) -> u64 {
        self.interruptions
    }

    /// From here on this list is followed, of which everything up to its base is known or void.
    pub(super) fn follow(&mut self, list: Id, base: u64) {
        self.list = Some(list);
        self.last = self.last.max(base);
        self.saw(base);
    }

    /// The list was read to its end by somebody who was listening all the while, if there were no more interruptions
    /// than these. Whether the channel is enough from here on.
    pub(super) fn read_to_end(&mut self, interruptions: u64) -> bool {
        self.gapless = self.interruptions == interruptions && self.seen <= self.last;
        self.gapless
    }

    /// What follows from what is there. `new` names a new list, and `least` is where numbers begin where none was ever
    /// known: above all those that a list that nobody remembers may have had.
    pub(super) fn step(&self, found: Option<Found>, new: Id, least: u64) -> Step {
        // Up to where this host knows all there was, if it does.
        let whole = self.list.filter(|_| self.last == self.seen).map(|list| (list, self.last));
        let Some(Found { marker, base, top, above }) = found else {
            let base = whole.map_or(least.max(self.seen + 1), |(_, last)| last);
            return Step::Begin { marker: Marker { list: new, before: whole }, base };
        };
        let void_all = Step::Begin { marker: Marker { list: new, before: None }, base: self.seen.max(top) + 1 };
        // What this host has begun carries less than a floor that it is to be void by.
        let follow = |floor| Step::Follow { list: marker.list, base, floor };
        let with_floor = if self.seen < base { follow(true) } else { void_all };
        let Some(list) = self.list else { return with_floor };
        match marker.before {
            _ if list == marker.list && top < above => void_all,
            _ if list == marker.list => follow(self.last < base),
            None => with_floor,
            before if before == whole => follow(self.last < base),
            Some((before, last)) if before == list && self.seen < last => with_floor,
            Some(_) => void_all,
        }
    }
}

#[cfg(test)]
mod tests;
