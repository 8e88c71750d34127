//! The flags of `tenon bench`, and what they mean once they are read together.
//!
//! It checks what can be checked before anything is sent; limits are here and have names.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::http::{HeaderName, HeaderValue, Method};

use super::bodies::parse_header;
use super::form::Field;
use super::goal::Goal;
use super::judge::Limit;

/// Clients, and requests in flight, of one cell at most.
pub(super) const CLIENTS_MAX: u32 = 10_000;
/// Requests per second of one cell at least: one in a quarter of an hour.
const RATE_MIN: f64 = 0.001;
/// And at most.
const RATE_MAX: f64 = 1e6;
/// Cells of one run at most.
const CELLS_MAX: usize = 1000;
/// Threads that drive: more than any machine of today can use here.
const THREADS_MAX: u32 = 256;
/// Turns of each cell.
const REPEAT_MAX: u32 = 100;
/// The longest measurement and the longest wait.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Without `--clients` and `--rate`.
const CLIENTS_DEFAULT: u32 = 10;

/// Flags of `tenon bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchFlags {
    /// <tenant>/<function>[@revision][/path][?query], or the URL of any HTTP server
    #[arg(value_parser = Goal::parse, required_unless_present = "compare")]
    pub(super) target: Option<Goal>,
    /// Closed loop: that many clients, each sends its next request when it has its answer [default: 10]
    #[arg(long, short, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX as i64), conflicts_with = "rate")]
    pub(super) clients: Vec<u32>,
    /// Open loop: requests per second, started on schedule; latency counts from the schedule
    #[arg(long, short, value_name = "R,…", value_delimiter = ',', value_parser = parse_rate)]
    pub(super) rate: Vec<f64>,
    /// Open loop: requests in flight at most; what is due and finds no room waits, and its wait counts
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX as i64))]
    pub(super) max_in_flight: u32,
    /// How long each cell is measured, such as 10s or 500ms [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "requests")]
    pub(super) duration: Option<Duration>,
    /// Measure this many requests instead
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) requests: Option<u64>,
    /// Drive each cell this long before anything counts
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_pause)]
    pub(super) warm_up: Duration,
    /// The longest wait for one answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(super) timeout: Duration,
    /// Measure the whole matrix this often, in turns: how much cells vary tells what is noise
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=REPEAT_MAX as i64))]
    pub(super) repeat: u32,
    /// Closed loop: a client that was refused waits as long as `retry-after` says
    #[arg(long, conflicts_with = "rate")]
    pub(super) honour_retry_after: bool,
    /// Speak HTTP/2 (by ALPN over https), a connection for each client
    #[arg(long)]
    pub(super) http2: bool,
    /// Threads that drive; one is enough for tens of thousands of requests per second
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX as i64))]
    pub(super) threads: u32,
    #[command(flatten)]
    pub(super) body: BodyFlags,
    /// Fail when more than this share of the requests has no good answer, such as 0.01
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio)]
    pub(super) max_errors: Option<f64>,
    /// Fail when a figure is over a limit, such as p99>50ms; may be repeated
    #[arg(long, value_name = "P>TIME", value_parser = Limit::parse)]
    pub(super) fail_if: Vec<Limit>,
    /// Save the results as JSON (`-` for standard output, instead of the table)
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write a page with curves, which needs nothing else to be shown
    #[arg(long, value_name = "FILE.html")]
    pub(super) report: Option<PathBuf>,
    /// Compare two saved runs instead of measuring
    #[arg(long, num_args = 2, value_names = ["OLD.json", "NEW.json"], conflicts_with_all = ["target", "report"])]
    pub(super) compare: Option<Vec<PathBuf>>,
}

/// What is sent.
#[derive(Args, Debug)]
pub(super) struct BodyFlags {
    /// A file with the body (`-` for standard input)
    #[arg(long, short, value_name = "FILE", group = "content")]
    pub(super) body: Option<PathBuf>,
    /// The body, as text
    #[arg(long, short, value_name = "TEXT", group = "content")]
    pub(super) data: Option<String>,
    /// A field of a multipart form, NAME=VALUE or NAME=@FILE[;type=TYPE]; may be repeated
    #[arg(long, short, value_name = "FIELD", value_parser = Field::parse, group = "content")]
    pub(super) form: Vec<Field>,
    /// A file with one JSON body per line, sent in turn
    #[arg(long, value_name = "FILE", group = "content")]
    pub(super) jsonl: Option<PathBuf>,
    /// Send the lines of --jsonl in an order that this number decides
    #[arg(long, value_name = "SEED", requires = "jsonl")]
    pub(super) shuffle: Option<u64>,
    /// The body's type [default: what the body looks like]
    #[arg(long, value_name = "TYPE")]
    pub(super) content_type: Option<HeaderValue>,
    /// A header to send, may be repeated
    #[arg(long, short = 'H', value_name = "NAME:VALUE", value_parser = parse_header)]
    pub(super) header: Vec<(HeaderName, HeaderValue)>,
    /// The key to send as `authorization: Bearer`; a function of the host, and no URL, is also asked with TENON_KEY's
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// The method [default: POST with a body, GET without]
    #[arg(long, value_name = "METHOD")]
    pub(super) method: Option<Method>,
}

/// How one cell of the matrix drives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Load {
    /// So many clients, each with one request at a time.
    Closed(u32),
    /// So many requests per second.
    Open(f64),
}

impl BenchFlags {
    /// The cells of the matrix, in the order given.
    pub(super) fn loads(&self) -> Result<Vec<Load>, String> {
        let loads: Vec<_> = match (&self.clients[..], &self.rate[..]) {
            ([], []) => vec![Load::Closed(CLIENTS_DEFAULT)],
            (clients, []) => clients.iter().map(|clients| Load::Closed(*clients)).collect(),
            (_, rates) => rates.iter().map(|rate| Load::Open(*rate)).collect(),
        };
        if loads.len() > CELLS_MAX {
            return Err(format!("{} cells, at most {CELLS_MAX} fit in a run", loads.len()));
        }
        Ok(loads)
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.trim().parse().map_err(|_| format!("`{text}` is not a number"))?;
    let fits = (RATE_MIN..=RATE_MAX).contains(&rate);
    if fits { Ok(rate) } else { Err(format!("a rate is {RATE_MIN} to {RATE_MAX} requests per second")) }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.trim().parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err("a share is 0 to 1".into()) }
}

/// A time that may be nothing.
fn parse_pause(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text.trim()).map_err(|error| format!("{error}; write 10s or 500ms"))?;
    if time <= DURATION_MAX { Ok(time) } else { Err("at most a day".into()) }
}

/// A time that is more than nothing.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let time = parse_pause(text)?;
    if time.is_zero() { Err("must be more than nothing".into()) } else { Ok(time) }
}
