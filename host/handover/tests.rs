//! Hosts that meet at the door: what goes well, and everything that must change nothing for the one that serves.

use std::{net::TcpStream, os::unix::fs::PermissionsExt as _};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    task::JoinHandle,
};

use super::*;

const ANY: Wanted = Wanted { addresses: [LOOPBACK; 2], backlog: 16 };
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A host that serves, as far as anybody at its door can tell.
struct Old {
    folder: TempDir,
    sockets: Planes<TcpListener>,
    taken: JoinHandle<Successor>,
}

impl Old {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sockets = [LOOPBACK, LOOPBACK].map(|address| TcpListener::bind(address).unwrap());
        let copies = [0, 1].map(|plane: usize| sockets[plane].try_clone().unwrap());
        let door = Door::open(folder.path(), copies, false).await.unwrap();
        Self { folder, sockets, taken: tokio::spawn(door.taken()) }
    }

    fn addresses(&self) -> Planes<SocketAddr> {
        [0, 1].map(|plane: usize| self.sockets[plane].local_addr().unwrap())
    }

    /// Says something at the door; gives what is answered until it closes.
    async fn say(&self, text: &str) -> String {
        let mut stream = UnixStream::connect(path(self.folder.path())).await.unwrap();
        // It may have heard enough before the end.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    /// It goes on, and can still be taken over from.
    async fn goes_on(self) {
        let (sockets, taking) = take(self.folder.path(), ANY).await.unwrap().unwrap();
        assert_eq!(sockets.map(|socket| socket.local_addr().unwrap()), self.addresses());
        assert!(!self.taken.is_finished());
        taking.confirm().await.unwrap();
        self.taken.await.unwrap();
    }
}

#[tokio::test]
async fn the_sockets_themselves_change_hands() {
    let old = Old::new().await;
    // They wait in the kernel, and go with the sockets.
    let waiting = old.addresses().map(|address| TcpStream::connect(address).unwrap().local_addr().unwrap());
    let wanted = Wanted { addresses: old.addresses(), ..ANY };
    let seen = look(old.folder.path(), wanted).await.unwrap().unwrap();
    assert_eq!((seen.pid, &seen.version[..]), (i32::try_from(std::process::id()).ok(), env!("CARGO_PKG_VERSION")));
    let (sockets, taking) = take(old.folder.path(), wanted).await.unwrap().unwrap();
    assert!(!old.taken.is_finished());
    taking.confirm().await.unwrap();
    let successor = old.taken.await.unwrap();
    assert_eq!((successor.pid, successor.version), (seen.pid, seen.version));
    drop(old.sockets);
    assert_eq!(sockets.map(|socket| socket.accept().unwrap().1), waiting);
}

#[tokio::test]
async fn who_dies_before_it_accepts_changes_nothing() {
    let old = Old::new().await;
    for _ in 0..3 {
        drop(take(old.folder.path(), ANY).await.unwrap().unwrap());
    }
    drop(UnixStream::connect(path(old.folder.path())).await.unwrap());
    old.goes_on().await;
}

#[tokio::test]
async fn sockets_listen_where_the_configuration_says() {
    let old = Old::new().await;
    let [data, control] = old.addresses();
    let elsewhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
    for (addresses, plane, flag, found) in [
        ([elsewhere, control], "data", "--listen", data),
        ([data, "0.0.0.0:0".parse().unwrap()], "control", "--control-listen", control),
    ] {
        let wanted = Wanted { addresses, ..ANY };
        for refused in
            [look(old.folder.path(), wanted).await.err().unwrap(), take(old.folder.path(), wanted).await.err().unwrap()]
        {
            let said = refused.to_string();
            assert!(said.contains(plane) && said.contains(&format!("{flag} {found}")), "{said}");
        }
    }
    old.goes_on().await;
}

#[tokio::test]
async fn what_makes_no_sense_at_the_door_is_refused_and_it_stays_open() {
    let old = Old::new().await;
    let refused = old.say("{\"protocol\":2,\"version\":\"9.9\\u001b\",\"other\":[]}\n").await;
    assert!(refused.contains("version 9.9)") && refused.contains("protocol 2, this one 1"), "{refused}");
    for nonsense in ["\n", "GET / HTTP/1.1\n", "{}\n", "{\"protocol\":1}\n", &"x".repeat(1 << 20), "{}\n{}\n"] {
        let answer = old.say(nonsense).await;
        assert!(answer.is_empty() || answer.contains("\"refused\":\"data/handover.sock"), "{answer}");
    }
    let accepts_not = "{\"protocol\":1,\"version\":\"\",\"takes\":true}\n";
    let mut stream = UnixStream::connect(path(old.folder.path())).await.unwrap();
    stream.write_all(accepts_not.as_bytes()).await.unwrap();
    let (offer, sockets) = message::receive(&stream, "its offer").await.unwrap();
    assert_eq!(
        (message::versioned::<message::Offer>(&offer).unwrap().addresses, sockets.len()),
        (Some(old.addresses()), 2)
    );
    stream.write_all(b"{\"accepts\":false}\n").await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    old.goes_on().await;
}

#[tokio::test]
async fn a_host_of_another_protocol_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(path(folder.path())).unwrap();
    let answers =
        ["{\"protocol\":7,\"version\":\"2.0\"}\n", "{\"protocol\":7,\"refused\":\"no\"}\n", "{\"protocol\":1}\n"];
    let answering = tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.read(&mut [0; 512]).await;
        }
    });
    let mut said = Vec::new();
    for _ in answers {
        said.push(take(folder.path(), ANY).await.err().unwrap().to_string());
    }
    answering.await.unwrap();
    assert!(said[0].contains("(version 2.0) speaks handover protocol 7"), "{said:?}");
    assert!(said[1].ends_with("refused: no") && said[2].contains("no line of this protocol"), "{said:?}");
}

#[tokio::test]
async fn a_door_that_is_left_behind_is_nobodys_and_a_living_hosts_is_its_own() {
    let old = Old::new().await;
    let folder = old.folder.path();
    let file = std::fs::metadata(path(folder)).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let copies = || [0, 1].map(|plane: usize| old.sockets[plane].try_clone().unwrap());
    assert!(matches!(Door::open(folder, copies(), false).await, Err(HandoverError::Held)));
    let next = Door::open(folder, copies(), true).await.unwrap();
    old.taken.abort();
    assert!(old.taken.await.is_err());
    assert!(is_held(folder).await, "the one before does not remove the file of the one that came");
    drop(next);
    assert!(!is_held(folder).await && path(folder).exists());
    assert!(look(folder, ANY).await.unwrap().is_none() && take(folder, ANY).await.unwrap().is_none());
    assert!(Door::open(folder, copies(), false).await.is_ok());
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn only_what_listens_for_tcp_is_taken() {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let unix = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    for fd in [
        OwnedFd::from(TcpStream::connect(address).unwrap()),
        OwnedFd::from(std::net::UdpSocket::bind(LOOPBACK).unwrap()),
        OwnedFd::from(unix),
        OwnedFd::from(std::fs::File::open("/dev/null").unwrap()),
    ] {
        let refused = adopt(1, fd, LOOPBACK, 16).unwrap_err();
        assert!(matches!(refused, HandoverError::NoListener { plane: "control", .. }), "{refused}");
    }
    assert_eq!(adopt(1, listener.into(), address, 16).unwrap().local_addr().unwrap(), address);
}
