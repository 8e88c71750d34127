//! `tenon bench`: drives a function, or any HTTP server, and tells how fast it answered and how often it did not.
//!
//! What it owns, file by file: `flags` what was asked, `goal` where, `bodies` and `form` what is sent; `wire` one
//! request, `closed` and `open` when the next one begins, `window` when it counts, `run` the threads; `tally` the counts,
//! `saved` the figures, `judge` the verdict; `table`, `report` with `chart`, `compare` what people see. It knows nothing of what
//! answers mean beyond status and code: other servers are driven by the same tool.
//!
//! One thread with a reactor of its own drives tens of thousands of requests per second, so that on a small machine
//! the server under test keeps its cores.

mod bodies;
mod chart;
mod closed;
mod compare;
mod flags;
mod form;
mod goal;
mod judge;
mod machine;
mod open;
mod pacer;
mod progress;
mod report;
mod run;
mod saved;
mod table;
mod tally;
mod window;
mod wire;

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) use flags::BenchFlags;

use crate::client::Host;
use crate::failure::{Exit, Failure, Stop};
use crate::{output, trust};
use bodies::Requests;
use flags::Load;
use goal::{Endpoint, Goal};
use progress::Bar;
use run::Plan;
use saved::{FORMAT, Saved, SavedTarget, Settings, Sum};
use wire::Wire;

/// Without `--duration` and `--requests`.
const DURATION: Duration = Duration::from_secs(10);
/// Whether anybody listens is found out within this time, and within this time again whether they are who was asked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interrupts that are remembered until somebody looks; the second ends the program.
const INTERRUPTS: usize = 4;

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &BenchFlags) -> Result<(), Stop> {
    if let Some(paths) = &flags.compare {
        return compare::run(paths, flags.json.as_deref());
    }
    let Some(goal) = &flags.target else { return Err(Failure::new(Exit::Usage, "no target").into()) };
    let saved = measure(host, flags, goal)?;
    let to_stdout = flags.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    if !to_stdout {
        table::lines(&saved).iter().try_for_each(|line| output::line(line))?;
    }
    match &flags.json {
        Some(_) if to_stdout => output::json(&as_json(&saved)?)?,
        Some(path) => write(path, &format!("{:#}\n", as_json(&saved)?))?,
        None => {}
    }
    if let Some(path) = &flags.report {
        write(path, &report::page(&saved))?;
    }
    Ok(judge::judge(&saved, flags.max_errors, &flags.fail_if)?)
}

fn measure(host: &Host, flags: &BenchFlags, goal: &Goal) -> Result<Saved, Stop> {
    let loads = flags.loads().map_err(|what| Failure::new(Exit::Usage, what))?;
    let endpoint = goal.resolve(host)?;
    let requests = Arc::new(Requests::new(&flags.body, &endpoint, flags.http2)?);
    let open = matches!(loads[0], Load::Open(_));
    machine::allow_connections(connections(&loads, flags))?;
    let wire = Wire::new(endpoint, host.trust(), flags.http2, flags.timeout)?;
    somebody_listens(&wire)?;
    let duration = flags.requests.is_none().then(|| flags.duration.unwrap_or(DURATION));
    let mut saved = Saved {
        format: FORMAT.to_owned(),
        tenon: env!("CARGO_PKG_VERSION").to_owned(),
        when: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        target: target(&wire.endpoint, &requests, flags.http2),
        machine: machine::machine(),
        settings: settings(flags, duration, open),
        interrupted: false,
        cells: Vec::new(),
    };
    let plan = Plan {
        wire,
        requests,
        warm_up: flags.warm_up,
        duration,
        requests_max: flags.requests,
        max_in_flight: flags.max_in_flight,
        threads: flags.threads,
        honour_retry_after: flags.honour_retry_after,
    };
    let mut cells = loads.into_iter().map(|load| (load, Sum::new(load))).collect::<Vec<_>>();
    saved.interrupted = drive(&plan, &mut cells, flags.repeat)?;
    saved.cells = cells.into_iter().filter_map(|(_, sum)| sum.cell()).collect();
    Ok(saved)
}

