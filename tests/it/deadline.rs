//! At the deadline the caller gets its 504 at once, whatever guest, queue or device do, and nothing stays behind.

use futures_util::future::join_all;

use crate::{
    raw::Raw,
    support::{Answer, Served, TestHost},
};

const ONE_AT_A_TIME: (&str, &str) = ("max_batch_size = 8", "max_batch_size = 1");

async fn within(host: &Served, path: &str, timeout_ms: u64) -> Answer {
    let request = host.client.post(format!("{}/v1/functions/test/{path}", host.base));
    Answer::of(request.header("x-tenon-timeout-ms", timeout_ms).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn comes_before_the_model_is_done() {
    let host = TestHost::new().probe().start().await;
    let hasty = async {
        let answer = within(&host, "probe/slow", 50).await;
        let problem = answer.is_problem(504, "deadline-exceeded");
        assert!(problem["detail"].as_str().unwrap().contains("50 ms"), "{problem}");
    };
    // Both start together: whoever waits for the model has its answer later.
    tokio::select! {
        biased;
        () = hasty => {}
        _ = host.call("probe/slow", "") => panic!("the deadline waited for the model"),
    }
    host.all_back_to_zero().await;
    assert_eq!(host.sum("tenon_invocations_total{function=\"probe\",outcome=\"capacity\""), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_guests_rows_and_uploads() {
    let host = TestHost::new().probe().changed_function("probe", &[("cpu_ms = 500", "cpu_ms = 60000")]).start().await;
    for path in ["probe/loop/validate", "probe/loop/preprocess", "probe/loop/postprocess"] {
        within(&host, path, 100).await.is_problem(504, "deadline-exceeded");
        host.all_back_to_zero().await;
    }
    let head = "POST /v1/functions/test/probe/echo HTTP/1.1\r\nx-tenon-timeout-ms: 100\r\ncontent-length: 10";
    let mut stalled = Raw::begin(&host, head, b"01234").await;
    stalled.answer().await.unwrap().is_problem(504, "deadline-exceeded");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn is_capped_by_the_function() {
    let host =
        TestHost::new().probe().changed_function("probe", &[("timeout_ms = 30000", "timeout_ms = 60")]).start().await;
    let problem = within(&host, "probe/slow", 100_000).await.is_problem(504, "deadline-exceeded");
    assert!(problem["detail"].as_str().unwrap().contains("60 ms"), "{problem}");
    let left = within(&host, "probe/echo", 50).await.json()["time_left_ms"].as_u64().unwrap();
    assert!(left <= 50, "{left}");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_queue_is_the_models_own() {
    let changes = [ONE_AT_A_TIME, ("queue_timeout_ms = 2000", "queue_timeout_ms = 50")];
    let host = TestHost::new().probe().changed_model("slow", &changes).start().await;
    let answers = join_all((0..6).map(|_| host.call("probe/slow", ""))).await;
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.is_problem(504, "queue-timeout");
    }
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((1..6).contains(&served), "{served} of 6 were served by a model that takes one at a time");
    host.all_back_to_zero().await;
    assert_eq!(host.batches("slow") as usize, served, "rows that had timed out ran");
}
