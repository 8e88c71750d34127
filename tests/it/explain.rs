//! Why a model batches as it does, as an operator asks a host that runs.

use futures_util::future::join_all;

use crate::support::{TestHost, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_what_ran_and_what_follows() {
    let host = TestHost::new().models(&["identity"]).functions(&["identity"]).start().await;
    let path = "/admin/v1/models/identity/explain";
    let fresh = host.control(path).await.json();
    assert_eq!((&fresh["advice"][0]["code"], &fresh["batches"]), (&"no-batches".into(), &serde_json::json!([])));

    let row: Vec<u8> = (0..16).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let answers = join_all((0..12).map(|_| host.call("identity", row.clone()))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let explained = async || host.control(path).await.json();
    let rows = |it: &serde_json::Value| it["figures"]["rows"].as_u64();
    eventually("all rows are remembered", async || rows(&explained().await) == Some(12)).await;

    let explanation = explained().await;
    assert_eq!((&explanation["model"], &explanation["version"]), (&"identity".into(), &1.into()));
    assert_eq!(
        explanation["settings"]["max_batch_size"],
        host.get("/v1/models").await.json()["models"][0]["max_batch_size"]
    );
    let batches = explanation["batches"].as_array().unwrap();
    assert_eq!(batches.len() as f64, host.batches("identity"));
    for batch in batches {
        let part = &batch["parts"][0];
        assert_eq!((&part["tenant"], &part["function"]), (&"test".into(), &"identity".into()));
        assert!(batch["instance_ms"].as_f64() > Some(0.0) && batch["predicted_ms"].is_number(), "{batch}");
        assert_eq!((&batch["elements"], &batch["runs"]), (&batch["rows"], &1.into()), "a fixed row is one element");
    }
    assert_eq!(explanation["queue"]["rows"], 0);
    assert!(!explanation["advice"].as_array().unwrap().is_empty());
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_wrongly_is_told_so() {
    let host = TestHost::new().models(&["identity"]).start().await;
    let ask = async |path: &str| host.control(&format!("/admin/v1/models/{path}")).await;
    assert_eq!(ask("identity/explain?version=1").await.status, 200);
    let problem = ask("no-such/explain").await.is_problem(404, "model-not-found");
    assert_eq!(problem["detail"], "there is no model `no-such`; there are: identity");
    ask("identity/explain?version=9").await.is_problem(404, "model-not-found");
    ask("%ff/explain").await.is_problem(404, "model-not-found");
    ask("identity/explain?version=x").await.is_problem(400, "bad-request");
    ask("identity/explain?all").await.is_problem(400, "bad-request");
    let path = format!("{}/admin/v1/models/identity/explain", host.control);
    let stranger = host.client.get(&path).send().await.unwrap();
    assert_eq!(stranger.status().as_u16(), 401);
    let posted = host.client.post(&path).bearer_auth(host.token()).send().await.unwrap();
    assert_eq!(posted.status().as_u16(), 405);
    assert_eq!(host.get("/admin/v1/models/identity/explain").await.status, 404, "not on the data plane");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_failed_says_why() {
    let host = TestHost::new().changed_model("identity", &[("FP32", "FP31")]).start().await;
    let answer = host.control("/admin/v1/models/identity/explain").await;
    let problem = answer.is_problem(503, "model-unavailable");
    assert!(problem["detail"].as_str().unwrap().contains("FP31"), "{problem}");
}
