//! One host takes over from another while callers come: nobody is refused, nothing is lost, and a successor that comes to
//! nothing changes nothing.

use std::{
    io::{BufRead as _, BufReader, IoSlice},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    process::{Process, command, output, run, with},
    raw::Raw,
    support::{TestHost, client, eventually},
};

const KEPT: usize = 8;
const ANEW: usize = 4;
const HTTP_2: usize = 2;
/// Requests between one thing and the next.
const SOME: u64 = 150;
const FOLDERS: [&str; 6] = ["--models", "models", "--data", "data", "--dev-functions", "functions"];

fn folder() -> TempDir {
    TestHost::new().models(&["identity"]).functions(&["identity", "empty"]).into_folder()
}

/// The arguments of a host where `process` is.
fn at(process: &Process) -> Vec<&str> {
    let address = |url| str::split_once(url, "://").unwrap().1;
    let ports = ["--listen", address(process.data.trim()), "--control-listen", address(process.control.trim())];
    [&FOLDERS[..], &ports].concat()
}

fn successor(folder: &TempDir, of: &Process) -> Command {
    command(folder, &[&at(of)[..], &["--handover"]].concat())
}

/// Which process answers whoever connects now.
async fn answers(folder: &TempDir, process: &Process) -> u64 {
    let token = std::fs::read_to_string(folder.path().join("data/admin-token")).unwrap();
    let client = client().pool_max_idle_per_host(0).build().unwrap();
    let asked = client.get(format!("{}/health", process.control)).bearer_auth(token.trim()).send().await.unwrap();
    let health: serde_json::Value = asked.json().await.unwrap();
    assert_eq!(health["draining"], false);
    health["pid"].as_u64().unwrap()
}

/// Callers that ask without a pause, each of its kind, until one of them is not answered or it is enough.
struct Load {
    done: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(base: &str) -> Self {
        let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let kept = || client().build().unwrap();
        let anew = || client().pool_max_idle_per_host(0).build().unwrap();
        let http_2 = || client().http2_prior_knowledge().build().unwrap();
        let clients = (0..KEPT).map(|_| ("kept", kept())).chain((0..ANEW).map(|_| ("anew", anew())));
        let callers =
            clients.chain((0..HTTP_2).map(|_| ("http/2", http_2()))).enumerate().map(|(at, (kind, client))| {
                let (done, answered) = (done.clone(), answered.clone());
                let (function, body) = if at % 2 == 0 { ("identity", vec![0; 64]) } else { ("empty", Vec::new()) };
                let url = format!("{base}/v1/functions/test/{function}");
                tokio::spawn(async move {
                    while !done.load(SeqCst) {
                        let sent = client.post(&url).body(body.clone()).send().await;
                        let answer = sent.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
                        assert_eq!(answer.status(), 200, "{kind}");
                        answer.bytes().await.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
                        answered.fetch_add(1, SeqCst);
                    }
                })
            });
        Self { callers: callers.collect(), done, answered }
    }

    async fn goes_on(&self) {
        let until = self.answered.load(SeqCst) + SOME;
        let failed = || self.callers.iter().any(JoinHandle::is_finished);
        eventually("callers are answered", async || failed() || self.answered.load(SeqCst) >= until).await;
    }

