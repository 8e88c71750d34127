//! Draining: what was accepted is answered, what comes later is sent away, and the end comes within its bound.

use crate::{
    raw::Raw,
    support::{Answer, Served, TestHost, eventually},
};

async fn drain(host: &Served) -> Answer {
    let asked = host.client.post(format!("{}/admin/v1/drain", host.control)).bearer_auth(host.token());
    Answer::of(asked.send().await.unwrap()).await
}

async fn is_draining(host: &Served) {
    let refused = host.call("empty", "").await;
    refused.is_problem(503, "draining");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    host.get("/health/ready").await.is_problem(503, "not-ready");
    assert_eq!(host.get("/health/live").await.status, 200);
    let health = host.control("/health").await.json();
    assert_eq!((&health["draining"], &health["ready"]), (&true.into(), &false.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_answered() {
    let host = TestHost::new().probe().functions(&["empty"]).start().await;
    assert_eq!(host.get("/health/ready").await.status, 200);
    // One is still uploading, one waits for the model.
    let mut uploading = Raw::upload(&host, "probe/echo").await;
    let mut inferring =
        Raw::begin(&host, "POST /v1/functions/test/probe/slow HTTP/1.1\r\ncontent-length: 0", b"").await;
    host.in_flight(2).await;
    assert_eq!((drain(&host).await.status, drain(&host).await.status), (202, 202));
    is_draining(&host).await;
    assert_eq!(inferring.answer().await.unwrap().status, 200);
    uploading.send(b"56789").await;
    let answer = uploading.answer().await.unwrap();
    assert_eq!((answer.status, &answer.json()["body"]), (200, &"0123456789".into()));
    host.all_back_to_zero().await;
    assert_eq!(host.metric("tenon_shed_total{reason=\"draining\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn then_the_host_ends() {
    let host = TestHost::new().probe().start().await;
    let mut uploading = Raw::upload(&host, "probe/echo").await;
    host.in_flight(1).await;
    let (client, base) = (host.client.clone(), host.base.clone());
    let ending = tokio::spawn(host.host.drain());
    let refused = async || match client.post(format!("{base}/v1/functions/test/probe/state")).send().await {
        Ok(answer) => Answer::of(answer).await.status,
        Err(error) => panic!("it still listens while one is in flight: {error}"),
    };
    eventually("new requests are refused", async || refused().await == 503).await;
    assert!(!ending.is_finished());
    uploading.send(b"56789").await;
    assert_eq!(uploading.answer().await.unwrap().status, 200);
    ending.await.unwrap();
    assert!(client.get(base).send().await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_invocation_does_not_keep_the_host() {
    let patient = [("timeout_ms = 30000", "timeout_ms = 300000"), ("cpu_ms = 500", "cpu_ms = 300000")];
    let test =
        TestHost::new().probe().changed_function("probe", &patient).config(|config| config.http.drain_timeout_ms = 100);
    let host = test.start().await;
    let mut stuck = [
        Raw::upload(&host, "probe/echo").await,
        Raw::begin(&host, "GET /v1/functions/test/probe/loop/preprocess HTTP/1.1", b"").await,
    ];
    host.in_flight(2).await;
    let ending = tokio::spawn(host.host.drain());
    eventually("the host ends", async || ending.is_finished()).await;
    for caller in &mut stuck {
        assert!(caller.is_closed().await);
    }
}
