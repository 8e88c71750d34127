//! Too many callers: 200 in a closed loop against a model that takes far fewer, once heeding `Retry-After` and once
//! passing over it, against the peak with as many callers as have room. The host is a process on one core; the callers
//! are tasks of one thread here.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    made,
    place::Place,
    process::{Server, free_address, host},
    quantile,
    wire::{length, post},
};

/// Callers who are too many.
const CALLERS: usize = 200;
/// Until queues are full and callers no longer come in step.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long is counted: a slow model answers in steps of a batch, so there must be many of them.
const COUNTED: Duration = Duration::from_secs(10);
/// Turns of as many callers as have room and of too many, one after the other: the machine is not the same all the time.
const PAIRS: usize = 3;
/// Before a caller that was not taken at all tries again.
const RECONNECT: Duration = Duration::from_millis(10);
/// What the issue asks for.
const GOAL_SHARE: f64 = 0.95;
const GOAL_REFUSAL_MS: f64 = 50.0;

/// Who is asked what.
struct Case {
    name: &'static str,
    request: Vec<u8>,
    /// Callers for whom there is room: the best of these is the peak.
    room: [usize; 3],
}

/// What a caller does when it is refused.
#[derive(Clone, Copy, PartialEq)]
enum Manners {
    /// Comes back after as long as it was told.
    Heeds,
    /// Comes back at once.
    Ignores,
}

/// What was answered while it counted.
#[derive(Default)]
struct Tally {
    /// Times until a 200.
    served: Vec<Duration>,
    /// Times until a 429.
    refused: Vec<Duration>,
    /// How often each `Retry-After` was said.
    told: BTreeMap<u64, usize>,
    /// Everything else, by status; 0 where the connection ended.
    others: BTreeMap<u16, usize>,
}

