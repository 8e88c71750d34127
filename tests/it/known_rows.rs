//! Rows that are remembered: by what the model reads, and by what plugins call them. Whatever of it was known, the
//! outputs are those of a host that knows nothing.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    remembered::keeper,
    support::{Answer, Served, TestHost},
};

fn with(rows: &str) -> TestHost {
    keeper().changed_function("keeper", &[("[limits]", &format!("[cache]\nrows = \"{rows}\"\n[limits]"))])
}

/// The answer, and what was known of its rows.
async fn ask(host: &Served, path: &str, body: serde_json::Value) -> (Answer, String) {
    let answer = host.call(&format!("keeper{path}"), body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let timing = answer.header("server-timing").to_owned();
    let rows = timing.split("rows;desc=\"").nth(1).map_or("", |rest| rest.trim_end_matches('"'));
    let known = format!("{} {rows}", answer.header("x-tenon-cache"));
    (answer, known)
}

/// Rows of a model that were computed.
fn computed(host: &Served, model: &str) -> f64 {
    host.metric(&format!("tenon_batch_rows_sum{{model=\"{model}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_rows_that_are_not_known_are_computed() {
    let host = with("input").start().await;
    for (values, known, ran) in [
        (vec![1.0, 2.0, 3.0], "miss 0 of 3 known", 3.0),
        (vec![2.0, 3.0, 4.0], "partial 2 of 3 known", 1.0),
        (vec![4.0, 1.0, 2.0], "partial 3 of 3 known", 0.0),
        (vec![7.0, 7.0, 7.0], "partial 2 of 3 known", 1.0),
        (vec![8.0, 1.0, 9.0, 8.0, 9.0], "partial 3 of 5 known", 2.0),
    ] {
        let before = computed(&host, "identity");
        let (answer, told) = ask(&host, "/numbers", json!(values)).await;
        assert_eq!((answer.json()["y"].clone(), told.as_str()), (json!(values), known));
        assert_eq!(answer.json()["whole"], true);
        assert_eq!(computed(&host, "identity") - before, ran, "{values:?}");
    }
    // Rows of another model are others.
    assert_eq!(ask(&host, "/numbers?model=slow", json!([1.0])).await.1, "miss 0 of 1 known");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ragged_rows_come_back_at_their_own_lengths() {
    let host = with("input").start().await;
    ask(&host, "/ragged", json!([[1, 2], [3]])).await;
    let (answer, known) = ask(&host, "/ragged", json!([[5, 6, 7], [3], [1, 2], [1, 2, 0]])).await;
    assert_eq!(known, "partial 2 of 4 known");
    assert_eq!(answer.json()["same"], json!([[5, 6, 7], [3], [1, 2], [1, 2, 0]]));
    assert_eq!(answer.json()["total"], json!([18, 3, 3, 3]));
    let (again, known) = ask(&host, "/ragged", json!([[1, 2, 0], [5, 6, 7]])).await;
    assert_eq!((again.json()["same"].clone(), known.as_str()), (json!([[1, 2, 0], [5, 6, 7]]), "partial 2 of 2 known"));
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_asks_by_name_before_it_makes_rows() {
    let host = with("key").start().await;
    let (first, known) = ask(&host, "/named", json!([["a", 1], ["b", 2]])).await;
    assert_eq!((first.json()["known"].clone(), known.as_str()), (json!([false, false]), "miss 0 of 2 known"));
    // Known ones are what they were, whatever is said of them now; equal new ones are one.
    let before = computed(&host, "identity");
    let (second, known) = ask(&host, "/named", json!([["c", 3], ["a", 9], ["c", 9], ["b", 9], ["d", 4]])).await;
    assert_eq!(second.json()["known"], json!([false, true, true, true, false]));
    assert_eq!(
        (second.json()["y"].clone(), known.as_str()),
        (json!([3.0, 1.0, 3.0, 2.0, 4.0]), "partial 3 of 5 known")
    );
    assert_eq!(computed(&host, "identity") - before, 2.0);
    let (all, known) = ask(&host, "/named", json!([["d", 0], ["c", 0]])).await;
    assert_eq!((all.json()["y"].clone(), known.as_str()), (json!([4.0, 3.0]), "partial 2 of 2 known"));
    // More than a request may ask for in the end are not looked for.
    let many: Vec<_> = (0..1100).map(|number| json!(["d", number])).collect();
    host.call("keeper/named", json!(many).to_string()).await.is_problem(413, "too-many-rows");
    // Where rows are not remembered by names, the host says that it knows none.
    let off = with("input").start().await;
    for _ in 0..2 {
        let (answer, _) = ask(&off, "/named", json!([["a", 1], ["a", 2]])).await;
        assert_eq!(
            (answer.json()["known"].clone(), answer.json()["y"].clone()),
            (json!([false, false]), json!([1.0, 2.0]))
        );
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_rows_of_several_requests_are_computed_once() {
    let host = with("input").start().await;
    ask(&host, "/numbers?model=slow", json!([0.0])).await;
    let before = computed(&host, "slow");
    let bodies = [json!([1.0, 2.0]), json!([2.0, 3.0]), json!([3.0, 1.0]), json!([1.0, 2.0, 3.0])];
    let answers = join_all(bodies.iter().map(|body| ask(&host, "/numbers?model=slow", body.clone()))).await;
    for ((answer, _), body) in answers.iter().zip(&bodies) {
        assert_eq!(&answer.json()["y"], body);
    }
    assert_eq!(computed(&host, "slow") - before, 3.0);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_caller_that_leaves_are_computed_by_who_waits() {
    let host = with("input").start().await;
    ask(&host, "/numbers?model=slow", json!([0.0])).await;
    for patience_ms in [5, 40, 90] {
        let values = json!([f64::from(patience_ms), 0.5]);
        let url = format!("{}/v1/functions/test/keeper/numbers?model=slow", host.base);
        let leaving =
            host.client.post(url).body(values.to_string()).timeout(Duration::from_millis(patience_ms as u64)).send();
        let waiting = async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            join_all((0..4).map(|_| ask(&host, "/numbers?model=slow", values.clone()))).await
        };
        let (left, answers) = tokio::join!(leaving, waiting);
        assert!(left.is_err(), "it was to leave");
        assert!(answers.iter().all(|(answer, _)| answer.json()["y"] == values), "{patience_ms}");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_deterministic_is_asked_each_time() {
    let test = keeper().changed_model("identity", &[("[batching]", "[model]\ndeterministic = false\n[batching]")]);
    let host = test.changed_function("keeper", &[("[limits]", "[cache]\nrows = \"input\"\n[limits]")]).start().await;
    for _ in 0..2 {
        let before = computed(&host, "identity");
        assert_eq!(ask(&host, "/numbers", json!([1.0, 1.0])).await.1, "bypass ");
        assert_eq!(computed(&host, "identity") - before, 2.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_too_long_stay_in_no_tier() {
    let host = with("input").config(|config| config.cache.max_row_bytes = 63).start().await;
    for _ in 0..2 {
        assert_eq!(ask(&host, "/numbers", json!([1.0])).await.1, "bypass ", "sixteen floats are 64 bytes");
    }
    let host = with("input").config(|config| config.cache.max_row_bytes = 64).start().await;
    ask(&host, "/numbers", json!([1.0])).await;
    assert_eq!(ask(&host, "/numbers", json!([1.0])).await.1, "partial 1 of 1 known");
}