/// Drives the matrix as often as asked, cell by cell in turns: what drifts meanwhile meets all cells alike. Whether the
/// user ended it early.
fn drive(plan: &Plan, cells: &mut [(Load, Sum)], repeat: u32) -> Result<bool, Stop> {
    reactor()?.block_on(async {
        let (send, mut interrupts) = mpsc::channel(INTERRUPTS);
        tokio::spawn(async move { while tokio::signal::ctrl_c().await.is_ok() && send.send(()).await.is_ok() {} });
        // An interrupt is listened for before the first request is sent.
        tokio::task::yield_now().await;
        for turn in 1..=repeat {
            for (load, sum) in &mut *cells {
                let bar = Bar::new(&name(*load, turn, repeat), plan.warm_up, plan.duration, plan.requests_max);
                let Some(driven) = plan.drive(*load, &bar, &mut interrupts).await? else {
                    return Err(Stop::Said(Exit::Environment));
                };
                let interrupted = driven.interrupted;
                sum.add(driven);
                if interrupted {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    })
}

fn reactor() -> Result<Runtime, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Environment, format!("no reactor: {error}"));
    Builder::new_current_thread().enable_all().build().map_err(failed)
}

fn name(load: Load, turn: u32, repeat: u32) -> String {
    let load = match load {
        Load::Closed(clients) => format!("{clients} clients"),
        Load::Open(rate) => format!("{rate}/s"),
    };
    if repeat > 1 { format!("{load} ({turn} of {repeat})") } else { load }
}

fn connections(loads: &[Load], flags: &BenchFlags) -> u64 {
    let most = loads.iter().map(|load| match load {
        Load::Closed(clients) => *clients,
        Load::Open(_) => flags.max_in_flight,
    });
    most.max().unwrap_or_default().into()
}

/// A run against nobody, or against somebody who is not believed, would be a table of errors.
fn somebody_listens(wire: &Wire) -> Result<(), Failure> {
    let endpoint = &wire.endpoint;
    match TcpStream::connect_timeout(&endpoint.address, CONNECT_TIMEOUT) {
        Ok(socket) => {
            let greeted = reactor()?.block_on(async { timeout(CONNECT_TIMEOUT, wire.greet(socket)).await });
            let greeted = greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            greeted.map_err(|error| trust::handshake(&error, &format!("https://{}", endpoint.authority)))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Failure::new(Exit::Environment, format!("nothing listens at {} ({})", endpoint.address, endpoint.url))
                .hint("start a host with `tenon serve`, or name another with --host, TENON_HOST or a URL"))
        }
        Err(error) => Err(Failure::new(Exit::Environment, format!("no connection to {}: {error}", endpoint.address))
            .hint("check the address, and that no firewall stands between")),
    }
}

fn target(endpoint: &Endpoint, requests: &Requests, http2: bool) -> SavedTarget {
    let (bodies, body_bytes) = requests.size();
    SavedTarget {
        url: endpoint.url.clone(),
        method: requests.method.to_string(),
        http: if http2 { "2" } else { "1.1" }.to_owned(),
        body: requests.kind.to_owned(),
        bodies,
        body_bytes,
    }
}

fn settings(flags: &BenchFlags, duration: Option<Duration>, open: bool) -> Settings {
    Settings {
        kind: if open { "open" } else { "closed" }.to_owned(),
        duration_s: duration.map(|duration| duration.as_secs_f64()),
        requests: flags.requests,
        warm_up_s: flags.warm_up.as_secs_f64(),
        timeout_s: flags.timeout.as_secs_f64(),
        max_in_flight: open.then_some(flags.max_in_flight),
        honour_retry_after: flags.honour_retry_after,
        threads: flags.threads,
        repeat: flags.repeat,
    }
}

fn as_json(saved: &impl serde::Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(saved).map_err(|error| Failure::new(Exit::Tenon, format!("figures that are no JSON: {error}")))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::new(Exit::Environment, format!("cannot write {}: {error}", path.display())))
}
