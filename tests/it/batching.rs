//! Batches are invisible: the same answer alone or with others, and a bad row fails alone. That rows really share
//! batches is read off `tenon_batch_rows`, or these tests would show nothing.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Served, TestHost};

const CALLERS: usize = 32;
/// Rounds in which a shared batch must have come up.
const ROUNDS: usize = 50;
/// What DESIGN allows between alone and in a batch, for this model.
const TOLERANCE: f64 = 1e-5;

/// Calls `round` until a batch of the model had rows of more than one caller, three rounds at least.
async fn until_shared(host: &Served, model: &str, rows: usize, mut round: impl AsyncFnMut(usize)) {
    for number in 0..ROUNDS {
        round(number).await;
        if number >= 2 && host.batches_over(model, rows) > 0.0 {
            return;
        }
    }
    panic!("{ROUNDS} rounds of {CALLERS} callers at once and never a shared batch of `{model}`");
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_are_the_same_alone_and_among_others() {
    let host = TestHost::new().demo().start().await;
    let subjects = ["bees", "bridges", "rain", "a bank's opening hours", "how to bake bread"];
    let question = |caller: usize| {
        let long = "It goes on for a while, so that rows differ in length. ".repeat(caller % 4);
        let documents = subjects.map(|subject| format!("A text about {subject}. {long}"));
        json!({ "query": format!("What about {}?", subjects[caller % 5]), "documents": documents[caller % 3..] })
    };
    let ask = async |caller: usize| {
        let answer = host.post("/v1/functions/demo/reranker", question(caller).to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["results"].clone()
    };
    let mut alone = Vec::new();
    for caller in 0..CALLERS {
        alone.push(ask(caller).await);
    }
    let most_requests = async || {
        let explained = host.control("/admin/v1/models/minilm/explain").await.json();
        let batches = explained["batches"].as_array().unwrap().iter();
        batches.map(|batch| batch["requests"].as_u64().unwrap()).max()
    };
    assert_eq!(most_requests().await, Some(1), "one caller at a time");
    let together = join_all((0..CALLERS).map(ask)).await;
    assert!(most_requests().await > Some(1), "no batch was shared");
    for (alone, together) in alone.iter().zip(&together) {
        let (alone, together) = (scores(alone), scores(together));
        assert_eq!(alone.len(), together.len());
        for (index, (one, other)) in alone.iter().zip(&together).enumerate() {
            assert!((one - other).abs() <= TOLERANCE, "document {index}: {one} alone, {other} among others");
        }
    }
    host.all_back_to_zero().await;
}

/// Scores in the order of the documents.
fn scores(results: &Value) -> Vec<f64> {
    let results = results.as_array().unwrap();
    let of = |index| results.iter().find(|result| result["index"] == index).unwrap();
    (0..results.len()).map(|index| of(index)["relevance_score"].as_f64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_back_bit_by_bit_to_their_own_caller() {
    let host = TestHost::new().models(&["identity"]).functions(&["identity"]).start().await;
    until_shared(&host, "identity", 2, async |round| {
        let calls = (0..CALLERS).map(async |caller| {
            // One or two rows of finite numbers that nobody else sends.
            let number = |index: usize| (round * 1_000_003 + caller * 1009 + index) as f32 * 0.001;
            let body: Vec<u8> = (0..16 * (1 + caller % 2)).flat_map(|index| number(index).to_le_bytes()).collect();
            let answer = host.call("identity", body.clone()).await;
            assert_eq!((answer.status, answer.body), (200, body), "caller {caller} in round {round}");
        });
        join_all(calls).await;
    })
    .await;
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ragged_rows_come_back_in_their_own_length() {
    let host = TestHost::new().probe().start().await;
    until_shared(&host, "ragged-identity", 2, async |round| {
        let calls = (0..CALLERS).map(async |caller| {
            let row = |length: usize| (0..length).map(|index| (round + 31 * caller + index) % 1000).collect::<Vec<_>>();
            let rows = [row(1 + caller * 3), row(1 + round % 7)];
            let text =
                rows.clone().map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")).join(";");
            let answer = host.call(&format!("probe/ids?values={text}"), "").await;
            let total: Vec<usize> = rows.iter().map(|row| row.iter().sum()).collect();
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json(), json!({ "same": rows, "total": total }), "caller {caller} in round {round}");
        });
        join_all(calls).await;
    })
    .await;
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_fails_alone() {
    let host = TestHost::new().probe().start().await;
    let path = |caller: usize| format!("probe/lookup?values={},{},3,4", caller % 50, (caller * 7) % 50);
    let mut alone = Vec::new();
    for caller in 0..CALLERS {
        alone.push(host.call(&path(caller), "").await.json()["vector"].clone());
    }
    until_shared(&host, "lookup", 1, async |round| {
        let calls = (0..CALLERS).map(async |caller| {
            // Within the stated range, beyond the table inside the model: it throws for the whole batch.
            if (caller + round).is_multiple_of(8) {
                let answer = host.call("probe/lookup?values=1,2,3,60", "").await;
                let problem = answer.is_problem(502, "model-failed");
                assert!(problem["detail"].as_str().unwrap().contains("lookup"), "{problem}");
            } else {
                let answer = host.call(&path(caller), "").await;
                assert_eq!(answer.status, 200, "caller {caller}: {}", answer.text());
                assert_eq!(answer.json()["vector"], alone[caller], "caller {caller} in round {round}");
            }
        });
        join_all(calls).await;
    })
    .await;
    host.all_back_to_zero().await;
}
