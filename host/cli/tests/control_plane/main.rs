//! Commands that ask the control plane, as their users run them: what they ask, what they show, how they end.
//!
//! The other end plays a script (`server`); what a real host answers is tested with the host.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod cache;
mod deploying;
mod server;

use server::{Answer, against, ok, problem, tenon, with};

const SPLIT: &str = r#"{"split":{"shares":[{"revision":2,"weight":90},{"revision":3,"weight":10}],
    "sticky":{"by":"header","header":"x-user"}},"n":17}"#;

/// The body of a request.
fn body(asked: &str) -> &str {
    asked.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn latest_is_looked_up_before_it_is_promoted() {
    let function = r#"{"tenant":"a","function":"f","state":"ready","latest":3}"#;
    let answer = r#"{"split":{"shares":[{"revision":3,"weight":100}],"sticky":{"by":"request"}},"n":18}"#;
    let told = against(vec![ok(function), ok(answer)], &["promote", "a/f", "--why", "canary fine"]);
    assert_eq!((told.exit, &told.stdout[..]), (Some(0), "a/f: revision 3 has 100 %\n"), "{}", told.stderr);
    assert!(told.asked[0].starts_with("GET /admin/v1/functions/a/f HTTP/1.1\r\n"), "{}", told.asked[0]);
    assert!(told.asked[1].starts_with("PUT /admin/v1/functions/a/f/traffic HTTP/1.1\r\n"), "{}", told.asked[1]);
    assert_eq!(body(&told.asked[1]), r#"{"shares":[{"revision":3,"weight":100}],"why":"canary fine"}"#);
    let told = against(vec![ok(r#"{"latest":0}"#)], &["promote", "a/f"]);
    assert_eq!(told.exit, Some(3));
    assert!(told.stderr.contains("a/f has no revision") && told.stderr.contains("tenon deploy a/f"), "{}", told.stderr);
    let told =
        against(vec![problem("409 Conflict", "conflict", "revision 3 is quarantined")], &["promote", "a/f", "3"]);
    assert_eq!(told.exit, Some(3));
    assert!(told.stderr.contains("revision 3 is quarantined") && told.stderr.contains("hint: "), "{}", told.stderr);
}

#[test]
fn a_wait_shows_every_host_and_ends_by_its_state() {
    let hosts = |applied: u64, failed: &str| {
        ok(&format!(
            r#"{{"hosts":[{{"host":"1","name":"gpu-1","applied":18,"at_ms":1000,"self":true,"failed":{{}}}},
            {{"host":"2","name":"gpu-2","applied":{applied},"at_ms":1000,"self":false,"failed":{{{failed}}}}}]}}"#
        ))
    };
    let split = r#"{"split":{"shares":[{"revision":2,"weight":100}]},"n":18}"#;
    let told = against(vec![ok(split), hosts(17, ""), hosts(18, "")], &["rollback", "a/f", "--wait"]);
    let expected = "a/f: revision 2 has 100 %\nHOST           APPLIED  STATE\ngpu-1 (asked)  18       applied\n\
        gpu-2          18       applied\n";
    assert_eq!((told.exit, &told.stdout[..]), (Some(0), expected), "{}", told.stderr);
    assert!(told.asked[0].starts_with("POST /admin/v1/functions/a/f/rollback "), "{}", told.asked[0]);
    assert_eq!(body(&told.asked[0]), "{}");

    let told = against(vec![ok(split), hosts(18, r#""a/f":"no model""#)], &["rollback", "a/f", "--wait"]);
    assert_eq!(told.exit, Some(4), "{}", told.stderr);
    assert!(told.stdout.contains("failed: no model"), "{}", told.stdout);

    let behind = vec![ok(split), hosts(17, ""), hosts(17, "")];
    let told = against(behind, &["rollback", "a/f", "--wait", "--timeout", "50ms", "--json"]);
    assert_eq!(told.exit, Some(5), "{}", told.stderr);
    assert!(told.stderr.contains("1 of 2 hosts have not applied change 18 within 50ms"), "{}", told.stderr);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&told.stdout).unwrap()["hosts"][1]["applied"], 17);
}

#[test]
fn traffic_is_shown_and_keeps_what_is_not_named() {
    let told = against(vec![ok(SPLIT)], &["traffic", "a/f"]);
    assert_eq!(
        told.stdout, "a/f: revision 2 has 90 %, revision 3 has 10 %, the same for each x-user\n",
        "{}",
        told.stderr
    );
    let told = against(vec![ok(SPLIT), ok(SPLIT)], &["traffic", "a/f", "--set", "2=50,3=50", "--json"]);
    let sent: serde_json::Value = serde_json::from_str(body(&told.asked[1])).unwrap();
    assert_eq!(sent["sticky"], serde_json::json!({ "by": "header", "header": "x-user" }), "{}", told.stderr);
    assert_eq!(sent["shares"][1], serde_json::json!({ "revision": 3, "weight": 50 }));
    let none = || ok(r#"{"split":null,"n":1}"#);
    assert!(against(vec![none()], &["traffic", "a/f"]).stdout.contains("has no traffic"));
    assert_eq!(against(vec![none()], &["traffic", "a/f", "--sticky", "key"]).exit, Some(2));
    for wrong in [&["traffic", "a/f", "--set", "2"][..], &["traffic", "a"], &["promote", "a/f", "old"]] {
        assert_eq!(tenon(wrong).output().unwrap().status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn history_and_revisions_are_tables() {
    let events =
        r#"{"events":[{"n":18,"at_ms":1784980803123,"by":"key ci","what":"revision 3 added","why":"shorter"}]}"#;
    let told = against(vec![ok(events)], &["history", "a/f"]);
    let expected = "CHANGE  WHEN                  BY      WHAT              WHY\n\
        18      2026-07-25T12:00:03Z  key ci  revision 3 added  shorter\n";
    assert_eq!(told.stdout, expected, "{}", told.stderr);
    assert!(told.asked[0].starts_with("GET /admin/v1/functions/a/f/history?limit=50 "), "{}", told.asked[0]);
    let function = ok(r#"{"tenant":"a","function":"f","state":"unavailable","error":"model m is not there"}"#);
    let revisions = r#"{"revisions":[{"number":3,"digest":"0123456789abcdef","component_bytes":2048,
        "added_ms":1784980803123,"by":"ci","share":1},{"number":2,"quarantined":"it trapped"}]}"#;
    let told = against(vec![function, ok(revisions)], &["functions", "a/f"]);
    assert!(told.stdout.starts_with("a/f unavailable: model m is not there\nREVISION "), "{}", told.stdout);
    assert!(told.stdout.contains("3         100 %    0123456789ab  2.0 KiB"), "{}", told.stdout);
    assert!(told.stdout.contains("in quarantine: it trapped"), "{}", told.stdout);
}

#[test]
fn settings_that_are_not_named_stay() {
    let tenant = r#"{"tenant":"acme","settings":{"weight":2,"exclusive":false,"models":["m"],"limits":{"burst":5}},
        "functions":1,"stored_bytes":1048576,"keys":2}"#;
    let told = against(vec![ok(tenant), ok(tenant)], &["tenants", "set", "acme", "--memory", "1MiB", "--why", "more"]);
    assert_eq!(told.exit, Some(0), "{}", told.stderr);
    let sent: serde_json::Value = serde_json::from_str(body(&told.asked[1])).unwrap();
    let expected = serde_json::json!({ "why": "more", "settings": { "weight": 2, "exclusive": false, "models": ["m"],
        "limits": { "burst": 5, "memory_bytes": 1_048_576 } } });
    assert_eq!(sent, expected);
    assert!(
        told.stdout.contains("burst          5\n") && told.stdout.contains("has stored     1.0 MiB"),
        "{}",
        told.stdout
    );

    let missing = problem("404 Not Found", "tenant-not-found", "there is no tenant acme");
    let told = against(vec![missing, ok(tenant)], &["tenants", "set", "acme", "--models", "all"]);
    assert_eq!((told.exit, body(&told.asked[1])), (Some(0), r#"{"settings":{}}"#), "{}", told.stderr);
    let refused = problem("403 Forbidden", "forbidden", "no");
    assert_eq!(against(vec![refused], &["tenants", "set", "acme"]).exit, Some(3));

    let told = against(vec![ok(&format!(r#"{{"tenants":[{tenant}]}}"#))], &["tenants"]);
    assert!(told.stdout.contains("acme    2       m       1          1.0 MiB  2     burst 5"), "{}", told.stdout);
    let told = against(vec![Answer::Json("204 No Content", String::new())], &["tenants", "remove", "acme"]);
    assert_eq!(told.stdout, "acme is gone\n", "{}", told.stderr);
    assert!(told.asked[0].starts_with("DELETE /admin/v1/tenants/acme HTTP/1.1\r\n"), "{}", told.asked[0]);
}

#[test]
fn a_new_key_is_alone_on_standard_output() {
    let made =
        r#"{"id":"7f3a","key":"tnk_secret","name":"ci","scopes":["deploy"],"created_ms":1,"expires_ms":1784980803123}"#;
    let create = ["keys", "acme", "create", "--name", "ci", "--scope", "deploy", "--expires", "90d"];
    let told = against(vec![Answer::Json("201 Created", made.into())], &create);
    assert_eq!((told.exit, &told.stdout[..]), (Some(0), "tnk_secret\n"), "{}", told.stderr);
    assert!(told.stderr.contains("key 7f3a (ci) of acme: deploy, ends 2026-07-25"), "{}", told.stderr);
    assert!(told.stderr.contains("warning: this is the only time") && !told.stderr.contains("tnk_"), "{}", told.stderr);
    assert_eq!(body(&told.asked[0]), r#"{"expires_in_s":7776000,"name":"ci","scopes":["deploy"]}"#);

    let told = against(
        vec![Answer::Json("201 Created", made.into())],
        &["keys", "--operator", "rotate", "7f3a", "--grace", "1h"],
    );
    assert!(told.asked[0].starts_with("POST /admin/v1/keys/7f3a/rotate "), "{}", told.asked[0]);
    assert_eq!(body(&told.asked[0]), r#"{"grace_s":3600}"#);
    let told =
        against(vec![Answer::Json("204 No Content", String::new())], &["keys", "acme", "revoke", "7f3a", "--json"]);
    assert_eq!(told.stdout, "{\"id\":\"7f3a\",\"revoked\":true}\n", "{}", told.stderr);
    let told = against(
        vec![ok(r#"{"keys":[{"id":"7f3a","name":"ci","scopes":["deploy"],"created_ms":0}]}"#)],
        &["keys", "acme"],
    );
    assert!(told.stdout.contains("7f3a  ci    deploy  1970-01-01T00:00:00Z  never"), "{}", told.stdout);
    // Whom to ask may stand anywhere.
    let nobody = tenon(&["keys", "acme", "list", "--control", "127.0.0.1:1", "--data", "/nonexistent"]);
    assert_eq!({ nobody }.output().unwrap().status.code(), Some(6));
    for wrong in [&["keys"][..], &["keys", "list"], &["keys", "acme", "--operator"]] {
        assert_eq!(tenon(wrong).output().unwrap().status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_log_is_shown_as_it_comes_and_says_where_it_broke() {
    let lines = "{\"at_ms\":1784980803123,\"level\":\"info\",\"kind\":\"log\",\"revision\":3,\"invocation\":\"i-1\",\"text\":\"hello\"}\n\n\
        {\"at_ms\":1784980803124,\"level\":\"error\",\"kind\":\"trap\",\"revision\":3,\"invocation\":\"i-2\",\"text\":\"unreachable\",\
        \"backtrace\":\"0: f\"}\n";
    let told = against(vec![Answer::Lines(lines)], &["logs", "a/f", "-f", "--tail", "5"]);
    let expected = "2026-07-25T12:00:03.123Z info  r3 i-1 hello\n\
        2026-07-25T12:00:03.124Z trap  r3 i-2 unreachable\n    0: f\n";
    assert_eq!((told.exit, &told.stdout[..]), (Some(6), expected), "{}", told.stderr);
    assert!(told.stderr.contains("the log of a/f ends here"), "{}", told.stderr);
    assert!(told.asked[0].starts_with("GET /admin/v1/functions/a/f/logs?follow=true&tail=5 "), "{}", told.asked[0]);
    for (code, exit) in [("draining", 0), ("function-not-found", 0), ("forbidden", 3)] {
        let end = format!(
            "{{\"at_ms\":1784980803123,\"level\":\"warn\",\"kind\":\"end\",\"text\":\"over\",\"code\":\"{code}\"}}\n"
        );
        let told = against(vec![Answer::All(end)], &["logs", "a/f", "-f"]);
        assert_eq!((told.exit, &told.stdout[..]), (Some(exit), "2026-07-25T12:00:03.123Z warn  - - over\n"), "{code}");
    }
    let told = against(vec![Answer::All("\n".into())], &["logs", "a/f", "-f"]);
    assert_eq!(told.exit, Some(6), "nobody said why it ends");
    let told = against(vec![problem("404 Not Found", "function-not-found", "no a/f")], &["logs", "a/f"]);
    assert_eq!(told.exit, Some(3));
    assert!(told.stderr.contains("no a/f"), "{}", told.stderr);
}

#[test]
fn a_key_of_the_environment_goes_before_the_token() {
    let mut command = tenon(&["drain"]);
    command.env("TENON_KEY", "tnk_1").env("TENON_ADMIN_TOKEN", "operators-word");
    let told = with(vec![ok(r#"{"draining":true}"#)], &mut command);
    assert!(told.asked[0].contains("uthorization: Bearer tnk_1\r\n"), "{}", told.asked[0]);
    assert!(told.stdout.contains("drains: it takes nothing new"), "{}", told.stderr);
    let told = with(vec![problem("401 Unauthorized", "unauthenticated", "no")], &mut command);
    assert!(told.stderr.contains("TENON_KEY") && !told.stderr.contains("tnk_1"), "{}", told.stderr);
    // On the data plane, too, unless the caller says otherwise.
    let invoke = ["invoke", "a/f", "--data", "x"];
    let told = with(vec![ok("{}")], tenon(&invoke).env("TENON_KEY", "tnk_1"));
    assert!(told.asked[0].contains("uthorization: Bearer tnk_1\r\n"), "{}", told.asked[0]);
    let own = [&invoke[..], &["-H", "authorization: Bearer mine"]].concat();
    let told = with(vec![ok("{}")], tenon(&own).env("TENON_KEY", "tnk_1"));
    assert!(!told.asked[0].contains("tnk_1"), "{}", told.asked[0]);
    let told = with(vec![ok(r#"{"models":[]}"#)], tenon(&["models"]).env("TENON_KEY", "tnk_1"));
    assert!(told.asked[0].contains("Bearer tnk_1"), "{}", told.asked[0]);
}
