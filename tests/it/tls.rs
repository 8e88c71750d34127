//! TLS on both planes: what is spoken inside, who is believed, certificates that change while callers come and go, and
//! callers who do not speak it.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use tenon_host::http::TlsFiles;

use crate::{
    raw::Raw,
    secure::{Pair, connect, get, get_http_2, place},
    support::{Served, TestHost, eventually},
};

fn files(folder: &Path) -> Option<TlsFiles> {
    Some(TlsFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") })
}

/// A host whose data plane speaks TLS with `pair`; its control plane stays plain, so that helpers can ask it.
async fn host(test: TestHost, pair: &Pair) -> Served {
    pair.write(test.folder());
    let tls = files(test.folder());
    test.config(|config| config.http.tls = tls).start().await
}

/// The certificate that a new handshake is shown.
async fn shown(host: &Served, pairs: &[&Pair]) -> Vec<u8> {
    let stream = connect(&host.base, pairs, &[]).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_planes_speak_it() {
    let (pair, test) = (Pair::new(), TestHost::new().probe());
    pair.write(test.folder());
    let tls = files(test.folder());
    let host = test.config(|config| (config.http.tls, config.http.control_tls) = (tls.clone(), tls)).start().await;
    assert!(host.base.starts_with("https://") && host.control.starts_with("https://"));

    let answer = get(&host.base, &pair, "/v1/functions/test/probe/echo HTTP/1.1").await;
    assert_eq!((answer.status, &answer.json()["path"]), (200, &"/echo".into()));
    let answer = get_http_2(&host.base, &pair, "/v1/functions/test/probe/echo?a=1", Default::default()).await;
    assert_eq!((answer.status, &answer.json()["query"][0][0]), (200, &"a".into()));

    let token = format!("Bearer {}", host.token());
    get(&host.control, &pair, "/health HTTP/1.1").await.is_problem(401, "unauthenticated");
    let with_token = format!("/health HTTP/1.1\r\nauthorization: {token}");
    assert_eq!(get(&host.control, &pair, &with_token).await.json()["invocations_in_flight"], 0);
    let headers = [(http::header::AUTHORIZATION, token.parse().unwrap())].into_iter().collect();
    assert_eq!(get_http_2(&host.control, &pair, "/health", headers).await.json()["host_memory_bytes"], 0);

    // Without a choice of protocols HTTP/1.1 is spoken, as ever.
    let stream = connect(&host.base, &[&pair], &[]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    let mut raw = Raw::over(stream);
    raw.send(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    // Who believes somebody else, or speaks something else, does not come in.
    let stranger = connect(&host.base, &[&Pair::new()], &[]).await.expect_err("an unknown authority");
    assert!(stranger.to_string().contains("invalid peer certificate"), "{stranger}");
    assert!(connect(&host.base, &[&pair], &["http/0.9"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_speak_it_is_told_or_closed() {
    let pair = Pair::new();
    let host = host(TestHost::new(), &pair).await;
    let mut plain = Raw::connect(&host.base).await;
    plain.send(b"GET /v1/models HTTP/1.1\r\nhost: t\r\nauthorization: Bearer x\r\n\r\n").await;
    let problem = plain.answer().await.unwrap().is_problem(400, "bad-request");
    assert!(problem["detail"].as_str().unwrap().contains("https://"), "{problem}");
    assert_eq!(plain.rest().await, "", "and the connection ends");
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    hello.resize(hello.len() + 600, b'x');
    for garbage in [&b"\x00\x01\x02\x03\x04\x05\x06\x07"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &hello] {
        let mut raw = Raw::connect(&host.base).await;
        raw.send(garbage).await;
        assert!(raw.is_closed().await, "{garbage:?}");
    }
    assert_eq!(get(&host.base, &pair, "/health/live HTTP/1.1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_never_ends_loses_its_place() {
    let (pair, test) = (Pair::new(), TestHost::new());
    let one_place = |config: &mut tenon_host::config::Config| {
        (config.http.max_connections, config.http.header_timeout_ms) = (1, 1000);
    };
    let host = host(test.config(one_place), &pair).await;
    for said in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01"] {
        let mut stuck = Raw::connect(&host.base).await;
        stuck.send(said).await;
        // There is one place: this waits in the kernel until the handshake has lost it.
        assert_eq!(get(&host.base, &pair, "/health/live HTTP/1.1").await.status, 200);
        assert!(stuck.is_closed().await, "{said:?}");
    }
    // The same for who shakes hands and then says nothing, by either protocol.
    for protocol in ["http/1.1", "h2"] {
        let stuck = connect(&host.base, &[&pair], &[protocol]).await.unwrap();
        assert_eq!(get(&host.base, &pair, "/health/live HTTP/1.1").await.status, 200);
        assert!(Raw::over(stuck).is_closed().await, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_loses_no_request() {
    let (old, new) = (Pair::new(), Pair::new());
    let host = host(TestHost::new().functions(&["empty"]), &old).await;
    let folder = host.folder.path().to_owned();
    let (ended, served) = (AtomicBool::new(false), AtomicU32::new(0));
    let request = b"GET /v1/functions/test/empty HTTP/1.1\r\nhost: localhost\r\n\r\n";
    // One caller stays on a connection from before, the other comes anew each time.
    let stays = async {
        let mut raw = Raw::over(connect(&host.base, &[&old], &[]).await.unwrap());
        while !ended.load(Relaxed) {
            raw.send(request).await;
            assert_eq!(raw.answer().await.expect("the connection lives on").status, 200);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let comes = async {
        while !ended.load(Relaxed) {
            let mut raw = Raw::over(connect(&host.base, &[&old, &new], &[]).await.unwrap());
            raw.send(request).await;
            assert_eq!(raw.answer().await.expect("an answer").status, 200);
            served.fetch_add(1, Relaxed);
        }
    };
    let changes = async {
        new.write(&folder);
        eventually("the new certificate is shown", async || shown(&host, &[&old, &new]).await == *new.der).await;
        // A key that is not the certificate's, for longer than it takes to look: nothing changes.
        place(&folder.join("key.pem"), &old.key);
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(shown(&host, &[&old, &new]).await, *new.der);
        // Neither is a file that is gone the end, and the pair is taken once it is whole again.
        std::fs::remove_file(folder.join("certificate.pem")).unwrap();
        old.write(&folder);
        eventually("the old certificate is back", async || shown(&host, &[&old, &new]).await == *old.der).await;
        ended.store(true, Relaxed);
    };
    tokio::join!(stays, comes, changes);
    assert!(served.load(Relaxed) > 10, "{served:?} requests are no traffic");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_files_is_said_at_start() {
    let (pair, other) = (Pair::new(), Pair::new());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n";
    for (certificate, key, told) in [
        (None, Some(&pair.key[..]), &["certificate.pem", "No such file"][..]),
        (Some(&pair.certificate[..]), None, &["key.pem", "No such file"]),
        (Some(""), Some(&pair.key), &["certificate.pem", "no certificate"]),
        (Some("hello"), Some(&pair.key), &["certificate.pem", "no certificate"]),
        (Some(&pair.key), Some(&pair.key), &["certificate.pem", "no certificate"]),
        (Some(broken), Some(&pair.key), &["certificate.pem", "not PEM"]),
        (Some(no_der), Some(&pair.key), &["certificate.pem", "cannot be used"]),
        (Some(&pair.certificate), Some(""), &["key.pem", "no private key"]),
        (Some(&pair.certificate), Some(encrypted), &["key.pem", "encrypted keys"]),
        (Some(&pair.certificate), Some(&other.key), &["key.pem", "certificate.pem", "is not the key"]),
    ] {
        let test = TestHost::new();
        for (name, text) in [("certificate.pem", certificate), ("key.pem", key)] {
            if let Some(text) = text {
                place(&test.folder().join(name), text);
            }
        }
        let tls = files(test.folder());
        let refused = test.config(|config| config.http.control_tls = tls).try_start().await;
        let refused = format!("{:#}", refused.err().expect("the host must not start"));
        for told in told.iter().chain(&["http.control_tls"]) {
            assert!(refused.contains(told), "`{refused}` does not tell of {told}");
        }
    }
}
