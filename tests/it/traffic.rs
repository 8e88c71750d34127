//! Which revision answers: shares, requests that stick together, swaps under load, and revisions that trap.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use serde_json::json;

use crate::{
    alone::Alone,
    deploying::{answer_of, plugin, stamped},
    support::{Served, TestHost, eventually},
};

const FUNCTION: &str = "shop/stamp";
/// As many here as variables of these names say, more in `make soak`.
const SWAPS: (&str, u64) = ("SWAPS", 20);
const CYCLES: (&str, u64) = ("DEPLOY_CYCLES", 20);
const CALLERS: usize = 16;
/// What a change may add to the log.
const MAX_RECORD_BYTES: u64 = 4 << 10;
/// What so many deployments may leave behind in memory: pools and allocators fill.
const FLAT_BYTES: u64 = 24 << 20;

fn wanted((name, count): (&str, u64)) -> u64 {
    std::env::var(name).map_or(count, |count| count.parse().unwrap())
}

async fn two_revisions() -> Served {
    let host = TestHost::new().start().await;
    host.deployed(FUNCTION, "?promote=true", &stamped(1), 1).await;
    host.deployed(FUNCTION, "", &stamped(2), 2).await;
    host
}

/// How many of so many requests each revision answers.
async fn drawn(host: &Served, count: usize, header: impl Fn(usize) -> String) -> BTreeMap<String, usize> {
    let mut drawn = BTreeMap::new();
    for id in 0..count {
        let url = format!("{}/v1/functions/{FUNCTION}/work?turns=3", host.base);
        let answer = host.client.post(url).header("x-user", header(id)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        *drawn.entry(answer.headers()["x-tenon-revision"].to_str().unwrap().to_owned()).or_default() += 1;
    }
    drawn
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_kept_and_a_header_keeps_its_revision() {
    let host = two_revisions().await;
    assert_eq!(host.traffic(FUNCTION, &[(1, 75), (2, 25)]).await.status, 200);
    let count = 400;
    let by_chance = drawn(&host, count, |id| id.to_string()).await;
    // Five standard deviations around a quarter.
    assert!(by_chance["2"].abs_diff(100) < 44, "{by_chance:?}");
    let shares = json!([{ "revision": 1, "weight": 75 }, { "revision": 2, "weight": 25 }]);
    let body = json!({ "shares": shares, "sticky": { "by": "header", "header": "x-user" } });
    assert_eq!(host.set_traffic(FUNCTION, body).await.status, 200);
    for user in ["ann", "bob", "eve"] {
        assert_eq!(drawn(&host, 20, |_| user.into()).await.len(), 1, "{user}");
    }
    let users = drawn(&host, count, |id| format!("user-{id}")).await;
    assert!(users["2"].abs_diff(100) < 44, "{users:?}");
    let body = json!({ "shares": shares, "sticky": { "by": "request" } });
    assert_eq!(host.set_traffic(FUNCTION, body).await.status, 200);
    assert_eq!(drawn(&host, 20, |id| id.to_string()).await.len(), 1);
    let wrong = json!({ "shares": shares, "sticky": { "by": "moon" } });
    host.set_traffic(FUNCTION, wrong).await.is_problem(400, "bad-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_under_load_fail_nobody_and_take_effect_at_once() {
    let host = Arc::new(two_revisions().await);
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(call(host.clone(), done.clone(), asked.clone()))).collect();
    for swap in 0..wanted(SWAPS) {
        let revision = 2 - swap % 2;
        assert_eq!(host.traffic(FUNCTION, &[(revision, 1)]).await.status, 200);
        // Whoever asks after the answer meets the new one.
        assert_eq!(host.stamp(FUNCTION).await.text(), answer_of(revision));
        let before = asked.load(SeqCst);
        eventually("callers go on", async || asked.load(SeqCst) >= before + CALLERS as u64).await;
    }
    done.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    host.all_back_to_zero().await;
}

/// Asks until it is told to stop; every answer is right, of one revision and says which.
async fn call(host: Arc<Served>, done: Arc<AtomicBool>, asked: Arc<AtomicU64>) {
    while !done.load(SeqCst) {
        let answer = host.stamp(FUNCTION).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.text(), answer_of(answer.header("x-tenon-revision").parse().unwrap()));
        asked.fetch_add(1, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "`make soak` shows what it found")]
async fn deployments_come_and_go_under_load_and_leave_nothing_behind() {
    let Some(process) = Alone::run("traffic::deployments_come_and_go_under_load_and_leave_nothing_behind") else {
        return;
    };
    let host = Arc::new(two_revisions().await);
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..8).map(|_| tokio::spawn(call(host.clone(), done.clone(), asked.clone()))).collect();
    let cycles = wanted(CYCLES);
    let mut settled = 0;
    for cycle in 0..cycles {
        let number = cycle + 3;
        host.deployed(FUNCTION, "?promote=true", &stamped(number), number).await;
        assert_eq!(host.stamp(FUNCTION).await.text(), answer_of(number));
        let back = format!("/admin/v1/functions/{FUNCTION}/rollback");
        assert_eq!(host.asks("POST", &back, None, &host.token()).await.status, 200);
        // Where memory is kept for revisions out of traffic there are as many as will ever be.
        if cycle == cycles / 2 {
            settled = process.resident_bytes();
        }
    }
    done.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    let grown = process.resident_bytes().saturating_sub(settled);
    let data = host.folder.path().join("data");
    let registry = tenon_host::registry::Registry::open(&Default::default(), &data).await.unwrap();
    registry.sweep(std::time::Duration::ZERO).await.unwrap();
    let kept = registry.state().function("shop", "stamp").unwrap().revisions.len();
    let blobs = crate::deploying::files(&data.join("registry/blobs")).len();
    let log = crate::deploying::files(&data.join("registry/log"));
    let largest = log.iter().map(|file| file.metadata().unwrap().len()).max().unwrap();
    println!(
        "{cycles} cycles, {} asked: {} KiB more resident, {blobs} blobs of {kept} revisions, {largest} bytes a change",
        asked.load(SeqCst),
        grown >> 10
    );
    assert!(blobs <= kept + 1, "{blobs} blobs of {kept} revisions, which share a manifest");
    assert!(largest <= MAX_RECORD_BYTES, "{largest}");
    assert!(grown < FLAT_BYTES, "{grown}");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_traps_too_often_leaves_traffic_and_the_one_before_comes_back() {
    let host = TestHost::new().config(|config| (config.quarantine.traps, config.quarantine.of) = (3, 10));
    let host = host.models(&["identity", "lookup", "ragged-identity", "slow"]).start().await;
    let manifest =
        std::fs::read_to_string(crate::support::made(".tenon/test-functions/test/probe/function.toml")).unwrap();
    let mut probe = plugin("probe", "");
    probe.manifest = manifest.clone();
    host.deployed("shop/probe", "?promote=true", &probe, 1).await;
    host.deployed("shop/probe", "?promote=true", &probe.clone().with("\n# the second\n"), 2).await;
    let ask = async |path: &str| host.post(&format!("/v1/functions/shop/probe{path}"), "").await;
    for _ in 0..3 {
        let answer = ask("/trap").await;
        assert_eq!(answer.status, 502, "{}", answer.text());
    }
    eventually("the one before serves", async || host.registered("shop/probe").await["serving"][0]["revision"] == 1)
        .await;
    let revisions = host.control("/admin/v1/functions/shop/probe/revisions").await.json();
    assert!(revisions["revisions"][0]["quarantined"].as_str().unwrap().contains("3 of the latest 10"), "{revisions}");
    assert_eq!(host.sum("tenon_quarantines_total{"), 1.0);
    let history = host.control("/admin/v1/functions/shop/probe/history").await.json();
    assert_eq!(history["events"][0]["by"], "host", "{history}");
    // It does not come back by itself, only where somebody insists.
    host.traffic("shop/probe", &[(2, 1)]).await.is_problem(409, "conflict");
    let forced = json!({ "shares": [{ "revision": 2, "weight": 1 }], "force": true });
    assert_eq!(host.set_traffic("shop/probe", forced).await.status, 200);
    assert_eq!(host.registered("shop/probe").await["serving"][0]["revision"], 2);
}
