//! The list of invalidations in Redis. Owns the scripts that read and change it, each in one go; refuses to know what
//! follows from what is read.
//!
//! One sorted set holds all there is to know, so that it is lost as a whole or not at all: its first member is the
//! marker (which list it is, and, as its score, since when it is complete), the others are invalidations, with their
//! numbers for scores. The next number is the highest one and one.
//!
//! The scripts that change it begin with a write that takes no memory: a Redis whose memory is full refuses a script's
//! first write if it takes some, but not those after one that was let through. So an invalidation gets through where
//! entries do not.

use std::time::Duration;

use ::redis::{Cmd, Value, cmd};

use super::{
    Names, ScopeId,
    line::Line,
    message::{Id, Invalidation, MOST, Marker, scopes_text},
    sequence::Found,
    wire::{Fault, Wire, number, text},
};

/// Invalidations that are kept; whoever was away for more of them has a floor to heed.
pub(super) const KEPT: usize = 10_000;
/// Invalidations read at once.
pub(super) const PAGE: usize = 500;

/// Whatever else lies at the list's name is no list.
const READ: &str = r"
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then return {} end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local missed = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
return {first[1], string.format('%.0f', first[2]), string.format('%.0f', top[2]), missed}";

/// Puts an invalidation at the end of the list and tells it; nothing if it is another list.
const ADD: &str = r"
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then return false end
local first = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
if string.sub(first, 1, 18) ~= 'm:' .. ARGV[1] then return false end
local over = math.max(redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[5]), 0)
local cut = redis.call('ZRANGE', KEYS[1], over, over, 'WITHSCORES')[2]
redis.call('ZREMRANGEBYRANK', KEYS[1], 1, over)
if over > 0 then redis.call('ZADD', KEYS[1], cut, first) end
local top = tonumber(redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2])
local seq = string.format('%.0f', math.max(top, tonumber(ARGV[2])) + 1)
local told = 'i:' .. ARGV[1] .. ':' .. seq .. ':' .. ARGV[3] .. ':' .. ARGV[4]
redis.call('ZADD', KEYS[1], seq, told)
redis.call('PUBLISH', ARGV[6], told)
return seq";

/// Begins a list in place of the one with that marker (of none: nothing), if that is what is there. Its base is above
/// whatever the old one held.
const BEGIN: &str = r"
local first, base = '', tonumber(ARGV[3])
if redis.call('TYPE', KEYS[1]).ok == 'zset' then
  first = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
  base = math.max(base, tonumber(redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) + 1)
end
if first ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZADD', KEYS[1], string.format('%.0f', base), ARGV[2])
redis.call('PUBLISH', ARGV[5], 'l:' .. ARGV[4])
return 1";

/// What a reading found, and a part of what is above the number that was asked for.
pub(super) struct Page {
    /// None where there is no list.
    pub(super) found: Option<Found>,
    /// What the marker is in Redis, to be replaced only if it is still that; empty where there is none.
    pub(super) marker: String,
    pub(super) missed: Vec<Invalidation>,
    /// How many there were, with those that made no sense.
    pub(super) count: usize,
}

/// The list as it is reached over a line.
pub(super) struct List {
    line: std::sync::Arc<Line>,
    names: std::sync::Arc<Names>,
    timeout: Duration,
}

impl List {
    pub(super) fn new(line: std::sync::Arc<Line>, names: std::sync::Arc<Names>, timeout: Duration) -> Self {
        Self { line, names, timeout }
    }

    /// What is above this number, the lowest first.
    pub(super) async fn read(&self, above: u64) -> Result<Page, Fault> {
        let answer = self.ask(self.script(READ).arg(above).arg(PAGE)).await?;
        page(&answer, above).ok_or_else(|| Fault::Gone("the list of invalidations makes no sense".into()))
    }

    /// The number of an invalidation that is in the list now; none if the list is another one.
    pub(super) async fn add(&self, list: Id, sender: Id, above: u64, scopes: &[ScopeId]) -> Result<Option<u64>, Fault> {
        let mut script = self.script(ADD);
        let script = script.arg(list.text()).arg(above).arg(sender.text()).arg(scopes_text(scopes));
        let answer = self.ask(script.arg(KEPT).arg(self.names.events())).await?;
        Ok(number(&answer).filter(|number| *number <= MOST))
    }

    /// Begins another list, unless it has changed; then it has to be read again.
    pub(super) async fn begin(&self, instead_of: &str, marker: &Marker, base: u64) -> Result<(), Fault> {
        let mut script = self.script(BEGIN);
        let script = script.arg(instead_of).arg(marker.text()).arg(base).arg(marker.list.text());
        self.ask(script.arg(self.names.events())).await.map(drop)
    }

    /// Tells all hosts; how many connections heard it does not matter.
    pub(super) async fn publish(&self, text: &str) -> Result<(), Fault> {
        self.ask(cmd("PUBLISH").arg(self.names.events()).arg(text)).await.map(drop)
    }

    fn script(&self, script: &str) -> Cmd {
        // The text each time, and not its digest: they are short and rare, and no server has to have seen it before.
        cmd("EVAL").arg(script).arg(1).arg(self.names.list()).take()
    }

    async fn ask(&self, command: &Cmd) -> Result<Value, Fault> {
        let (pass, wire) = self.line.enter().ok_or_else(|| Fault::Gone("not connected".into()))?;
        let answer = Wire::ask(&wire, command, self.timeout).await;
        // A server that may not write has answered well: the list can be read.
        let fault = answer.as_ref().err().filter(|fault| !fault.rests_writes());
        self.line.leave(pass, fault);
        answer
    }
}

fn page(answer: &Value, above: u64) -> Option<Page> {
    let Value::Array(parts) = answer else { return None };
    let [marker, base, top, missed] = &parts[..] else {
        return parts.is_empty().then(|| Page { found: None, marker: String::new(), missed: vec![], count: 0 });
    };
    let Value::Array(missed) = missed else { return None };
    // Whatever is first but no marker of a list was put there by somebody else: it is replaced.
    let first = text(marker)?.to_owned();
    let within = |value: &Value| number(value).filter(|number| *number <= MOST);
    let found = Marker::parse(&first).zip(within(base)).zip(within(top));
    let found = found.map(|((marker, base), top)| Found { marker, base, top, above });
    let count = missed.len();
    let missed = missed.iter().filter_map(|member| Invalidation::parse(text(member)?)).collect();
    Some(Page { found, marker: first, missed, count })
}
