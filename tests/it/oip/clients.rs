//! The client that everybody has: PyPI's `tritonclient`, over HTTP and gRPC, against a host with real models. What it asks
//! and expects is in `client.py`.

use crate::{programs, support::TestHost};

/// What pip is told.
const PACKAGE: &str = "'tritonclient[http,grpc]==2.73.0'";

async fn client(part: &str) {
    let Some(mut python) = programs::python("tritonclient", PACKAGE) else { return };
    let host = TestHost::new().models(&["identity", "lookup", "ragged-identity", "slow"]).start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/oip/client.py");
    python.args([script, part, host.base.strip_prefix("http://").unwrap()]);
    let output = tokio::task::spawn_blocking(move || python.output()).await.unwrap().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("well\n"), "{said}{error}");
    assert!(host.metric("tenon_invocations_total{function=\"oip\",outcome=\"ok\",tenant=\"default\"}") > 5.0);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tritonclient_over_http() {
    client("http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tritonclient_over_grpc() {
    client("grpc").await;
}
