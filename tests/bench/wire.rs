//! A client that costs little: one request written as it is, answers read by their length, a connection kept open.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// How long before its first request a connection of an open loop is made.
const AHEAD: Duration = Duration::from_millis(100);

/// A POST, ready to be written.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    request
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket can be set up");
        Self { stream, buffer: Vec::with_capacity(1 << 16) }
    }

    /// Sends the request and reads the whole answer, which must be a 200. Its body.
    pub(crate) fn ask(&mut self, request: &[u8]) -> &[u8] {
        let head = self.exchange(request);
        assert!(self.buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer));
        &self.buffer[head..]
    }

    /// The head of the answer that was read last.
    pub(crate) fn head(&self) -> &str {
        let head = length(&self.buffer).map_or(0, |(head, _)| head);
        std::str::from_utf8(&self.buffer[..head]).unwrap_or_default()
    }

    /// Sends the request and reads the whole answer; whether it is a 200.
    pub(crate) fn is_answered(&mut self, request: &[u8]) -> bool {
        self.exchange(request);
        self.buffer.starts_with(b"HTTP/1.1 200")
    }

    /// Sends the request and reads the whole answer, whatever it is; how long its head is.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> usize {
        self.stream.write_all(request).expect("the server reads");
        self.buffer.clear();
        let mut whole = None;
        while whole.is_none_or(|(_, whole)| self.buffer.len() < whole) {
            let mut piece = [0; 1 << 14];
            let read = self.stream.read(&mut piece).expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            self.buffer.extend_from_slice(&piece[..read]);
            whole = whole.or_else(|| length(&self.buffer));
        }
        whole.map_or(0, |(head, _)| head)
    }
}

/// The head, and head and body together, once the head is there.
pub(crate) fn length(buffer: &[u8]) -> Option<(usize, usize)> {
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let body = text.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
    Some((head, head + body))
}

/// Requests per second of `clients` clients in a closed loop for `time`.
pub(crate) fn throughput(address: SocketAddr, request: &[u8], clients: usize, time: Duration) -> f64 {
    let start = Instant::now();
    let counts: Vec<u64> = thread::scope(|scope| {
        let client = || {
            let mut client = Client::connect(address);
            let mut count = 0;
            while start.elapsed() < time {
                client.ask(request);
                count += 1;
            }
            count
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });
    counts.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64()
}

/// Lets time go by.
#[expect(clippy::disallowed_methods, reason = "a thread that has nothing else to do, and on which no reactor runs")]
pub(crate) fn rest(time: Duration) {
    thread::sleep(time);
}

fn rest_until(time: Instant) {
    rest(time.saturating_duration_since(Instant::now()));
}

/// What a call gives while `clients` clients go through the requests in turn, over and over, each in a closed loop.
pub(crate) fn under_load<T>(
    address: SocketAddr,
    requests: &[Vec<u8>],
    clients: usize,
    measure: impl FnOnce() -> T,
) -> T {
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !over.load(Relaxed) {
                    client.ask(&requests[next.fetch_add(1, Relaxed) % requests.len()]);
                }
            });
        }
        let measured = measure();
        over.store(true, Relaxed);
        measured
    })
}

/// A request in an open loop: sent when it is due, whatever the answers before it take, over so many connections, so that
/// one late answer does not hold up all others. Times count from when it was due; `None` is whoever got no 200. Sorted,
/// those last.
pub(crate) fn open_loop(
    address: SocketAddr,
    request: &[u8],
    due: &[Duration],
    connections: usize,
) -> Vec<Option<Duration>> {
    let begin = Instant::now() + AHEAD;
    let mut times: Vec<_> = thread::scope(|scope| {
        let connection = |number: usize| {
            // A host does not wait long for the first request of a connection.
            rest_until(begin + due.get(number).copied().unwrap_or_default() - AHEAD);
            let mut client = Client::connect(address);
            let one = |due: &Duration| {
                let due = begin + *due;
                rest_until(due);
                client.is_answered(request).then(|| due.elapsed())
            };
            due.iter().skip(number).step_by(connections).map(one).collect::<Vec<_>>()
        };
        let all: Vec<_> = (0..connections).map(|number| scope.spawn(move || connection(number))).collect();
        all.into_iter().flat_map(|one| one.join().expect("a client does not panic")).collect()
    });
    times.sort_by_key(|time| time.unwrap_or(Duration::MAX));
    times
}

/// Times of `count` requests of one client, sorted.
pub(crate) fn latencies(address: SocketAddr, request: &[u8], count: usize) -> Vec<Duration> {
    let mut client = Client::connect(address);
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            let start = Instant::now();
            client.ask(request);
            start.elapsed()
        })
        .collect();
    times.sort();
    times
}