    async fn end(self) -> u64 {
        self.done.store(true, SeqCst);
        for caller in self.callers {
            caller.await.unwrap();
        }
        self.answered.load(SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_notice_nothing_of_two_handovers_in_a_row() {
    let folder = folder();
    let mut serving = Process::start(&folder, &FOLDERS);
    let load = Load::on(serving.data.trim());
    for _ in 0..2 {
        load.goes_on().await;
        let next = Process::serving(successor(&folder, &serving));
        assert!(next.began.contains("one before leaves"), "{}", next.began);
        let (code, log) = serving.ended().await;
        assert_eq!(code, Some(0), "{log}");
        for step in ["a host is ready", "the other host accepts now", "all callers of this host have gone"] {
            assert!(log.contains(step), "nothing of `{step}`: {log}");
        }
        assert_eq!(answers(&folder, &next).await, u64::from(next.id()));
        load.goes_on().await;
        serving = next;
    }
    assert!(load.end().await >= 4 * SOME);
    serving.signal("TERM");
    assert_eq!(serving.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_host_has_accepted_it_answers() {
    let folder = TestHost::new().probe().into_folder();
    let mut old = Process::start(&folder, &FOLDERS);
    let ask = "POST /v1/functions/test/probe/echo HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\n";
    let [mut silent, mut quiet, mut uploading] =
        [Raw::connect(&old.data).await, Raw::connect(&old.data).await, Raw::connect(&old.data).await];
    quiet.send(format!("{ask}0123456789").as_bytes()).await;
    let answer = quiet.answer().await.unwrap();
    assert_eq!((answer.status, answer.headers.get("connection")), (200, None));
    uploading.send(format!("{ask}01234").as_bytes()).await;
    let new = Process::serving(successor(&folder, &old));
    assert!(old.reads("the other host accepts now"), "{}", old.began);
    // One has said nothing yet, one is in the middle, one was between two requests.
    silent.send(format!("{ask}0123456789").as_bytes()).await;
    quiet.send(format!("{ask}0123456789").as_bytes()).await;
    uploading.send(b"56789").await;
    for connection in [&mut silent, &mut quiet, &mut uploading] {
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, "close"));
        assert_eq!(answer.json()["body"], "0123456789");
        assert!(connection.is_closed().await);
    }
    assert_eq!(old.ended().await.0, Some(0));
    assert_eq!(answers(&folder, &new).await, u64::from(new.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_comes_to_nothing_changes_nothing() {
    let folder = folder();
    let old = Process::start(&folder, &FOLDERS);
    let load = Load::on(old.data.trim());
    let mut killed = Process::begun(successor(&folder, &old));
    assert!(killed.reads("goes on until this one is ready"), "{}", killed.began);
    killed.signal("KILL");
    let (code, log) = killed.ended().await;
    assert!(code.is_none() && !log.contains("is ready"), "{log}");
    let mut broken = successor(&folder, &old);
    broken.env("TENON_SANDBOX__MAX_INSTANCES", "0");
    let but = |flag: &str, value| {
        let mut arguments = [&at(&old)[..], &["--handover"]].concat();
        let place = arguments.iter().position(|it| *it == flag).unwrap() + 1;
        arguments[place] = value;
        command(&folder, &arguments)
    };
    let address = old.data.trim().split_once("://").unwrap().1;
    for (command, said) in [
        (broken, "sandbox.max_instances".to_owned()),
        // Found only after the other has been asked.
        (but("--dev-functions", "lost"), "lost".to_owned()),
        (but("--listen", "127.0.0.1:1"), format!("say --listen {address}")),
        (command(&folder, &at(&old)), "--handover".to_owned()),
    ] {
        let (code, log) = output(command);
        assert!(code == Some(1) && log.contains(&said), "{code:?}, not `{said}`: {log}");
    }
    assert_eq!(answers(&folder, &old).await, u64::from(old.id()));
    load.goes_on().await;
    load.end().await;
    old.signal("TERM");
    let (code, log) = old.ended().await;
    assert!(code == Some(0) && !log.contains("accepts now"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_host_leaves_behind_is_in_nobodys_way() {
    let folder = folder();
    let killed = Process::start(&folder, &FOLDERS);
    let mut arguments: Vec<_> = at(&killed).into_iter().map(str::to_owned).collect();
    killed.signal("KILL");
    killed.ended().await;
    assert!(folder.path().join("data/handover.sock").exists());
    arguments.push("--handover".into());
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let next = Process::serving(command(&folder, &arguments));
    assert!(next.began.contains("starts as usual"), "{}", next.began);
    assert_eq!(answers(&folder, &next).await, u64::from(next.id()));
}

/// A host at the door that gives its sockets away twice (to one that asks, and to the same when it is ready) and then says
/// nothing more. It closes the door where it `ends`.
fn says_no_goodbye(
    folder: &TempDir,
    sockets: [TcpListener; 2],
    ends: bool,
) -> std::thread::JoinHandle<Option<UnixListener>> {
    let path = folder.path().join("data/handover.sock");
    let _ = std::fs::remove_file(&path);
    let door = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for _ in 0..2 {
            let (stream, _) = door.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
            let offer = serde_json::json!({ "protocol": 1, "version": "0", "addresses": addresses, "refused": null });
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            let sockets = sockets.each_ref().map(|socket| socket.as_fd());
            assert!(beside.push(SendAncillaryMessage::ScmRights(&sockets)));
            let line = format!("{offer}\n");
            sendmsg(&stream, &[IoSlice::new(line.as_bytes())], &mut beside, SendFlags::empty()).unwrap();
        }
        (!ends).then_some(door)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_goodbye_only_one_host_goes_on() {
    let folder = folder();
    for ends in [true, false] {
        let sockets = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [data, control] = sockets.each_ref().map(|socket| socket.local_addr().unwrap().to_string());
        let door = says_no_goodbye(&folder, sockets, ends);
        let ports = ["--listen", &data, "--control-listen", &control, "--handover"];
        let next = command(&folder, &[&FOLDERS[..], &ports].concat());
        if ends {
            let next = Process::serving(next);
            assert!(next.began.contains("one before is gone"), "{}", next.began);
            assert_eq!(answers(&folder, &next).await, u64::from(next.id()));
        } else {
            let (code, log) = tokio::task::spawn_blocking(move || output(next)).await.unwrap();
            assert!(code == Some(1) && log.contains("the host that serves goes on"), "{log}");
        }
        drop(door.join().unwrap());
    }
}

/// As systemd starts it: the program gets its sockets as descriptors from 3 on, and a note for whom they are.
fn activated(folder: &TempDir, sockets: [&TcpListener; 2], arguments: &[&str]) -> Command {
    let mut parent = Command::new("sh");
    let pass =
        "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=control:data exec \"$@\"";
    parent.args(["-c", pass, "sh", env!("CARGO_BIN_EXE_tenon-host")]);
    let mut parent = with(parent, folder, arguments);
    let [control, data] = sockets.map(|socket| Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    parent.stdin(control).stdout(data);
    parent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisors_sockets_are_served_and_handed_over() {
    let folder = folder();
    let [data, control] = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let [data_address, control_address] = [&data, &control].map(|it| it.local_addr().unwrap().to_string());
    let ports = ["--listen", &data_address, "--control-listen", &control_address];
    let crossed = ["--listen", &control_address, "--control-listen", &data_address];
    let (code, log) = output(activated(&folder, [&control, &data], &[&FOLDERS[..], &crossed].concat()));
    assert!(code == Some(1) && log.contains(&format!("say --listen {data_address}")), "{log}");
    // Who comes before the host waits for it.
    let early = TcpStream::connect(&data_address).unwrap();
    early.set_nonblocking(true).unwrap();
    let host = Process::serving(activated(&folder, [&control, &data], &[&FOLDERS[..], &ports].concat()));
    drop((data, control));
    let mut early = Raw::over(tokio::net::TcpStream::from_std(early).unwrap());
    early.send(b"GET /health/ready HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
    assert_eq!(early.answer().await.unwrap().status, 200);
    assert_eq!(answers(&folder, &host).await, u64::from(host.id()));
    let next = Process::serving(successor(&folder, &host));
    assert_eq!(host.ended().await.0, Some(0));
    assert_eq!(answers(&folder, &next).await, u64::from(next.id()));
}

#[test]
fn what_is_passed_without_a_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut parent = Command::new("sh");
    parent.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh", env!("CARGO_BIN_EXE_tenon-host")]);
    let (code, log) = output(with(parent, &folder, &[]));
    assert!(code == Some(1) && log.contains("FileDescriptorName=data"), "{log}");
    let (code, log) = run(&folder, &["--check", "--handover"]);
    assert_eq!(code, Some(0), "{log}");
}
