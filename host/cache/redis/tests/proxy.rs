//! A network that fails: what stands between a host and its Redis in these tests.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What is done to what passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Pass,
    /// Every part of it comes so much later.
    Delay(Duration),
    /// Nothing comes through until another mode is set; then all of it does.
    Stall,
    /// Answers are lost, and so is each connection that lost one: it stays open and silent for ever.
    Swallow,
    /// Connections are reset, new ones as well.
    Reset,
    /// Answers are replaced by something else.
    Garbage,
}

pub(super) struct Proxy {
    pub(super) port: u16,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (own, mode) = (listener.local_addr().unwrap().port(), watch::Sender::new(Mode::Pass));
        let modes = mode.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connection(client, ([127, 0, 0, 1], port).into(), modes.subscribe()));
            }
        });
        Self { port: own, mode, task }
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(mut client: TcpStream, server: SocketAddr, mode: watch::Receiver<Mode>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let mut resets = mode.clone();
    let reset = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = pump(from_client, to_server, mode.clone(), false) => false,
            () = pump(from_server, to_client, mode, true) => false,
            _ = resets.wait_for(|mode| *mode == Mode::Reset) => true,
        }
    };
    if reset {
        let _ = client.set_zero_linger(); // so that dropping it is a reset and no farewell
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    answers: bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(read) if read > 0 => read,
            _ => return,
        };
        let now = *mode.borrow_and_update();
        match now {
            Mode::Delay(time) => tokio::time::sleep(time).await,
            Mode::Stall => drop(mode.wait_for(|mode| *mode != Mode::Stall).await),
            Mode::Swallow if answers => std::future::pending().await,
            Mode::Garbage if answers => buffer[..read].fill(b'x'),
            _ => {}
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
