//! What operators and tenants ask of what is remembered: that it is void, by each of its names, and figures; over HTTP, by
//! the command line, and as metrics.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    deploying::{Content, plugin},
    redis::Redis,
    support::{Answer, Served, TestHost, eventually},
};

const INVALIDATE: &str = "/admin/v1/cache/invalidate";
const STATS: &str = "/admin/v1/cache/stats";
/// A row of the model.
const ROW: [u8; 64] = [1; 64];

/// A function that asks a model, and whose answers are remembered for a minute.
fn content() -> Content {
    plugin(
        "identity",
        "[models.model]\nmodel = \"identity@serving\"\ninputs = { x = \"FP32[rows, 16]\" }\n\
         outputs = { y = \"FP32[rows, 16]\" }\n[cache]\nkey = \"request\"\nttl_s = 60\ntags = [\"prices\", \"de\"]\n\
         rows = \"input\"\n",
    )
}

async fn started(test: TestHost) -> Served {
    let host = test.models(&["identity"]).start().await;
    for function in ["shop/one", "shop/two", "other/one"] {
        host.deployed(function, "?promote=true", &content(), 1).await;
    }
    host
}

impl Served {
    /// What the cache had to do with a function's answer, always to the same request.
    async fn came(&self, function: &str) -> String {
        let answer = self.post(&format!("/v1/functions/{function}"), ROW.to_vec()).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &ROW[..]), "{}", answer.text());
        answer.header("x-tenon-cache").to_owned()
    }

    async fn void(&self, order: Value, bearer: &str) -> Answer {
        self.asks("POST", INVALIDATE, Some(order), bearer).await
    }

    async fn new_key(&self, tenant: &str, scope: &str) -> String {
        let body = json!({ "name": "test", "scopes": [scope] });
        let made = self.asks("POST", &format!("/admin/v1/tenants/{tenant}/keys"), Some(body), &self.token()).await;
        made.json()["key"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_remembered_is_void_by_each_of_its_names() {
    let host = started(TestHost::new()).await;
    let mut last = 0;
    // The order, the scopes that it has, and what of the three functions it leaves alone.
    for (order, scopes, hits) in [
        (json!({ "tenant": "shop", "function": "one" }), 1, [false, true, true]),
        (json!({ "tenant": "shop", "function": "nothing" }), 1, [true, true, true]),
        (json!({ "tenant": "shop" }), 1, [false, false, true]),
        (json!({ "tenant": "shop", "tag": "de" }), 1, [false, false, true]),
        (json!({ "tenant": "shop", "tags": ["unheard-of", "prices"] }), 2, [false, false, true]),
        (json!({ "tenant": "shop", "tag": "unheard-of" }), 1, [true, true, true]),
        (json!({ "model": "identity" }), 1, [false, false, false]),
        (json!({ "model": "identity", "version": 1 }), 1, [false, false, false]),
        (json!({ "model": "identity", "version": 2 }), 1, [true, true, true]),
        (json!({ "everything": true }), 1, [false, false, false]),
    ] {
        for function in ["shop/one", "shop/two", "other/one"] {
            host.came(function).await;
            assert_eq!(host.came(function).await, "hit", "before {order}");
        }
        let done = host.void(order.clone(), &host.token()).await;
        let told = done.json();
        let seq = told["seq"].as_u64().unwrap();
        assert!(done.status == 200 && seq > last, "{told}");
        assert_eq!(told, json!({ "seq": seq, "everywhere": false, "scopes": scopes, "redis": "none" }), "{order}");
        last = seq;
        for (function, hit) in ["shop/one", "shop/two", "other/one"].into_iter().zip(hits) {
            assert_eq!(host.came(function).await == "hit", hit, "{function} after {order}");
        }
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_means_nothing_changes_nothing() {
    let host = started(TestHost::new()).await;
    host.came("shop/one").await;
    for (order, said) in [
        (json!({}), "it must be one of"),
        (json!({ "everything": false }), "it must be one of"),
        (json!({ "everything": true, "tenant": "shop" }), "it must be one of"),
        (json!({ "function": "one" }), "it must be one of"),
        (json!({ "tenant": "shop", "function": "one", "tag": "de" }), "it must be one of"),
        (json!({ "tenant": "shop", "model": "identity" }), "it must be one of"),
        (json!({ "version": 1 }), "it must be one of"),
        (json!({ "tenants": ["shop"] }), "unknown field"),
        (json!({ "tenant": 7 }), "expected a string"),
        (json!(["shop"]), "the body"),
        (json!({ "tenant": "shop", "tags": [] }), "1 to 16"),
        (json!({ "tenant": "shop", "tags": vec!["x"; 17] }), "1 to 16"),
        (json!({ "tenant": "shop", "tag": "" }), "1 to 128 bytes"),
        (json!({ "tenant": "Shop" }), "is not a name"),
        (json!({ "model": "identity@1" }), "without a version"),
    ] {
        let problem = host.void(order.clone(), &host.token()).await.is_problem(400, "bad-request");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{order}: {problem}");
    }
    host.asks("POST", INVALIDATE, None, &host.token()).await.is_problem(400, "bad-request");
    host.asks("GET", INVALIDATE, None, &host.token()).await.is_problem(405, "method-not-allowed");
    assert_eq!(host.came("shop/one").await, "hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_key_reaches_its_own_tenants_alone() {
    let host = started(TestHost::new()).await;
    for function in ["shop/one", "other/one"] {
        host.came(function).await;
        assert_eq!(host.came(function).await, "hit");
    }
    let (deploys, foreign) = (host.new_key("shop", "deploy").await, host.new_key("other", "deploy").await);
    let own = [
        json!({ "tenant": "shop" }),
        json!({ "tenant": "shop", "function": "one" }),
        json!({ "tenant": "shop", "tag": "de" }),
    ];
    for order in own {
        host.void(order.clone(), &foreign).await.is_problem(403, "forbidden");
        for scope in ["invoke", "admin"] {
            let key = host.new_key("shop", scope).await;
            host.void(order.clone(), &key).await.is_problem(403, "forbidden");
            host.asks("GET", STATS, None, &key).await.is_problem(403, "forbidden");
        }
        assert_eq!(host.came("shop/one").await, "hit", "{order}");
        assert_eq!(host.void(order.clone(), &deploys).await.status, 200, "{order}");
        assert_ne!(host.came("shop/one").await, "hit", "{order}");
    }
    for order in [json!({ "everything": true }), json!({ "model": "identity" }), json!({ "tenant": "other" })] {
        host.void(order, &deploys).await.is_problem(403, "forbidden");
    }
    assert_eq!(host.came("other/one").await, "hit");
    // Figures of its own functions, and nothing of the host; an operator may look at one tenant's alike.
    let mine = host.asks("GET", STATS, None, &deploys).await.json();
    let names: Vec<_> = mine["functions"].as_array().unwrap().iter().map(|it| it["tenant"].clone()).collect();
    assert!(!names.is_empty() && names.iter().all(|tenant| tenant == "shop"), "{mine}");
    let members: Vec<_> = mine.as_object().unwrap().keys().collect();
    assert_eq!(members, ["functions", "saved_s"]);
    let named = format!("{STATS}?tenant=shop");
    assert_eq!(host.asks("GET", &named, None, &deploys).await.json(), mine);
    assert_eq!(host.control(&named).await.json(), mine);
    host.asks("GET", &named, None, &foreign).await.is_problem(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_tell_what_came_of_it() {
    let host = started(TestHost::new()).await;
    let came = [host.came("shop/one").await, host.came("shop/one").await, host.came("shop/two").await];
    // Rows are a tenant's: what one function had computed, the other need not.
    assert_eq!(came, ["miss", "hit", "partial"]);
    let stats = host.control(STATS).await.json();
    let one = &stats["functions"].as_array().unwrap()[0];
    assert_eq!((&one["tenant"], &one["function"]), (&json!("shop"), &json!("one")));
    for (name, expected) in [("lookups", 2), ("memory_hits", 1), ("coalesced", 0), ("rows_asked", 1), ("rows_known", 0)]
    {
        assert_eq!(one[name], expected, "{name}: {one}");
    }
    assert_eq!((&one["hit_ratio"], &stats["functions"][1]["rows_known"]), (&json!(0.5), &json!(1)));
    assert_eq!((&stats["memory"]["entries"], &stats["redis"]["state"]), (&json!(3), &json!("none")), "{stats}");
    assert!(stats["memory"]["bytes"].as_u64() > Some(128) && stats["memory"]["hit_ratio"].as_f64() > Some(0.0));
    assert!(stats["saved_s"].as_f64() > Some(0.0), "{stats}");
    let health = host.control("/health").await.json();
    assert_eq!((&health["cache"]["memory_entries"], &health["cache"]["redis"]["state"]), (&json!(3), &json!("none")));
    let metric = |line: &str| host.metric(line);
    let answers = |function: &str, outcome: &str| {
        metric(&format!("tenon_cache_answers_total{{function=\"{function}\",outcome=\"{outcome}\",tenant=\"shop\"}}"))
    };
    assert_eq!((answers("one", "memory"), answers("one", "miss"), answers("two", "miss")), (1.0, 1.0, 1.0));
    assert_eq!(metric("tenon_cache_rows_total{function=\"two\",outcome=\"known\",tenant=\"shop\"}"), 1.0);
    assert_eq!(metric("tenon_cache_entries{tier=\"memory\"}"), 3.0);
    assert!(metric("tenon_cache_saved_device_seconds_total{function=\"one\",tenant=\"shop\"}") > 0.0);
    assert!(metric("tenon_cache_lookups_total{outcome=\"hit\",tier=\"memory\"}") >= 2.0);
    let text = host.control("/metrics").await.text();
    assert!(!text.contains("tenon_cache_redis_up") && !text.contains("tier=\"redis\""), "there is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_quota_is_in_force_at_once() {
    let host = started(TestHost::new()).await;
    let entries = async || host.control(STATS).await.json()["memory"]["entries"].as_u64().unwrap();
    for function in ["shop/one", "other/one"] {
        host.came(function).await;
    }
    assert_eq!(entries().await, 4, "an answer and a row of each tenant");
    let allow = async |limits: Value| {
        let settings = json!({ "settings": { "limits": limits } });
        let set = host.asks("PUT", "/admin/v1/tenants/shop", Some(settings), &host.token()).await;
        assert_eq!(set.status, 200, "{}", set.text());
        set.json()
    };
    assert_eq!(allow(json!({ "cache_bytes": 0 })).await["settings"]["limits"]["cache_bytes"], 0);
    assert_eq!(
        (entries().await, host.came("shop/one").await, host.came("shop/one").await),
        (2, "miss".into(), "miss".into())
    );
    assert_eq!(host.came("other/one").await, "hit");
    assert!(host.metric("tenon_cache_dropped_total{reason=\"quota\"}") >= 2.0);
    allow(json!({})).await;
    assert_eq!((host.came("shop/one").await, host.came("shop/one").await), ("miss".into(), "hit".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_is_told() {
    let host = started(TestHost::new().config(|config| {
        // Nobody listens there.
        config.cache.redis_url = Some("redis://127.0.0.1:1".into());
        config.cache.connect_timeout_ms = 50;
    }))
    .await;
    host.came("shop/one").await;
    assert_eq!(host.came("shop/one").await, "hit");
    let done = host.void(json!({ "tenant": "shop" }), &host.token()).await.json();
    assert_eq!((&done["everywhere"], &done["redis"]), (&json!(false), &json!("down")), "{done}");
    assert_ne!(host.came("shop/one").await, "hit", "here it holds all the same");
    assert_eq!(host.metric("tenon_cache_redis_up"), 0.0);
    assert!(host.control("/metrics").await.text().contains("tenon_cache_redis_up 0"));
    let redis = host.control(STATS).await.json()["redis"].clone();
    assert!(redis["state"] == "down" && redis["reason"].is_string() && redis["since_ms"].is_u64(), "{redis}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_void_is_void_on_every_host_of_a_redis() {
    let Some(redis) = Redis::start() else { return };
    let test = || {
        TestHost::new().config(|config| {
            redis.configure(config);
            // Patience, for machines that have other things to do.
            config.cache.lookup_timeout_ms = 5000;
        })
    };
    let (host, second) = (started(test()).await, started(test()).await);
    let dealings =
        async |host: &Served, name: &str| host.control(STATS).await.json()["redis"]["dealings"][name].as_u64().unwrap();
    host.came("shop/one").await;
    eventually("answer and row are written", async || dealings(&host, "written").await == 2).await;
    assert_eq!((second.came("shop/one").await, host.metric("tenon_cache_redis_up")), ("hit".into(), 1.0));
    assert_eq!(second.metric("tenon_cache_answers_total{function=\"one\",outcome=\"redis\",tenant=\"shop\"}"), 1.0);
    assert!(host.metric("tenon_cache_bytes{tier=\"redis\"}") > 0.0);
    let done = host.void(json!({ "tenant": "shop", "function": "one" }), &host.token()).await.json();
    assert_eq!((&done["everywhere"], &done["redis"]), (&json!(true), &json!("up")), "{done}");
    eventually("the other has heard", async || dealings(&second, "invalidations_heard").await == 1).await;
    assert_ne!(second.came("shop/one").await, "hit");
}

/// What `tenon` says, asked with this key.
async fn tenon(host: &Served, variable: &str, key: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_tenon-host")).with_file_name("tenon");
    assert!(program.exists(), "{} is missing: cargo build", program.display());
    let mut command = Command::new(program);
    command.args(arguments).env("TENON_CONTROL", &host.control).env(variable, key).env("NO_COLOR", "1");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_and_invalidates() {
    let host = started(TestHost::new()).await;
    host.came("shop/one").await;
    assert_eq!(host.came("shop/one").await, "hit");
    let token = host.token();
    let (exit, shown, said) = tenon(&host, "TENON_ADMIN_TOKEN", &token, &["cache", "stats"]).await;
    assert_eq!(exit, Some(0), "{said}");
    for part in ["TIER", "memory", "shop/one", "50 %", "no Redis is configured"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    let key = host.new_key("shop", "deploy").await;
    let (exit, shown, said) = tenon(&host, "TENON_KEY", &key, &["cache", "stats", "--json"]).await;
    let told: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((exit, &told["functions"][0]["memory_hits"]), (Some(0), &json!(1)), "{said}");
    let function = ["cache", "invalidate", "--tenant", "shop", "--function", "one"];
    let (exit, shown, said) = tenon(&host, "TENON_KEY", &key, &function).await;
    assert_eq!(exit, Some(0), "{said}");
    assert!(shown.starts_with("what was remembered of shop/one is void on this host"), "{shown}");
    assert_ne!(host.came("shop/one").await, "hit");
    let (exit, _, said) = tenon(&host, "TENON_KEY", &key, &["cache", "invalidate", "--everything"]).await;
    assert_eq!(exit, Some(3), "{said}");
    assert!(said.contains("403 forbidden"), "{said}");
}
