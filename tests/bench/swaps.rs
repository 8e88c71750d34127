//! What operators and tenants do while callers call: swaps between two revisions under load, from a deployment to its first
//! answer, and a start with many functions whose code was compiled before.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{
    TURNS, made, median,
    place::Place,
    process::{Cell, Load, Pace, Server, free_address, host},
    wire::{self, Client, post},
};

const CALLERS: usize = 16;
/// How long one side of a pair takes.
const TURN: Duration = Duration::from_secs(5);
/// Between two swaps: as fast as a script may, and faster than any operator.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];
/// Functions that a start brings up.
const FUNCTIONS: usize = 50;
/// What the issue asks for.
const GOALS: [(&str, f64); 3] = [("swaps, times p99 without", 1.25), ("deploy, s", 1.5), ("start, s", 1.0)];

/// A host whose functions are in its registry.
struct Host {
    place: Place,
    data: SocketAddr,
    control: SocketAddr,
    server: Server,
}

/// All three.
pub(crate) fn measure() {
    let host = Host::start(Place::empty());
    host.deploy("bench/stamp", "stamp", "one");
    host.deploy("bench/stamp", "stamp", "two");
    PAUSES.iter().for_each(|pause| swaps(&host, *pause));
    deployments(&host);
    starts(host);
}

impl Host {
    fn start(place: Place) -> Self {
        let (data, control) = (free_address(), free_address());
        let mut command = Command::new(host());
        command.args(place.flags()).args(["--listen", &data.to_string(), "--control-listen", &control.to_string()]);
        let server = Server::start("Tenon", data, command.env("TENON_LOG", "error"));
        Self { place, data, control, server }
    }

    /// `tenon deploy … --promote`, of content that differs from all other by `mark`.
    fn deploy(&self, function: &str, plugin: &str, mark: &str) {
        let (component, manifest) = self.content(plugin, mark);
        let mut command = Command::new(host().with_file_name("tenon"));
        command.args(["deploy", function]).arg(component).arg("-f").arg(manifest).arg("--promote");
        command.args(["--host", &format!("http://{}", self.data), "--control", &self.control.to_string()]);
        command.arg("--data").arg(self.place.path("data"));
        let output = command.output().expect("`tenon` is built beside `tenon-host`");
        assert!(output.status.success(), "tenon deploy: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A plugin of the tests with a section of no meaning behind it, so that it is other code to whoever compiles it.
    fn content(&self, plugin: &str, mark: &str) -> (PathBuf, PathBuf) {
        let folder = made(".tenon/test-functions/test").join(plugin);
        let mut component = fs::read(folder.join(format!("{plugin}.wasm"))).expect("it can be read");
        let name = b"mark";
        let size = u8::try_from(1 + name.len() + mark.len()).expect("a short mark");
        component.extend([0, size, name.len() as u8]);
        component.extend(name.iter().chain(mark.as_bytes()));
        let (wasm, manifest) = (self.place.path(&format!("{plugin}.wasm")), self.place.path("function.toml"));
        fs::write(&wasm, component).expect("a file can be written");
        fs::write(&manifest, format!("component = \"{plugin}.wasm\"\n[config]\nmark = \"{mark}\"\n"))
            .expect("a file can be written");
        (wasm, manifest)
    }

    fn token(&self) -> String {
        fs::read_to_string(self.place.path("data/admin-token")).expect("the host made it").trim().to_owned()
    }

    /// All traffic to one revision.
    fn promote(&self, client: &mut Client, revision: u32) {
        let body = format!("{{\"shares\":[{{\"revision\":{revision},\"weight\":1}}]}}");
        let (token, length) = (self.token(), body.len());
        let request = format!(
            "PUT /admin/v1/functions/bench/stamp/traffic HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}",
            self.control
        );
        client.ask(request.as_bytes());
    }

    fn drive(&self, body: &Path) -> Cell {
        let url = format!("http://{}/v1/functions/bench/stamp/work?turns=3", self.data);
        let content_type = "application/octet-stream";
        Load { url, pace: Pace::Clients(CALLERS), duration: TURN, body, content_type, pinned: true }.drive()
    }
}

fn swaps(host: &Host, pause: Duration) {
    let body = host.place.path("body");
    fs::write(&body, b"x").expect("a file can be written");
    let (mut ratios, mut errors, mut swapped) = (Vec::new(), 0.0, 0);
    for _ in 0..TURNS {
        let without = host.drive(&body);
        let (stop, count) = (AtomicBool::new(false), AtomicU32::new(0));
        let with = thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = Client::connect(host.control);
                while !stop.load(Relaxed) {
                    host.promote(&mut client, 1 + count.fetch_add(1, Relaxed) % 2);
                    wire::rest(pause);
                }
            });
            let with = host.drive(&body);
            stop.store(true, Relaxed);
            with
        });
        println!(
            "  p99 {:.2} ms without, {:.2} ms with {} swaps; {:.0} and {:.0} requests/s",
            without.p99_ms,
            with.p99_ms,
            count.load(Relaxed),
            without.requests_per_second,
            with.requests_per_second
        );
        ratios.push(with.p99_ms / without.p99_ms);
        errors += without.errors + with.errors;
        swapped += count.load(Relaxed);
    }
    println!(
        "swaps between two revisions, {pause:?} apart, {CALLERS} callers: p99 with them is {:.2} times p99 without (median of {TURNS} \
         pairs; goal {}), {swapped} swaps, {errors} requests failed",
        median(ratios),
        GOALS[0].1
    );
}

