//! Instances that serve again: as long as `reuse` says, after ends that were good ones, and for nobody else.

use std::time::Duration;

use crate::{
    deploying::plugin,
    support::{Served, TestHost, eventually},
};

const TOP: &str = "component = \"probe.wasm\"";

/// A host whose probe has this in its `function.toml`.
async fn host(reuse: &str) -> Served {
    let with = format!("{reuse}\n{TOP}");
    TestHost::new().probe().changed_function("probe", &[(TOP, &with)]).start().await
}

/// Which invocation of its instance this one is.
async fn state(host: &Served) -> u64 {
    state_of(host, "probe").await
}

async fn state_of(host: &Served, function: &str) -> u64 {
    host.call(&format!("{function}/state"), "").await.json()["invocations"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_as_often_as_it_may() {
    let host = host("reuse = { max_invocations = 3 }").await;
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(state(&host).await);
    }
    assert_eq!(seen, [1, 2, 3, 1, 2, 3, 1]);
    // A model between, and a refusal of the guest's own, are good ends; the default is another instance each time.
    assert_eq!(host.call("probe/rows?n=2", "").await.status, 200);
    host.call("probe/reject?status=409&code=x", "").await.is_problem(409, "x");
    assert_eq!(state(&host).await, 1, "that one had served three");
    drop(host);
    let fresh = TestHost::new().probe().start().await;
    assert_eq!((state(&fresh).await, state(&fresh).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_badly_serves_nobody_again() {
    let host = host("reuse = {}").await;
    for (bad, status) in
        [("trap", 502), ("memory", 502), ("unknown-model", 502), ("respond?status=700", 502), ("chain?n=9", 502)]
    {
        assert_eq!((state(&host).await, state(&host).await), (1, 2), "before {bad}");
        assert_eq!(host.call(&format!("probe/{bad}"), "").await.status, status, "{bad}");
    }
    assert_eq!(state(&host).await, 1);
    // A caller that leaves in the middle takes the instance with it.
    let left = host.client.post(format!("{}/v1/functions/test/probe/loop/preprocess", host.base));
    assert!(left.timeout(Duration::from_millis(200)).send().await.is_err());
    host.in_flight(0).await;
    assert_eq!(state(&host).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_instance_serves_another_function_or_revision() {
    let test = TestHost::new().config(|config| config.dev_functions = None);
    let host = test.start().await;
    let content = |cpu_ms: u32| {
        plugin(
            "probe",
            &format!(
                "reuse = {{}}
[limits]
cpu_ms = {cpu_ms}
"
            ),
        )
    };
    for function in ["test/one", "test/other"] {
        host.deployed(function, "?promote=true", &content(900), 1).await;
    }
    assert_eq!((state_of(&host, "one").await, state_of(&host, "one").await), (1, 2));
    assert_eq!(state_of(&host, "other").await, 1, "the same content is another function's");
    host.deployed("test/one", "?promote=true", &content(901), 2).await;
    assert_eq!((state_of(&host, "one").await, state_of(&host, "one").await), (1, 2), "and another revision's");
    assert_eq!(state_of(&host, "other").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rests_is_accounted_and_grows_old() {
    let host = host("reuse = { max_age_s = 1 }").await;
    let held = || host.host.runtime().held_bytes();
    assert_eq!(held(), 0);
    assert_eq!(state(&host).await, 1);
    assert!(held() > 1 << 20, "its memory is its tenant's while it rests: {}", held());
    eventually("it has grown old", async || held() == 0).await;
    assert_eq!(state(&host).await, 1);
    drop(host);
    let small = TestHost::new().probe();
    let small = small.changed_function("probe", &[(TOP, &format!("reuse = {{ max_memory_bytes = 65536 }}\n{TOP}"))]);
    let small = small.start().await;
    assert_eq!((state(&small).await, state(&small).await), (1, 1), "it holds more than may rest");
    assert_eq!(small.host.runtime().held_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_to_rest_are_bounded_and_none_is_an_invocations() {
    let test = TestHost::new().probe().changed_function("probe", &[(TOP, &format!("reuse = {{}}\n{TOP}"))]);
    let host = test.config(|config| config.sandbox.max_resting_instances = 2).start().await;
    // Six at once, of which two may stay.
    let calls = (0..6).map(|_| host.call("probe/slow", ""));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status, 200);
    }
    let calls = (0..6).map(|_| host.call("probe/slow", ""));
    assert!(futures_util::future::join_all(calls).await.iter().all(|answer| answer.status == 200));
    let one = host.host.runtime().held_bytes();
    assert!((2 << 20..4 << 20).contains(&one), "two instances, and no third: {one}");
    drop(host);
    let test = TestHost::new().probe().changed_function("probe", &[(TOP, &format!("reuse = {{}}\n{TOP}"))]);
    let none = test.config(|config| config.sandbox.max_resting_instances = 0).start().await;
    assert_eq!((state(&none).await, state(&none).await), (1, 1));
    drop(none);
    // Nor is there room for more bytes than all may hold together: one of the probe's, not two.
    let test = TestHost::new().probe().changed_function("probe", &[(TOP, &format!("reuse = {{}}\n{TOP}"))]);
    let little = test.config(|config| config.sandbox.max_resting_bytes = 2 << 20).start().await;
    let calls = (0..4).map(|_| little.call("probe/slow", ""));
    assert!(futures_util::future::join_all(calls).await.iter().all(|answer| answer.status == 200));
    let held = little.host.runtime().held_bytes();
    assert!((1 << 20..=2 << 20).contains(&held), "{held}");
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_that_were_left_are_empty_and_can_still_be_let_go() {
    let host = host("reuse = {}").await;
    assert_eq!(host.call("probe/leave?tensors=5", "").await.json()["left"], 5);
    assert_eq!(state(&host).await, 2);
    // New handles must not meet the old ones' numbers.
    assert_eq!(host.call("probe/leave?tensors=2", "").await.json()["left"], 7);
    let let_go = host.call("probe/let-go", "").await.json();
    assert_eq!((&let_go["let_go"], &let_go["bytes"]), (&7.into(), &0.into()), "{let_go}");
    assert_eq!(host.call("probe/leave?tensors=1", "").await.json()["left"], 1);
    assert_eq!(host.call("probe/let-go", "").await.json()["let_go"], 1);
    assert_eq!(state(&host).await, 7);
    // Who leaves more than anybody should is not kept.
    assert_eq!(host.call("probe/leave?tensors=2000", "").await.status, 200);
    assert_eq!(state(&host).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_invocation_has_its_own_log() {
    let host = host("reuse = {}").await;
    let mut ids = Vec::new();
    for path in ["probe/stdout", "probe/log?lines=1", "probe/stdout"] {
        ids.push(host.call(path, "").await.header("x-request-id").to_owned());
    }
    let logs = host.control("/admin/v1/functions/test/probe/logs").await.text();
    for id in &ids {
        assert!(logs.contains(id.as_str()), "{id} is not in\n{logs}");
    }
    // The line limit is each invocation's, too; the kept log is shorter than what three of them write.
    for _ in 0..3 {
        let id = host.call("probe/log?lines=300", "").await.header("x-request-id").to_owned();
        let logs = host.control("/admin/v1/functions/test/probe/logs").await.text();
        let limit = logs.lines().filter(|line| line.contains(&id) && line.contains("log limit reached"));
        assert_eq!(limit.count(), 1);
    }
}
