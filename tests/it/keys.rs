//! Who may ask what: keys that are made, rotated, revoked and expire, and every route of both planes with every kind of
//! caller.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    deploying::{answer_of, stamped},
    support::{Answer, Served, TestHost, eventually},
};

const FUNCTION: &str = "shop/stamp";

impl Served {
    /// Makes a key of a tenant.
    async fn key(&self, tenant: &str, scopes: &[&str]) -> Value {
        self.key_for(tenant, scopes, None).await
    }

    async fn key_for(&self, tenant: &str, scopes: &[&str], expires_in_s: Option<u64>) -> Value {
        let body = json!({ "name": "test", "scopes": scopes, "expires_in_s": expires_in_s });
        let made = self.asks("POST", &format!("/admin/v1/tenants/{tenant}/keys"), Some(body), &self.token()).await;
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(made.header("cache-control"), "no-store");
        made.json()
    }

    /// Asks the data plane with this key, or none.
    async fn as_caller(&self, method: &str, path: &str, bearer: Option<&str>) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let asked = self.client.request(method, format!("{}{path}", self.base));
        let asked = match bearer {
            Some(bearer) => asked.bearer_auth(bearer),
            None => asked,
        };
        Answer::of(asked.send().await.unwrap()).await
    }
}

fn text(key: &Value) -> &str {
    key["key"].as_str().unwrap()
}

