//! Passwords and TLS.

use super::*;

fn down(host: &Host) -> String {
    match host.remote.state() {
        RemoteState::Down { reason, .. } => reason,
        state => format!("{state:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_from_a_file_that_may_change() {
    let Some(server) = Server::with(&["--port", "{port}", "--requirepass", "right"]).await else { return };
    let host = Host::start(&config(server.port)).await;
    until("it is refused", || async { down(&host) == "NOAUTH" || down(&host) == "authentication failed" }).await;
    let file = server.folder.path().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let host = Host::start(&Config { redis_password_file: Some(file.clone()), ..config(server.port) }).await;
    until("it is refused", || async { down(&host) == "authentication failed" || down(&host) == "WRONGPASS" }).await;
    assert_eq!(host.get(key("a")).await, None);
    std::fs::write(&file, "right\n").unwrap();
    let back = host.hits("a").await;
    assert!(back <= RECOVERY, "{back:?}");
    host.remote.invalidate(0, &[scope("a")]).await;
    host.hears(scope("a")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_certificates_that_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("cert"), made.cert.pem()).unwrap();
    std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(path("other"), other.cert.pem()).unwrap();
    let (cert, other) = (path("cert"), path("other"));
    let args = ["--port", "0", "--tls-port", "{port}", "--tls-auth-clients", "no", "--tls-cert-file", "{dir}/cert"];
    let args = [&args[..], &["--tls-key-file", "{dir}/key", "--tls-ca-cert-file", "{dir}/cert"]].concat();
    let Some(server) = Server::within(folder, &args).await else { return };
    let url = |host: &str| Some(format!("rediss://{host}:{}", server.port));
    let with = |ca, host| Config { redis_ca_file: Some(ca), redis_url: url(host), ..config(server.port) };
    let host = Host::start(&with(cert.clone(), "localhost")).await;
    host.hits("a").await;
    host.remote.invalidate(0, &[scope("a")]).await;
    host.hears(scope("a")).await;
    for wrong in [with(other, "localhost"), with(cert, "127.0.0.1")] {
        let host = Host::start(&wrong).await;
        assert_eq!(down(&host), "connection failed", "{wrong:?}");
    }
}
