//! Two hosts on one registry: both follow what either is told.

use std::time::{Duration, Instant};

use serde_json::json;
use tenon_host::{boot, config::Config};

use crate::{
    deploying::{answer_of, stamped},
    redis::Redis,
    support::{Served, TestHost, client, eventually},
};

const FUNCTION: &str = "shop/stamp";

/// Two hosts whose registry is one folder.
async fn two() -> (Served, Served) {
    two_with(|config| config.registry.poll_ms = 100).await
}

async fn two_with(change: impl FnOnce(&mut Config)) -> (Served, Served) {
    let mut config = Config::default();
    let one = TestHost::new().config(|own| {
        change(own);
        own.registry.host_name = Some("one".into());
        config = own.clone();
    });
    let one = one.start().await;
    let folder = tempfile::tempdir().unwrap();
    config.registry.host_name = Some("two".into());
    config.engine.data = folder.path().join("data");
    std::fs::create_dir_all(&config.engine.data).unwrap();
    std::os::unix::fs::symlink(one.folder.path().join("data/registry"), config.engine.data.join("registry")).unwrap();
    let host = boot::start(config).await.unwrap();
    let (base, control) = (host.data_url(), host.control_url());
    let two = Served { host, client: client().build().unwrap(), base, control, folder };
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_is_told_the_other_serves() {
    let (one, two) = two().await;
    one.deployed(FUNCTION, "?promote=true", &stamped(1), 1).await;
    eventually("the other serves it", async || two.stamp(FUNCTION).await.text() == answer_of(1)).await;
    two.deployed(FUNCTION, "", &stamped(2), 2).await;
    assert_eq!(two.traffic(FUNCTION, &[(2, 1)]).await.status, 200);
    eventually("the first follows", async || one.stamp(FUNCTION).await.text() == answer_of(2)).await;
    // Keys are known to both, and revoked for both.
    let body = json!({ "name": "test", "scopes": ["deploy"] });
    let key = one.asks("POST", "/admin/v1/tenants/shop/keys", Some(body), &one.token()).await.json();
    let bearer = key["key"].as_str().unwrap().to_owned();
    let asks = async || two.asks("GET", "/admin/v1/functions/shop", None, &bearer).await.status;
    eventually("the other knows the key", async || asks().await == 200).await;
    let path = format!("/admin/v1/tenants/shop/keys/{}", key["id"].as_str().unwrap());
    assert_eq!(one.asks("DELETE", &path, None, &one.token()).await.status, 204);
    eventually("and that it is revoked", async || asks().await == 401).await;
    // Each tells how far both are.
    let n = one.control(&format!("/admin/v1/functions/{FUNCTION}/traffic")).await.json()["n"].as_u64().unwrap();
    eventually("both say how far they are", async || {
        let hosts = two.control("/admin/v1/hosts").await.json();
        let hosts = hosts["hosts"].as_array().unwrap().clone();
        let names: Vec<_> =
            hosts.iter().map(|host| (host["name"].as_str().unwrap(), host["self"].as_bool().unwrap())).collect();
        names == [("one", false), ("two", true)] && hosts.iter().all(|host| host["applied"].as_u64().unwrap() >= n)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_share_a_redis_tell_each_other_at_once() {
    let Some(redis) = Redis::start() else { return };
    // Neither looks by itself while this test lasts.
    let (one, two) = two_with(|config| {
        config.registry.poll_ms = 60_000;
        redis.configure(config);
    })
    .await;
    for number in 1..=3 {
        one.deployed(FUNCTION, "?promote=true", &stamped(number), number).await;
        let start = Instant::now();
        eventually("the other serves it", async || two.stamp(FUNCTION).await.text() == answer_of(number)).await;
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_at_the_same_time_get_different_numbers() {
    let (one, two) = two().await;
    for round in 0..5 {
        let (a, b) = (stamped(10 + 2 * round), stamped(11 + 2 * round));
        let (a, b) = tokio::join!(one.deploys(FUNCTION, "", &a), two.deploys(FUNCTION, "", &b));
        let mut numbers = [&a, &b].map(|told| told["revision"].as_u64().unwrap_or_else(|| panic!("{told}")));
        numbers.sort_unstable();
        assert_eq!(numbers, [2 * round + 1, 2 * round + 2]);
    }
    for host in [&one, &two] {
        eventually("it knows all of them", async || {
            let listed = host.control(&format!("/admin/v1/functions/{FUNCTION}/revisions")).await.json();
            listed["revisions"].as_array().unwrap().len() == 10
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_lacks_a_model_says_so_and_goes_on_with_what_it_has() {
    let (one, two) = two().await;
    one.deployed(FUNCTION, "?promote=true", &stamped(1), 1).await;
    eventually("the other serves it", async || two.stamp(FUNCTION).await.status == 200).await;
    // Only the blob's loss can be had here without another model repository: the second host never saw revision 2.
    one.deployed(FUNCTION, "", &stamped(2), 2).await;
    let revisions = one.control(&format!("/admin/v1/functions/{FUNCTION}/revisions")).await.json();
    assert_eq!(revisions["revisions"][0]["number"], 2);
    let component = blake3::hash(&stamped(2).component).to_hex();
    let blob = one.folder.path().join(format!("data/registry/blobs/{}/{component}", &component[..2]));
    std::fs::write(&blob, b"damaged").unwrap();
    assert_eq!(one.traffic(FUNCTION, &[(2, 1)]).await.status, 409, "it cannot be brought up here");
    assert_eq!(one.stamp(FUNCTION).await.text(), answer_of(1));
    assert_eq!(two.stamp(FUNCTION).await.text(), answer_of(1));
}
