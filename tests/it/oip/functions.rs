//! Functions that leave tensors to the host: `passthrough = "oip"` for who has no `preprocessing`, and the protocol's JSON
//! for who has no `postprocessing`.

use serde_json::json;

use super::rest::row;
use crate::support::{Answer, Served, TestHost};

async fn guarded(host: &Served, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
    let mut request = host.client.post(format!("{}/v1/functions/test/guarded", host.base)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_model_answers_who_says_please() {
    let host = TestHost::new().models(&["identity"]).functions(&["guarded"]).start().await;
    assert_eq!(host.listed("guarded").await["state"], "ready", "{}", host.listed("guarded").await);
    let input = json!({ "name": "x", "shape": [1, 16], "datatype": "FP32", "data": row(1) });
    let body = json!({ "id": "7", "inputs": [input], "outputs": [{ "name": "y" }] }).to_string();
    guarded(&host, &[], body.clone()).await.is_problem(400, "no-word");
    let please = ("x-word", "please");
    let answer = guarded(&host, &[please], body).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{}", answer.text());
    let told = answer.json();
    assert_eq!(
        (&told["id"], &told["model_name"], &told["outputs"][0]["shape"]),
        (&json!("7"), &json!("identity"), &json!([1, 16]))
    );
    assert_eq!(told["outputs"][0]["data"].as_array().unwrap().len(), 16);
    assert_eq!(answer.header("x-tenon-revision"), "1");
    // Binary tensors go the same way.
    let input = json!({ "name": "x", "shape": [1, 16], "datatype": "FP32", "parameters": { "binary_data_size": 64 } });
    let head = json!({ "inputs": [input], "parameters": { "binary_data_output": true } }).to_string();
    let length = head.len().to_string();
    let body = [head.as_bytes(), &[7; 64]].concat();
    let answer = guarded(&host, &[please, ("inference-header-content-length", &length)], body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body.ends_with(&[7; 64]) && !answer.header("inference-header-content-length").is_empty());
    // What the host does in a guest's stead is processor time of its function.
    let spent = host.metric("tenon_cpu_seconds_total{function=\"guarded\",kind=\"host_call\",tenant=\"test\"}");
    assert!(spent > 0.0, "{spent}");
    // What does not fit is the caller's affair: it made the tensors.
    for (body, told) in [
        ("not JSON".to_owned(), "line 1"),
        (
            json!({ "inputs": [{ "name": "x", "shape": [1, 15], "datatype": "FP32", "data": row(1)[..15] }] })
                .to_string(),
            "`x`",
        ),
        (json!({ "inputs": [] }).to_string(), "missing"),
    ] {
        let problem = guarded(&host, &[please], body).await.is_problem(400, "bad-request");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postprocessing_the_outputs_are_told() {
    let host = TestHost::new().models(&["ragged-identity"]).functions(&["plain"]).start().await;
    let answer = host.call("plain", &[3, 3][..]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = json!({ "model_name": "ragged-identity", "model_version": "1", "outputs": [
        { "name": "same", "datatype": "INT64", "shape": [2, 3], "data": [1, 1, 1, 1, 1, 1] },
        { "name": "total", "datatype": "INT64", "shape": [2], "data": [3, 3] },
    ] });
    assert_eq!(answer.json(), told);
    // Longer ones are told beside connections: 80 KiB of outputs.
    let answer = host.call("plain", vec![128; 80]).await;
    assert_eq!(
        (answer.status, &answer.json()["outputs"][1]["data"]),
        (200, &json!(vec![128; 80])),
        "{}",
        answer.text()
    );
    for (path, body, told) in [("plain/twice", &[3, 3][..], "2 inferences"), ("plain", &[3, 4][..], "differ in length")]
    {
        let problem = host.call(path, body).await.is_problem(502, "plugin-contract");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn either_the_plugin_or_the_host_makes_tensors() {
    let host = TestHost::new()
        .models(&["identity", "ragged-identity"])
        .functions(&["guarded", "plain"])
        .changed_function("guarded", &[("passthrough = \"oip\"\n", "")])
        .changed_function("plain", &[("component", "passthrough = \"oip\"\ncomponent")])
        .start()
        .await;
    for (name, told) in
        [("guarded", "exports no `preprocessing`"), ("plain", "exports `preprocessing`, which would never run")]
    {
        let listed = host.listed(name).await;
        assert_eq!(listed["state"], "refused", "{listed}");
        assert!(listed["error"].as_str().unwrap().contains(told), "{listed}");
    }
}