fn deployments(host: &Host) {
    for plugin in ["stamp", "probe"] {
        let bytes = fs::metadata(made(".tenon/test-functions/test").join(plugin).join(format!("{plugin}.wasm")));
        let bytes = bytes.expect("it is there").len();
        let times: Vec<_> = (0..TURNS).map(|turn| first_answer(host, plugin, turn)).collect();
        let kib = bytes / 1024;
        println!(
            "a component of {kib} KiB, never seen before: {:.2} s from `tenon deploy --promote` to its first answer (median \
             of {TURNS}; goal {} s for 1 MB)",
            median(times),
            GOALS[1].1
        );
    }
}

fn first_answer(host: &Host, plugin: &str, turn: usize) -> f64 {
    let function = format!("bench/{plugin}-{turn}");
    let path = if plugin == "stamp" { "work?turns=3" } else { "echo" };
    let request = post(&format!("/v1/functions/{function}/{path}"), b"x");
    let start = Instant::now();
    host.deploy(&function, plugin, &format!("turn {turn}"));
    Client::connect(host.data).ask(&request);
    start.elapsed().as_secs_f64()
}

fn starts(host: Host) {
    for n in 0..FUNCTIONS {
        host.deploy(&format!("many/f{n}"), "stamp", &format!("function {n}"));
    }
    let Host { place, server, .. } = host;
    drop(server);
    let bare = median((0..TURNS).map(|_| started(Place::empty()).0));
    let (mut place, mut times) = (place, Vec::new());
    for _ in 0..TURNS {
        let (time, again) = started(place);
        place = again;
        times.push(time);
    }
    let with = median(times);
    println!(
        "a start with {FUNCTIONS} and more functions from the compiled cache: {with:.2} s until all answer, {bare:.2} s \
         without any (medians of {TURNS}): {:.2} s for the functions (goal {} s)",
        with - bare,
        GOALS[2].1
    );
}

/// Seconds until a host listens, which is when its functions are up; the last one answers then.
fn started(place: Place) -> (f64, Place) {
    let has_functions = place.path("data/registry").exists();
    let start = Instant::now();
    let host = Host::start(place);
    if has_functions {
        let last = post(&format!("/v1/functions/many/f{}/work?turns=3", FUNCTIONS - 1), b"x");
        Client::connect(host.data).ask(&last);
    }
    (start.elapsed().as_secs_f64(), host.place)
}
