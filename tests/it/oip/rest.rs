//! What a caller sends by hand: JSON and binary tensors, packed bodies, limits, metadata, paths.

use std::{io::Write as _, time::Duration};

use flate2::{Compression, read::GzDecoder, write};
use serde_json::{Value, json};

use crate::{
    raw::Raw,
    support::{Answer, Served, TestHost, client},
};

/// Sixteen elements of a row of the identity model.
pub(super) fn row(from: u32) -> Vec<f32> {
    (0..16).map(|index| (from + index) as f32 / 3.0).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn document(data: &Value) -> Value {
    json!({ "id": "a", "inputs": [{ "name": "x", "shape": [2, 16], "datatype": "FP32", "data": data }] })
}

async fn ask(host: &Served, model: &str, headers: &[(&str, String)], body: impl Into<reqwest::Body>) -> Answer {
    // A connection of its own: one on which a body was refused half-way is closed, and must not be met again.
    let client = client().build().unwrap();
    let mut request = client.post(format!("{}/v2/models/{model}/infer", host.base)).body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    Answer::of(request.send().await.unwrap()).await
}

fn floats(data: &Value) -> Vec<f32> {
    data.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inference_is_the_same_nested_flat_and_binary() {
    let host = TestHost::new().models(&["identity"]).start().await;
    let rows = [row(1), row(100)];
    for data in [json!(rows), json!(rows.concat())] {
        let answer = ask(&host, "identity", &[], document(&data).to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = answer.json();
        assert_eq!(
            (&told["id"], &told["model_name"], &told["model_version"]),
            (&json!("a"), &json!("identity"), &json!("1"))
        );
        let output = &told["outputs"][0];
        assert_eq!(
            (&output["name"], &output["datatype"], &output["shape"]),
            (&json!("y"), &json!("FP32"), &json!([2, 16]))
        );
        assert_eq!(floats(&output["data"]), rows.concat());
        assert_eq!(answer.header("content-type"), "application/json");
        assert!(!answer.header("x-request-id").is_empty() && answer.header("server-timing").contains("infer;dur="));
    }
    let input = json!({ "name": "x", "shape": [2, 16], "datatype": "FP32", "parameters": { "binary_data_size": 128 } });
    let head = json!({ "inputs": [input], "parameters": { "binary_data_output": true } }).to_string();
    let body = [head.as_bytes(), &bytes(&rows.concat())].concat();
    let answer =
        ask(&host, "identity/versions/1", &[("inference-header-content-length", head.len().to_string())], body).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/octet-stream"), "{}", answer.text());
    let length: usize = answer.header("inference-header-content-length").parse().unwrap();
    let told: Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    assert_eq!(told["outputs"][0]["parameters"]["binary_data_size"], 128);
    assert_eq!(answer.body[length..], bytes(&rows.concat()));
    // The shape may stand behind the data, and one output may be binary while another is not.
    let late = r#"{"inputs":[{"data":[[1,2,3],[4,5,6]],"shape":[2,3],"datatype":"INT64","name":"ids"}],
        "outputs":[{"name":"total","parameters":{"binary_data":true}},{"name":"same"}]}"#;
    let host = TestHost::new().models(&["ragged-identity"]).start().await;
    let answer = ask(&host, "ragged-identity", &[], late).await;
    let length: usize = answer.header("inference-header-content-length").parse().unwrap();
    let told: Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    assert_eq!(told["outputs"][1]["data"], json!([1, 2, 3, 4, 5, 6]));
    assert_eq!(answer.body[length..], [6_i64.to_le_bytes(), 15_i64.to_le_bytes()].concat());
    assert_eq!(host.metric("tenon_invocations_total{function=\"oip\",outcome=\"ok\",tenant=\"default\"}"), 1.0);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_index_and_readiness_are_told() {
    let host = TestHost::new().models(&["identity", "ragged-identity"]).start().await;
    assert_eq!(host.get("/v2/health/live").await.status, 200);
    assert_eq!(host.get("/v2/health/ready").await.status, 200);
    let server = host.get("/v2").await.json();
    assert_eq!(server["name"], "tenon");
    assert!(server["extensions"].as_array().unwrap().contains(&json!("binary_tensor_data")));
    let model = host.get("/v2/models/ragged-identity/versions/1").await.json();
    assert_eq!(model["inputs"], json!([{ "name": "ids", "datatype": "INT64", "shape": [-1, -1] }]));
    assert_eq!(model["outputs"][1], json!({ "name": "total", "datatype": "INT64", "shape": [-1] }));
    assert_eq!(model["versions"], json!(["1"]));
    let ready = host.get("/v2/models/identity/ready").await;
    assert_eq!((ready.status, ready.json()), (200, json!({ "name": "identity", "ready": true })));
    let index = host.post("/v2/repository/index", "").await.json();
    assert_eq!(index[0], json!({ "name": "identity", "version": "1", "state": "READY", "reason": "" }));
    assert_eq!(index.as_array().unwrap().len(), 2);
    for (path, status) in [
        ("/v2/models/nothing", 404),
        ("/v2/models/identity/versions/2/ready", 404),
        ("/v2/models/identity/versions/x", 404),
        ("/v2/models/%ff", 400),
        ("/v2/models/identity/versions/%ff/ready", 400),
        ("/v2/models/identity/config", 501),
        ("/v2/models/identity/stats", 501),
        ("/v2/systemsharedmemory/status", 501),
        ("/v2/trace/setting", 501),
        ("/v2/nothing/here", 404),
        ("/v2/models/identity/infer", 405),
    ] {
        let answer = host.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.json()["error"].as_str().is_some_and(|text| !text.is_empty()), "{path}: {}", answer.text());
    }
    // Beyond the protocol's paths nothing has changed: no answer that looks like success.
    host.get("/v3").await.is_problem(404, "not-found");
    host.post("/inference.Other/Call", "").await.is_problem(404, "not-found");
    let large = host.post("/v2/repository/index", vec![b' '; 5000]).await;
    assert_eq!(large.status, 413, "{}", large.text());
    for change in ["load", "unload"] {
        let path = format!("/v2/repository/models/identity/{change}");
        // Who is no operator is told so before it has sent anything else.
        let mut raw = Raw::begin(&host, &format!("POST {path} HTTP/1.1\r\ncontent-length: 10"), b"").await;
        assert_eq!(raw.answer().await.unwrap().status, 401);
        let answer = host.post(&path, "{}").await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        let with = json!({ "parameters": { "config": "{}" } }).to_string();
        let request = host.client.post(format!("{}{path}", host.base)).bearer_auth(host.token()).body(with);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 501, "{}", answer.text());
        assert!(answer.text().contains("`config`"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_bodies_are_unpacked_and_limited_behind_it() {
    let host = TestHost::new().models(&["identity"]).config(|config| config.oip.body_bytes = 1 << 20).start().await;
    let rows = [row(1), row(2)];
    let text = document(&json!(rows)).to_string();
    let pack = |text: &[u8], gzip: bool| match gzip {
        true => {
            let mut encoder = write::GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        false => {
            let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
    };
    for (coding, gzip) in [("gzip", true), ("deflate", false)] {
        let coded = [("content-encoding", coding.to_owned())];
        let packed = pack(text.as_bytes(), gzip);
        let answer = ask(&host, "identity", &coded, packed.clone()).await;
        assert_eq!((answer.status, floats(&answer.json()["outputs"][0]["data"])), (200, rows.concat()));
        // A thousand times as much as it looks like.
        let bomb = pack(&vec![b' '; 64 << 20], gzip);
        assert!(bomb.len() < 128 << 10);
        let answer = ask(&host, "identity", &coded, bomb).await;
        assert_eq!(answer.status, 413, "{}", answer.text());
        assert!(answer.json()["error"].as_str().unwrap().contains("1048576"), "{}", answer.text());
        let answer = ask(&host, "identity", &coded, packed[..packed.len() / 2].to_vec()).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        let answer = ask(&host, "identity", &coded, text.clone()).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    let answer = ask(&host, "identity", &[("content-encoding", "br".into())], text).await;
    assert_eq!(answer.status, 415, "{}", answer.text());
    let many: Vec<_> = (0..32).map(row).collect();
    let document =
        json!({ "inputs": [{ "name": "x", "shape": [32, 16], "datatype": "FP32", "data": many }] }).to_string();
    let answer = ask(&host, "identity", &[("accept-encoding", "gzip".into())], document).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    let told: Value = serde_json::from_reader(GzDecoder::new(&answer.body[..])).unwrap();
    assert_eq!(floats(&told["outputs"][0]["data"]), many.concat());
    let large = ask(&host, "identity", &[], vec![b' '; (1 << 20) + 1]).await;
    assert_eq!(large.status, 413, "{}", large.text());
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_kept_and_a_full_queue_is_told() {
    let queue = [("max_queue_size = 16", "max_queue_size = 1")];
    let host = TestHost::new().models(&["slow"]).changed_model("slow", &queue).start().await;
    let input = json!({ "name": "x", "shape": [1, 16], "datatype": "FP32", "data": row(1) });
    let patient = json!({ "inputs": [input] }).to_string();
    let hasty = json!({ "inputs": [input], "parameters": { "timeout": 20_000 } }).to_string();
    for (headers, body) in [(vec![("x-tenon-timeout-ms", "20".to_owned())], patient.clone()), (vec![], hasty)] {
        let answer = ask(&host, "slow", &headers, body).await;
        assert_eq!(answer.status, 504, "{}", answer.text());
        assert!(answer.json()["error"].as_str().unwrap().contains("20 ms"), "{}", answer.text());
    }
    let all = (0..32).map(|_| ask(&host, "slow", &[], patient.clone()));
    let answers = futures_util::future::join_all(all).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty() && answers.iter().all(|answer| [200, 429].contains(&answer.status)));
    assert!(
        refused.iter().all(|answer| !answer.header("retry-after").is_empty() && answer.json()["error"].is_string())
    );
    host.all_back_to_zero().await;
    tokio::time::timeout(Duration::from_secs(60), host.host.drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_accounted_and_a_large_body_goes_through() {
    let host = TestHost::new()
        .models(&["identity"])
        .changed_model(
            "identity",
            &[
                ("max_request_rows = 1024", "max_request_rows = 8192"),
                ("max_queue_size = 256", "max_queue_size = 8192"),
                ("queue_timeout_ms = 2000", "queue_timeout_ms = 60000"),
            ],
        )
        .config(|config| config.oip.memory_bytes = 2 << 20)
        .start()
        .await;
    let rows = |count: u32| {
        let data: Vec<_> = (0..count).map(row).collect();
        json!({ "inputs": [{ "name": "x", "shape": [count, 16], "datatype": "FP32", "data": data }] }).to_string()
    };
    // Over what is read beside connections, and back in one piece.
    let answer = ask(&host, "identity", &[], rows(2000)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(floats(&answer.json()["outputs"][0]["data"])[16 * 1999..], row(1999));
    let answer = ask(&host, "identity", &[], rows(8000)).await;
    assert_eq!(answer.status, 413);
    assert!(answer.json()["error"].as_str().unwrap().contains("the invocation may hold"), "{}", answer.text());
    host.all_back_to_zero().await;
}