async fn host() -> Served {
    let host = TestHost::new().models(&["identity"]).config(|config| config.auth.required = true).start().await;
    host.deployed(FUNCTION, "?promote=true", &stamped(1), 1).await;
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_rotated_and_revoked_at_once() {
    let host = host().await;
    let key = host.key("shop", &["invoke"]).await;
    let call = async |bearer: &str| host.as_caller("POST", "/v1/functions/shop/stamp/work?turns=3", Some(bearer)).await;
    assert_eq!(call(text(&key)).await.text(), answer_of(1));
    let listed = host.control("/admin/v1/tenants/shop/keys").await;
    assert_eq!(listed.json()["keys"][0]["id"], key["id"]);
    let everything = [listed.text(), host.control("/metrics").await.text()].concat();
    let secret = text(&key).rsplit('_').next().unwrap().to_owned();
    assert!(!everything.contains(&secret));
    let kept = std::process::Command::new("grep").args(["-r", &secret]).arg(host.folder.path()).output().unwrap();
    assert!(kept.stdout.is_empty(), "{kept:?}");
    // Rotated: the old one goes on for its grace, then another without one.
    let path = format!("/admin/v1/tenants/shop/keys/{}", key["id"].as_str().unwrap());
    let second = host.asks("POST", &format!("{path}/rotate"), Some(json!({ "grace_s": 60 })), &host.token()).await;
    let second = second.json();
    assert_eq!((call(text(&key)).await.status, call(text(&second)).await.status), (200, 200));
    assert_eq!((&second["name"], &second["scopes"]), (&key["name"], &key["scopes"]));
    // Rotated once more in its grace, it gives a key that lasts as long as it did itself, and goes on no longer.
    let ends = host.control("/admin/v1/tenants/shop/keys").await.json();
    let again = host.asks("POST", &format!("{path}/rotate"), Some(json!({ "grace_s": 3600 })), &host.token()).await;
    assert_eq!(again.json()["expires_ms"], Value::Null);
    let listed = host.control("/admin/v1/tenants/shop/keys").await.json();
    let expires = |keys: &Value, id: &Value| {
        keys["keys"].as_array().unwrap().iter().find(|key| key["id"] == *id).unwrap()["expires_ms"].clone()
    };
    for id in [&key["id"], &second["id"]] {
        assert_eq!(expires(&listed, id), expires(&ends, id));
    }
    let path = format!("/admin/v1/tenants/shop/keys/{}", second["id"].as_str().unwrap());
    let third = host.asks("POST", &format!("{path}/rotate"), None, &host.token()).await.json();
    assert_eq!((call(text(&second)).await.status, call(text(&third)).await.status), (401, 200));
    let path = format!("/admin/v1/tenants/shop/keys/{}", third["id"].as_str().unwrap());
    assert_eq!(host.asks("DELETE", &path, None, &host.token()).await.status, 204);
    call(text(&third)).await.is_problem(401, "unauthenticated");
    host.asks("DELETE", &path, None, &host.token()).await.is_problem(404, "key-not-found");
    // Another tenant's keys are none of this one's.
    let other = host.key("other", &["invoke"]).await;
    let path = format!("/admin/v1/tenants/shop/keys/{}", other["id"].as_str().unwrap());
    host.asks("DELETE", &path, None, &host.token()).await.is_problem(404, "key-not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_expires() {
    let host = host().await;
    let key = host.key_for("shop", &["invoke"], Some(1)).await;
    let call = async || host.as_caller("POST", "/v1/functions/shop/stamp/work?turns=3", Some(text(&key))).await.status;
    assert_eq!(call().await, 200);
    tokio::time::sleep(Duration::from_millis(900)).await;
    eventually("it ends", async || call().await == 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_make_no_sense_are_refused() {
    let host = host().await;
    let tenant = "/admin/v1/tenants/shop/keys";
    for (path, body, status, code) in [
        (tenant, json!({ "name": "a", "scopes": [] }), 422, "invalid"),
        (tenant, json!({ "name": "", "scopes": ["invoke"] }), 422, "invalid"),
        (tenant, json!({ "name": "a", "scopes": ["root"] }), 400, "bad-request"),
        (tenant, json!({ "name": "a", "expires_in_s": 0 }), 422, "invalid"),
        (tenant, json!({ "name": "a", "hash": "x" }), 400, "bad-request"),
        ("/admin/v1/keys", json!({ "name": "a", "scopes": ["deploy"] }), 422, "invalid"),
        ("/admin/v1/tenants/Shop/keys", json!({ "name": "a" }), 422, "invalid"),
    ] {
        host.asks("POST", path, Some(body.clone()), &host.token()).await.is_problem(status, code);
    }
}

/// A route with what no key, a bad one, a revoked one, a key without the scope, another tenant's and the right one get.
struct Line(&'static str, &'static str, Option<&'static str>, [u16; 6]);

/// `None` where only operators may: then the right one is the operator's own token.
fn control_plane() -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |method, path, scope, right| lines.push(Line(method, path, scope, [401, 401, 401, 403, 403, right]));
    add("GET", "/admin/v1/functions/shop", Some("deploy"), 200);
    add("GET", "/admin/v1/functions/shop/stamp", Some("deploy"), 200);
    add("GET", "/admin/v1/functions/shop/nothing", Some("deploy"), 404);
    add("DELETE", "/admin/v1/functions/shop/nothing", Some("deploy"), 404);
    add("GET", "/admin/v1/functions/shop/stamp/revisions", Some("deploy"), 200);
    add("POST", "/admin/v1/functions/shop/stamp/revisions", Some("deploy"), 400);
    add("GET", "/admin/v1/functions/shop/stamp/deployments/x", Some("deploy"), 404);
    add("GET", "/admin/v1/functions/shop/stamp/traffic", Some("deploy"), 200);
    add("PUT", "/admin/v1/functions/shop/stamp/traffic", Some("deploy"), 422);
    add("POST", "/admin/v1/functions/shop/stamp/rollback", Some("deploy"), 409);
    add("GET", "/admin/v1/functions/shop/stamp/history", Some("deploy"), 200);
    add("GET", "/admin/v1/functions/shop/stamp/logs?tail=5", Some("deploy"), 200);
    add("GET", "/admin/v1/tenants/shop", Some("deploy"), 200);
    add("GET", "/admin/v1/tenants/shop/keys", Some("admin"), 200);
    add("POST", "/admin/v1/tenants/shop/keys", Some("admin"), 422);
    add("DELETE", "/admin/v1/tenants/shop/keys/x", Some("admin"), 404);
    add("POST", "/admin/v1/tenants/shop/keys/x/rotate", Some("admin"), 404);
    for (method, path, right) in [
        ("GET", "/admin/v1/functions", 200),
        ("GET", "/admin/v1/tenants", 200),
        ("PUT", "/admin/v1/tenants/shop", 200),
        ("DELETE", "/admin/v1/tenants/nobody", 404),
        ("GET", "/admin/v1/keys", 200),
        ("POST", "/admin/v1/keys", 422),
        ("DELETE", "/admin/v1/keys/x", 404),
        ("POST", "/admin/v1/keys/x/rotate", 404),
        ("GET", "/admin/v1/models", 200),
        ("POST", "/admin/v1/models/nothing/load", 404),
        ("POST", "/admin/v1/models/nothing/unload", 404),
        ("GET", "/admin/v1/models/nothing/explain", 404),
        ("GET", "/health", 200),
        ("GET", "/metrics", 200),
        ("GET", "/admin/v1/nothing", 404),
    ] {
        add(method, path, None, right);
    }
    // How one speaks to it is shown to whoever says who they are.
    lines.push(Line("GET", "/openapi.json", Some("deploy"), [401, 401, 401, 200, 200, 200]));
    // Hosts are shown to whoever deploys, whichever tenant it is.
    lines.push(Line("GET", "/admin/v1/hosts", Some("deploy"), [401, 401, 401, 403, 200, 200]));
    // What is remembered: whose, the query and the body say, and an order without a body means nothing.
    lines.push(Line("GET", "/admin/v1/cache/stats", Some("deploy"), [401, 401, 401, 403, 200, 200]));
    lines.push(Line("GET", "/admin/v1/cache/stats?tenant=shop", Some("deploy"), [401, 401, 401, 403, 403, 200]));
    lines.push(Line("POST", "/admin/v1/cache/invalidate", Some("deploy"), [401, 401, 401, 403, 400, 400]));
    lines
}

fn data_plane() -> Vec<Line> {
    let invoke = "/v1/functions/shop/stamp/work?turns=3";
    vec![
        Line("POST", invoke, Some("invoke"), [401, 401, 401, 403, 403, 200]),
        // Nobody learns from the status whether another tenant's function exists.
        Line("POST", "/v1/functions/shop/nothing", Some("invoke"), [401, 401, 401, 403, 403, 404]),
        Line("GET", "/v1/functions", Some("invoke"), [401, 401, 401, 200, 200, 200]),
        Line("GET", "/v1/models", Some("invoke"), [401, 401, 401, 200, 200, 200]),
        Line("GET", "/v2", Some("invoke"), [401, 401, 401, 200, 200, 200]),
        Line("GET", "/v2/models/identity", Some("invoke"), [401, 401, 401, 200, 200, 200]),
        Line("POST", "/v2/models/nothing/infer", Some("invoke"), [401, 401, 401, 403, 404, 404]),
        Line("POST", "/v2/repository/models/identity/load", None, [401, 401, 401, 403, 403, 200]),
        Line("POST", "/v2/repository/models/nothing/unload", None, [401, 401, 401, 403, 403, 404]),
        Line("GET", "/openapi.json", Some("invoke"), [200, 200, 200, 200, 200, 200]),
        Line("GET", "/health/live", Some("invoke"), [200, 200, 200, 200, 200, 200]),
        Line("GET", "/health/ready", Some("invoke"), [200, 200, 200, 200, 200, 200]),
        Line("GET", "/v2/health/ready", Some("invoke"), [200, 200, 200, 200, 200, 200]),
        Line("GET", "/nothing", Some("invoke"), [401, 401, 401, 404, 404, 404]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_and_every_kind_of_caller() {
    let host = host().await;
    let revoked = host.key("shop", &["invoke", "deploy", "admin"]).await;
    let path = format!("/admin/v1/tenants/shop/keys/{}", revoked["id"].as_str().unwrap());
    assert_eq!(host.asks("DELETE", &path, None, &host.token()).await.status, 204);
    let all = ["invoke", "deploy", "admin"];
    let (token, foreign) = (host.token(), host.key("other", &all).await);
    let mut bad = text(&revoked).to_owned();
    bad.replace_range(bad.len() - 1.., if bad.ends_with('0') { "1" } else { "0" });
    for (lines, control) in [(control_plane(), true), (data_plane(), false)] {
        for Line(method, path, scope, statuses) in lines {
            let own: Vec<&str> = all.into_iter().filter(|own| Some(*own) == scope).collect();
            let without: Vec<&str> = all.into_iter().filter(|own| Some(*own) != scope).collect();
            // Deploying shows the tenant, and so does managing its keys.
            let without = if path == "/admin/v1/tenants/shop" { vec!["invoke"] } else { without };
            let without = host.key("shop", &without).await;
            let right = if own.is_empty() { json!({ "key": token }) } else { host.key("shop", &own).await };
            let callers = [
                None,
                Some(&*bad),
                Some(text(&revoked)),
                Some(text(&without)),
                Some(text(&foreign)),
                Some(text(&right)),
            ];
            for (caller, wanted) in callers.into_iter().zip(statuses) {
                let answer = match (control, caller) {
                    (false, caller) => host.as_caller(method, path, caller).await,
                    (true, Some(caller)) => host.asks(method, path, None, caller).await,
                    (true, None) => {
                        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
                        Answer::of(host.client.request(method, format!("{}{path}", host.control)).send().await.unwrap())
                            .await
                    }
                };
                let who = caller.map(|caller| &caller[..12]);
                assert_eq!(answer.status, wanted, "{method} {path} as {who:?}: {}", answer.text());
            }
        }
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_by_number_is_for_those_who_deploy_and_lists_are_ones_own() {
    let host = host().await;
    host.deployed("other/stamp", "?promote=true", &stamped(2), 1).await;
    let (invokes, deploys) = (host.key("shop", &["invoke"]).await, host.key("shop", &["invoke", "deploy"]).await);
    let path = "/v1/functions/shop/stamp@1/work?turns=3";
    host.as_caller("POST", path, Some(text(&invokes))).await.is_problem(403, "forbidden");
    assert_eq!(host.as_caller("POST", path, Some(text(&deploys))).await.status, 200);
    let listed = host.as_caller("GET", "/v1/functions", Some(text(&invokes))).await.json();
    assert_eq!(listed["functions"].as_array().unwrap().len(), 1, "{listed}");
    let listed = host.as_caller("GET", "/v1/functions", Some(&host.token())).await.json();
    assert_eq!(listed["functions"].as_array().unwrap().len(), 2, "{listed}");
    // Who deploys is in the history by the key's id.
    let key = text(&deploys).to_owned();
    assert_eq!(host.upload(FUNCTION, "?promote=true", &stamped(3), &key).await.status, 202);
    eventually("it serves", async || host.registered(FUNCTION).await["latest"] == 2).await;
    let history = host.control("/admin/v1/functions/shop/stamp/history").await.json();
    assert_eq!(history["events"][0]["by"], deploys["id"], "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_key_makes_keys_of_every_scope_and_for_its_own_tenant_alone() {
    let host = host().await;
    host.deployed("other/stamp", "?promote=true", &stamped(1), 1).await;
    let (admin, foreign) = (host.key("shop", &["admin"]).await, host.key("other", &["invoke"]).await);
    let foreign = foreign["id"].as_str().unwrap();
    let order = |scopes: &[&str]| Some(json!({ "name": "made", "scopes": scopes }));
    let all = ["invoke", "deploy", "admin"];
    let made = host.asks("POST", "/admin/v1/tenants/shop/keys", order(&all), text(&admin)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    // What it made may what its scopes say, in its own tenant: also make further keys, and no more than that.
    assert_eq!(host.as_caller("POST", "/v1/functions/shop/stamp/work?turns=3", Some(text(&made))).await.status, 200);
    assert_eq!(host.asks("GET", "/admin/v1/functions/shop", None, text(&made)).await.status, 200);
    for key in [&admin, &made] {
        for (method, path, body) in [
            ("POST", "/admin/v1/tenants/other/keys".to_owned(), order(&["invoke"])),
            ("POST", "/admin/v1/tenants/%6fther/keys".to_owned(), order(&["invoke"])),
            ("GET", "/admin/v1/tenants/other/keys".to_owned(), None),
            ("POST", format!("/admin/v1/tenants/other/keys/{foreign}/rotate"), None),
            ("DELETE", format!("/admin/v1/tenants/other/keys/{foreign}"), None),
            ("POST", "/admin/v1/keys".to_owned(), Some(json!({ "name": "made" }))),
            ("GET", "/admin/v1/keys".to_owned(), None),
            ("PUT", "/admin/v1/tenants/shop".to_owned(), Some(json!({ "settings": {} }))),
        ] {
            host.asks(method, &path, body, text(key)).await.is_problem(403, "forbidden");
        }
        // Nor by what the order says, or by naming another tenant's key as its own.
        let path = "/admin/v1/tenants/shop/keys";
        let order = json!({ "name": "made", "scopes": ["invoke"], "tenant": "other" });
        host.asks("POST", path, Some(order), text(key)).await.is_problem(400, "bad-request");
        let path = format!("{path}/{foreign}");
        host.asks("POST", &format!("{path}/rotate"), None, text(key)).await.is_problem(404, "key-not-found");
        host.asks("DELETE", &path, None, text(key)).await.is_problem(404, "key-not-found");
    }
    let calls = host.as_caller("POST", "/v1/functions/other/stamp/work?turns=3", Some(text(&made))).await;
    calls.is_problem(403, "forbidden");
    let operators = host.control("/admin/v1/keys").await.json();
    assert_eq!(operators["keys"], json!([]));
    let others = host.control("/admin/v1/tenants/other/keys").await.json();
    assert_eq!(others["keys"].as_array().unwrap().len(), 1, "{others}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_key_may_what_the_token_may() {
    let host = host().await;
    let body = json!({ "name": "night shift" });
    let made = host.asks("POST", "/admin/v1/keys", Some(body), &host.token()).await.json();
    assert_eq!(host.asks("GET", "/admin/v1/tenants", None, text(&made)).await.status, 200);
    let path = format!("/admin/v1/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(host.asks("DELETE", &path, None, text(&made)).await.status, 204);
    host.asks("GET", "/admin/v1/tenants", None, text(&made)).await.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_data_plane_that_others_can_reach_asks_for_keys() {
    let open = |listen: &str, required: bool, insists: bool| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tenon.toml");
        let text =
            format!("[http]\nlisten = \"{listen}\"\n[auth]\nrequired = {required}\nopen_to_network = {insists}\n");
        std::fs::write(&file, text).unwrap();
        let flags = tenon_host::config::Flags { config: Some(file), ..Default::default() };
        tenon_host::config::Config::load(&flags).map(drop).map_err(|error| error.to_string())
    };
    let refused = open("0.0.0.0:8080", false, false).unwrap_err();
    assert!(refused.contains("auth.required = true"), "{refused}");
    for (listen, required, insists) in
        [("127.0.0.1:8080", false, false), ("0.0.0.0:8080", true, false), ("0.0.0.0:8080", false, true)]
    {
        assert_eq!(open(listen, required, insists), Ok(()), "{listen}");
    }
}
