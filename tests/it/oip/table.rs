//! Requests that cannot be understood, each with what its caller is told: what is wrong, and where.

use serde_json::json;

use crate::support::{Answer, TestHost};

/// An input of the identity model with other members.
fn with(members: &str) -> String {
    format!(r#"{{"inputs":[{{{members}}}]}}"#)
}

const X: &str = r#""name":"x","datatype":"FP32","shape":[1,16]"#;
const SIXTEEN: &str = "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]";

fn identity_cases() -> Vec<(String, &'static str)> {
    let long = "n".repeat(300);
    vec![
        (String::new(), "line 1"),
        ("[]".into(), "line 1"),
        ("{}".into(), "`inputs`"),
        (r#"{"inputs":3}"#.into(), "a list of at most 64"),
        (r#"{"inputs":[]}"#.into(), "missing"),
        (with(X), "neither `data` nor"),
        (with(r#""name":"x","datatype":"FP32","data":[]"#), "`shape`"),
        (with(&format!(r#"{X},"data":5"#)), "/inputs/0/data"),
        (with(&format!(r#"{X},"data":"text""#)), "/inputs/0/data"),
        (with(&format!(r#"{X},"data":null"#)), "neither `data` nor"),
        (with(&format!(r#"{X},"data":[1,2,3]"#)), "3"),
        (with(&format!(r#"{X},"data":[[1,2,3]]"#)), "the shape says 16"),
        (with(&format!(r#"{X},"data":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"#)), "more than the 16 elements"),
        (with(&format!(r#"{X},"data":[[[1]]]"#)), "deeper"),
        (with(&format!(r#"{X},"data":[[1,2],3]"#)), "/inputs/0/data"),
        (with(&format!(r#"{X},"data":[1,[2]]"#)), "/inputs/0/data/1/0"),
        (with(&format!(r#"{X},"data":{}{}"#, "[".repeat(5000), "]".repeat(5000))), "deeper"),
        (with(&format!(r#"{X},"data":[1,2,"3"]"#)), "/inputs/0/data/2"),
        (with(&format!(r#"{X},"data":[1,2,true]"#)), "true is no FP32"),
        (with(&format!(r#"{X},"data":[1,1e39]"#)), "is no FP32"),
        (with(&format!(r#"{X},"data":[1,1e999]"#)), "out of range"),
        (with(&format!(r#"{X},"data":[1,NaN]"#)), "line 1"),
        (with(&format!(r#"{X},"data":{SIXTEEN},"data":{SIXTEEN}"#)), "duplicate field `data`"),
        (with(&format!(r#"{X},"data":{SIXTEEN},"parameters":{{"binary_data_size":64}}"#)), "both"),
        (with(&format!(r#"{X},"parameters":{{"binary_data_size":64}}"#)), "inference-header-content-length"),
        (
            with(&format!(r#"{X},"data":{SIXTEEN},"parameters":{{"shared_memory_region":"a"}}"#)),
            "`shared_memory_region`",
        ),
        (with(&format!(r#""name":"x","datatype":"BYTES","shape":[1,16],"data":{SIXTEEN}"#)), "BYTES"),
        (with(&format!(r#""name":"x","datatype":"FP33","shape":[1,16],"data":{SIXTEEN}"#)), "FP33"),
        (with(&format!(r#""name":"x","datatype":"FP16","shape":[1,16],"data":{SIXTEEN}"#)), "only as binary data"),
        (with(&format!(r#""name":"x","datatype":"INT64","shape":[1,16],"data":{SIXTEEN}"#)), "INT64"),
        (with(&format!(r#""name":"x","datatype":"FP32","shape":[],"data":{SIXTEEN}"#)), "scalar"),
        (with(&format!(r#""name":"x","datatype":"FP32","shape":[-1,16],"data":{SIXTEEN}"#)), "-1"),
        (with(&format!(r#""name":"x","datatype":"FP32","shape":[1.5,16],"data":{SIXTEEN}"#)), "i64"),
        (with(&format!(r#""name":"x","datatype":"FP32","shape":[1,1,1,1,1,1,1,1,1],"data":{SIXTEEN}"#)), "dimensions"),
        (with(r#""name":"x","datatype":"FP32","shape":[1,1,1,1,1,1,1,1,1,1],"data":[1]"#), "at most 9"),
        (
            with(r#""name":"x","datatype":"FP32","shape":[9223372036854775807,9223372036854775807],"data":[1]"#),
            "64 bits",
        ),
        (with(r#""name":"x","datatype":"FP32","shape":[1000000,1000],"data":[1]"#), "1000000000 elements"),
        (with(r#""name":"x","datatype":"FP32","shape":[0,16],"data":[]"#), "at least one row"),
        (
            with(r#""name":"x","datatype":"FP32","shape":[1,4,4],"data":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]"#),
            "dimensions",
        ),
        (with(&format!(r#""name":"z","datatype":"FP32","shape":[1,16],"data":{SIXTEEN}"#)), "no input `z`"),
        (with(&format!(r#""name":"{long}","datatype":"FP32","shape":[1,16],"data":{SIXTEEN}"#)), "at most 256 bytes"),
        (format!(r#"{{"inputs":[{{{X},"data":{SIXTEEN}}},{{{X},"data":{SIXTEEN}}}]}}"#), "twice"),
        (format!(r#"{{"inputs":[{{{X},"data":{SIXTEEN}}}],"outputs":[{{"name":"z"}}]}}"#), "no output `z`"),
        (
            format!(
                r#"{{"inputs":[{{{X},"data":{SIXTEEN}}}],"outputs":[{{"name":"y","parameters":{{"classification":3}}}}]}}"#
            ),
            "`classification`",
        ),
        (format!(r#"{{"inputs":[{{{X},"data":{SIXTEEN}}}],"parameters":{{"sequence_id":7}}}}"#), "`sequence_id`"),
        (format!(r#"{{"inputs":[{{{X},"data":{SIXTEEN}}}],"parameters":{{"timeout":-7}}}}"#), "u64"),
        (format!(r#"{{"inputs":[{{{X},"data":{SIXTEEN}}}]}} more"#), "trailing"),
        (format!(r#"{{"inputs":[{}]}}"#, vec![format!("{{{X}}}"); 65].join(",")), "at most 64"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_and_where() {
    let host = TestHost::new().models(&["identity", "lookup"]).start().await;
    let check = |answer: Answer, told: &str, body: &str| {
        let shown: String = body.chars().take(200).collect();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        let error = answer.json();
        let error = error["error"].as_str().unwrap();
        assert!(error.contains(told), "{shown}: `{error}` does not tell of {told}");
        assert!(error.len() < 1000, "{error}");
    };
    for (body, told) in identity_cases() {
        check(host.post("/v2/models/identity/infer", body.clone()).await, told, &body);
    }
    for (data, told) in [
        ("[[1,2,3,100]]", "outside the range"),
        ("[[1,2,3,-9223372036854775809]]", "is no INT64"),
        ("[[1,2,3,1.0]]", "1.0 is no INT64"),
        ("[[1,2,3,18446744073709551615]]", "is no INT64 (-9223372036854775808 to 9223372036854775807)"),
    ] {
        let body = with(&format!(r#""name":"ids","datatype":"INT64","shape":[1,4],"data":{data}"#));
        check(host.post("/v2/models/lookup/infer", body.clone()).await, told, &body);
    }
    let binary = json!({ "name": "x", "datatype": "FP32", "shape": [1, 16], "parameters": { "binary_data_size": 64 } });
    let head = json!({ "inputs": [binary] }).to_string();
    let short = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 16], "parameters": { "binary_data_size": 60 } }] }).to_string();
    for (length, head, behind, told) in [
        ("9999999", &head, 64, "the body has"),
        ("18446744073709551616", &head, 64, "whole number"),
        ("-1", &head, 64, "whole number"),
        ("+5", &head, 64, "whole number"),
        ("", &head, 64, "whole number"),
        ("4", &head, 64, "line 1"),
        ("all", &head, 63, "only 63 bytes left"),
        ("all", &head, 65, "1 bytes of the body belong to no input"),
        ("all", &short, 60, "takes 64 bytes, the binary data has 60"),
    ] {
        let length = if length == "all" { head.len().to_string() } else { length.to_owned() };
        let body = [head.as_bytes(), &vec![0; behind]].concat();
        let request = host.client.post(format!("{}/v2/models/identity/infer", host.base)).body(body);
        let sent = request.header("inference-header-content-length", &length).send().await.unwrap();
        check(Answer::of(sent).await, told, &format!("{length} {behind}"));
    }
    let unknown = host.post("/v2/models/nothing/infer", "{}").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["error"].as_str().unwrap().contains("there are: identity, lookup"), "{}", unknown.text());
    // Nothing of it has reached a model, and the next request is as good as ever.
    let body = with(&format!(r#"{X},"data":{SIXTEEN}"#));
    assert_eq!(host.post("/v2/models/identity/infer", body).await.status, 200);
    assert_eq!(host.batches("identity") + host.batches("lookup"), 1.0);
    host.all_back_to_zero().await;
}
