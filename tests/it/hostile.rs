//! A guest can hurt only its own invocation: every misbehaviour of the probe gets its documented answer, leaves nothing
//! behind, and neighbours go on as if nothing had been.

use futures_util::future::join_all;

use crate::support::{Served, TestHost};

async fn host() -> Served {
    TestHost::new().probe().functions(&["empty"]).start().await
}

/// The host is as it was: nothing held, and neighbours with and without a model are served.
async fn is_unhurt(host: &Served, after: &str) {
    host.all_back_to_zero().await;
    let (empty, rows) = (host.call("empty", "").await, host.call("probe/rows?n=2", "").await);
    assert_eq!((empty.status, rows.status), (200, 200), "after {after}: {}, {}", empty.text(), rows.text());
    assert_eq!(rows.json()["equal"], true, "after {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misbehaviour_has_its_answer() {
    let host = host().await;
    let contract = (502, "plugin-contract");
    let too_long = vec!["1"; 129].join(",");
    for (path, (status, code)) in [
        ("loop/validate", (504, "plugin-deadline")),
        ("loop/preprocess", (504, "plugin-deadline")),
        ("loop/postprocess", (504, "plugin-deadline")),
        ("trap", (502, "plugin-trap")),
        ("panic", (502, "plugin-trap")),
        ("exit", (502, "plugin-trap")),
        ("recursion", (502, "plugin-trap")),
        ("memory", (502, "plugin-memory")),
        ("respond?bytes=200000000", (502, "plugin-memory")),
        ("hoard?what=name", contract),
        ("respond?status=199", contract),
        ("respond?status=302", contract),
        ("respond?status=404", contract),
        ("respond?status=500", contract),
        ("respond?status=65535", contract),
        ("reject?status=200", contract),
        ("reject?status=500", contract),
        ("reject?code=", contract),
        ("reject?code=Not%20Kebab", contract),
        ("nothing", contract),
        ("steps", contract),
        ("chain?n=9", contract),
        ("unknown-model", contract),
        ("unequal?how=shape", contract),
        ("unequal?how=datatype", contract),
        ("unequal?how=missing", contract),
        ("unequal?how=unknown", contract),
        ("unequal?how=rows", contract),
        ("rows?n=1025", (413, "too-many-rows")),
        ("ids?values=1001", contract),
        ("ids?values=5;-1", contract),
        ("ids?values=1,2;;3", contract),
        (&format!("ids?values=1;{too_long}"), contract),
        ("lookup?values=1,2,3,100", contract),
        ("lookup?values=9223372036854775807,0,0,0", contract),
        ("lookup?values=1,2,3,60", (502, "model-failed")),
        ("no-such-path", (404, "no-such-probe")),
    ] {
        let answer = host.in_time_with(&format!("probe/{path}"), "body").await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{path}: {}", answer.text());
        let detail = answer.is_problem(status, code)["detail"].to_string();
        assert!(!detail.contains("backtrace") && !detail.contains("wasm"), "frames are for the owner's log: {detail}");
        assert_eq!(answer.header("x-tenon-revision"), "1", "{path}");
        is_unhurt(&host, path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_softly_is_told_to_the_guest() {
    let host = host().await;
    for (path, code) in [
        ("sealed", "sealed"),
        ("big-tensor?bytes=1000000000000", "memory"),
        ("big-tensor?bytes=18446744073709551615", "invalid-shape"),
        ("big-tensor?bytes=1000", "ok"),
        ("respond?bytes=40000000", "memory"),
    ] {
        let answer = host.call(&format!("probe/{path}"), "").await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (200, Some(code)), "{path}: {}", answer.text());
    }
    for path in ["log?lines=100000&bytes=100", "log?lines=1&bytes=1000000", "stdout"] {
        assert_eq!(host.call(&format!("probe/{path}"), "").await.status, 200, "{path}");
    }
    let rejected = host.call("probe/reject?status=422&code=my-code&pointer=/a/0", "").await;
    let problem = rejected.is_problem(422, "my-code");
    assert_eq!((problem["pointer"].as_str(), rejected.header("x-probe")), (Some("/a/0"), "rejected"));
    let own = host.call("probe/reject?status=409&body=mine", "").await;
    assert_eq!((own.status, own.text().as_str(), own.header("content-type")), (409, "mine", "text/plain"));
    is_unhurt(&host, "soft refusals").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_do_not_keep_others_from_being_served() {
    let host = host().await;
    const LOOPS: usize = 8;
    let loops = async {
        let looped = join_all((0..LOOPS).map(|_| host.call("probe/loop/preprocess", ""))).await;
        looped.iter().for_each(|answer| drop(answer.is_problem(504, "plugin-deadline")));
    };
    let others = async {
        host.in_flight(LOOPS).await;
        for _ in 0..20 {
            assert_eq!(host.call("empty", "").await.status, 200);
        }
        // Each loop has half a second of processor time: they cannot be done, unless the others waited for them.
        host.metric("tenon_invocations_in_flight")
    };
    let ((), still_looping) = tokio::join!(loops, others);
    assert!(still_looping >= 1.0, "the others were served only after the loops");
    is_unhurt(&host, "loops").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invocation_has_fresh_memory() {
    let host = host().await;
    for _ in 0..10 {
        for answer in join_all((0..20).map(|_| host.call("probe/state", ""))).await {
            assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"invocations":1}"#));
        }
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_nothing_of_the_machine() {
    let host = host().await;
    let seen = host.call("probe/env", "").await.json();
    assert_eq!((&seen["variables"], &seen["arguments"]), (&serde_json::json!([]), &serde_json::json!([])), "{seen}");
    assert!(seen["stdin"]["ok"] == "0" || seen["stdin"]["error"].is_string(), "{seen}");
    for closed in ["file", "folder", "write", "connect", "listen"] {
        assert!(seen[closed]["error"].is_string(), "{closed}: {seen}");
    }
    // Credentials stop at the door.
    let request = host.client.post(format!("{}/v1/functions/test/probe/echo?a=%20b&a=c", host.base));
    let request = request.bearer_auth("secret").header("cookie", "secret").header("x-mine", "seen").body("0123456");
    let echo: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert!(!echo.to_string().contains("secret"), "{echo}");
    assert!(echo["headers"].to_string().contains(r#"["x-mine","seen"]"#), "{echo}");
    assert_eq!(echo["query"], serde_json::json!([["a", " b"], ["a", "c"]]));
    assert_eq!((&echo["tenant"], &echo["body"], &echo["part"]), (&"test".into(), &"0123456".into(), &"123".into()));
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_cannot_speak_for_the_host() {
    let host = host().await;
    for (name, value) in [
        ("x-request-id", "forged"),
        ("X-Tenon-Cache", "hit"),
        ("x-tenon-revision", "99"),
        ("x-process-time", "0"),
        ("server-timing", "cache;dur=0"),
        ("traceparent", "forged"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("content-type", "text/html"),
        ("x-split", "a%0d%0ax-injected: 1"),
        ("x split", "a"),
        ("", "a"),
    ] {
        let answer = host.call(&format!("probe/header?name={name}&value={value}"), "").await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (200, &"invalid-header".into()),
            "{name}: {}",
            answer.text()
        );
        assert!(!answer.headers.contains_key("x-injected"));
        assert_eq!(answer.header("x-tenon-revision"), "1");
        assert_ne!(answer.header("x-request-id"), "forged");
    }
    let own = host.call("probe/header?name=X-Mine&value=a%20b", "").await;
    assert_eq!((own.status, own.header("x-mine")), (200, "a b"));
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_do_not_touch_their_neighbours() {
    let host = host().await;
    let too_long = format!("probe/ids?values={}", vec!["1"; 129].join(","));
    let calls = (0..48).map(async |caller: usize| match caller % 4 {
        0 => drop(host.call("probe/ids?values=1001", "").await.is_problem(502, "plugin-contract")),
        1 => drop(host.call(&too_long, "").await.is_problem(502, "plugin-contract")),
        _ => {
            let answer = host.call(&format!("probe/ids?values={caller},7"), "").await;
            assert_eq!(answer.json()["same"], serde_json::json!([[caller, 7]]), "{}", answer.text());
        }
    });
    join_all(calls).await;
    is_unhurt(&host, "refused rows").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_do_not_touch_their_batch() {
    // Lanes wait, so that rows that come together leave together.
    let patient = ("max_queue_delay_ms = 0", "max_queue_delay_ms = 400");
    let test = TestHost::new().probe().functions(&["empty"]).changed_model("ragged-identity", &[patient]);
    let host = test.changed_model("lookup", &[patient]).start().await;
    let too_long = format!("ids?values={}", vec!["1"; 129].join(","));
    let wrong = ["ids?values=1001", &too_long, "ids?values=-1", "lookup?values=1,2,3,100", "lookup?values=1,2,3,60"];
    let refused = wrong.map(async |path| {
        let code = host.call(&format!("probe/{path}"), "").await.json()["code"].as_str().unwrap().to_owned();
        assert!(["plugin-contract", "model-failed"].contains(&&code[..]), "{path}: {code}");
    });
    let ids = (0..4).map(async |caller: usize| {
        let answer = host.call(&format!("probe/ids?values={caller},7;{caller}"), "").await;
        assert_eq!(answer.json()["same"], serde_json::json!([[caller, 7], [caller]]), "{}", answer.text());
        assert_eq!(answer.json()["total"], serde_json::json!([caller + 7, caller]));
    });
    let vectors = (0..4).map(async |_| {
        let answer = host.call("probe/lookup?values=1,2,3,4", "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["vector"].clone()
    });
    let (_, _, vectors) = tokio::join!(join_all(refused), join_all(ids), join_all(vectors));
    assert!(vectors.windows(2).all(|two| two[0] == two[1]), "{vectors:?}");
    assert!(
        host.batches_over("ragged-identity", 2) > 0.0 && host.batches_over("lookup", 1) > 0.0,
        "no batch was shared"
    );
    is_unhurt(&host, "refused rows in a batch").await;
}