/// The slow model of the tests, then the demo's reranker.
pub(crate) fn measure() {
    let question = std::fs::read(made("tests/bench/bodies/question.json")).expect("it can be read");
    let cases = [
        Case {
            name: "slow (8 rows in some 300 ms, 16 may wait)",
            request: post("/v1/functions/test/probe/slow", b""),
            room: [8, 16, 24],
        },
        Case {
            name: "reranker (9 rows each, 256 may wait)",
            request: post("/v1/functions/demo/reranker", &question),
            room: [4, 8, 16],
        },
    ];
    let place = Place::new().with_demo(&[]);
    let (data, control) = (free_address(), free_address());
    let mut command = Command::new(host());
    command.args(place.flags()).args(["--listen", &data.to_string(), "--control-listen", &control.to_string()]);
    let server = Server::start("Tenon", data, command.env("TENON_LOG", "error"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread can be used");
    for case in cases {
        runtime.block_on(case.measure(server.address));
    }
}

impl Case {
    async fn measure(&self, address: SocketAddr) {
        let request: Arc<[u8]> = self.request.as_slice().into();
        let mut peak = (0.0_f64, 0);
        for callers in self.room {
            let tally = drive(address, &request, callers, Manners::Heeds).await;
            if tally.rate() > peak.0 {
                peak = (tally.rate(), callers);
            }
        }
        println!("overload, {}: most is served with {} callers", self.name, peak.1);
        for (manners, words) in [(Manners::Heeds, "heed Retry-After"), (Manners::Ignores, "come back at once")] {
            let mut pairs = Vec::new();
            for _ in 0..PAIRS {
                let room = drive(address, &request, peak.1, Manners::Heeds).await.rate();
                let tally = drive(address, &request, CALLERS, manners).await;
                pairs.push((tally.rate() / room, room, tally));
            }
            pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
            let shares: Vec<_> = pairs.iter().map(|pair| format!("{:.2}", pair.0)).collect();
            let (_, room, tally) = &pairs[PAIRS / 2];
            println!("  {CALLERS} callers who {words} ({}): {}", shares.join(" "), tally.told(*room, manners));
        }
    }
}

async fn drive(address: SocketAddr, request: &Arc<[u8]>, callers: usize, manners: Manners) -> Tally {
    let from = Instant::now() + WARM_UP;
    let mut tasks: JoinSet<Tally> =
        (0..callers).map(|_| call(address, request.clone(), (from, from + COUNTED), manners)).collect();
    let mut all = Tally::default();
    while let Some(tally) = tasks.join_next().await {
        all.add(tally.expect("a caller does not panic"));
    }
    all.served.sort_unstable();
    all.refused.sort_unstable();
    all
}

/// One caller in a closed loop.
async fn call(address: SocketAddr, request: Arc<[u8]>, (from, until): (Instant, Instant), manners: Manners) -> Tally {
    let (mut tally, mut connection) = (Tally::default(), None);
    while Instant::now() < until {
        let begun = Instant::now();
        let answer = ask(address, &mut connection, &request).await;
        let (now, taken) = (Instant::now(), begun.elapsed());
        let counts = from <= now && now < until;
        match answer {
            Ok((200, _)) if counts => tally.served.push(taken),
            Ok((429, after)) => {
                if counts {
                    tally.refused.push(taken);
                    *tally.told.entry(after).or_default() += 1;
                }
                if manners == Manners::Heeds {
                    let back = now + Duration::from_secs(after);
                    tokio::time::sleep_until(back.min(until).into()).await;
                }
            }
            Ok((status, _)) if counts && status != 200 => *tally.others.entry(status).or_default() += 1,
            Ok(_) => {}
            Err(_) => {
                connection = None;
                *tally.others.entry(0).or_default() += usize::from(counts);
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }
    tally
}

/// Sends the request and reads the whole answer: its status, and what `Retry-After` says.
async fn ask(address: SocketAddr, connection: &mut Option<TcpStream>, request: &[u8]) -> io::Result<(u16, u64)> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            connection.insert(stream)
        }
    };
    stream.write_all(request).await?;
    let mut buffer = Vec::with_capacity(1 << 12);
    let head = loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((head, whole)) = length(&buffer)
            && buffer.len() >= whole
        {
            break String::from_utf8_lossy(&buffer[..head]).into_owned();
        }
    };
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if header("connection:") == Some("close") {
        *connection = None;
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, header("retry-after:").and_then(|seconds| seconds.parse().ok()).unwrap_or(0)))
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.served.extend(other.served);
        self.refused.extend(other.refused);
        other.told.into_iter().for_each(|(seconds, count)| *self.told.entry(seconds).or_default() += count);
        other.others.into_iter().for_each(|(status, count)| *self.others.entry(status).or_default() += count);
    }

    fn rate(&self) -> f64 {
        self.served.len() as f64 / COUNTED.as_secs_f64()
    }

    fn told(&self, peak: f64, manners: Manners) -> String {
        let share = self.rate() / peak;
        let verdict = match manners {
            Manners::Heeds if share >= GOAL_SHARE => format!(" (goal {GOAL_SHARE}x: met)"),
            Manners::Heeds => format!(" (goal {GOAL_SHARE}x: MISSED)"),
            Manners::Ignores => String::new(),
        };
        let mut text = format!("{share:.2}x of the {peak:.1}/s{verdict}, {:.1}/s", self.rate());
        if !self.served.is_empty() {
            let p50 = quantile(&self.served, 0.5) / 1e6;
            text.push_str(&format!(", served after {p50:.2} s (p50)"));
        }
        if !self.refused.is_empty() {
            let [p50, p99] = [0.5, 0.99].map(|share| quantile(&self.refused, share) / 1e3);
            let verdict = if p99 <= GOAL_REFUSAL_MS { "met" } else { "MISSED" };
            let told: Vec<_> = self.told.iter().map(|(seconds, count)| format!("{seconds} s {count} times")).collect();
            text.push_str(&format!(
                "; {:.0} refusals/s in p50 {p50:.2} ms, p99 {p99:.2} ms (goal {GOAL_REFUSAL_MS:.0} ms: {verdict}), \
                 Retry-After {}",
                self.refused.len() as f64 / COUNTED.as_secs_f64(),
                told.join(", ")
            ));
        }
        if !self.others.is_empty() {
            let others: Vec<_> = self.others.iter().map(|(status, count)| format!("{status} {count} times")).collect();
            text.push_str(&format!("; other answers: {}", others.join(", ")));
        }
        text
    }
}
