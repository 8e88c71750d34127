//! The demo's promise: a real question, a real model, the right document first.

use serde_json::json;

use crate::support::TestHost;

#[tokio::test(flavor = "multi_thread")]
async fn the_right_document_comes_first() {
    let host = TestHost::new().demo().start().await;
    let question = json!({
        "query": "How do bees make honey?",
        "documents": [
            "The bridge was opened to traffic in 1932.",
            "Bees collect nectar and fan it with their wings until it thickens in the comb.",
            { "text": "Honey badgers are known for their thick skin." },
        ],
        "return_documents": true,
    });
    let answer = host.post("/v1/functions/demo/reranker", question.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let results = answer.json()["results"].clone();
    assert_eq!(results[0]["index"], 1, "{results}");
    assert_eq!(results.as_array().unwrap().len(), 3);
    assert_eq!((answer.header("x-tenon-revision"), answer.header("x-tenon-cache")), ("1", "bypass"));
    for stage in ["validate", "preprocess", "queue", "infer", "postprocess"] {
        assert!(
            answer.header("server-timing").contains(&format!("{stage};dur=")),
            "{}",
            answer.header("server-timing")
        );
    }
    host.all_back_to_zero().await;
}
