//! `tenon cache`: what is asked, and what is shown of the answer.

use super::{
    body,
    server::{against, ok, problem, tenon},
};

const STATS: &str = r#"{"memory":{"hits":6,"misses":4,"stale":0,"errors":0,"hit_ratio":0.6,"bytes":2048,"entries":3,"limit_bytes":4096},
    "redis":{"state":"up","hits":1,"misses":3,"stale":0,"errors":0,"hit_ratio":0.25,"bytes":1024,"dealings":{"queue_entries":2}},
    "stored":3,"dropped":{"too_large":1,"quota":0,"queue":0,"void":0},"invalidated_scopes":0,"saved_s":1.5,
    "functions":[{"tenant":"a","function":"f","lookups":10,"memory_hits":6,"redis_hits":1,"stale":0,"redis_stale":0,
        "coalesced":0,"bypassed":0,"rows_asked":0,"rows_known":0,"saved_us":1500000,"stored":3,"dropped":1,"hit_ratio":0.7}]}"#;

#[test]
fn figures_are_tables() {
    let told = against(vec![ok(STATS)], &["cache", "stats"]);
    let expected = "TIER    HITS  MISSES  STALE  ERRORS  HIT RATE  HOLDS\n\
        memory  6     4       0      0       60 %      2.0 KiB in 3\n\
        redis   1     3       0      0       25 %      1.0 KiB\n\n\
        FUNCTION  LOOKUPS  MEMORY  REDIS  STALE  COALESCED  BYPASSED  HIT RATE  ROWS KNOWN  SAVED\n\
        a/f       10       6       1      0      0          0         70 %      -           1.5 s\n\n\
        1.5 s on models were saved\nRedis answers; 2 writes wait\nnot kept: 1 too large\n";
    assert_eq!((told.exit, &told.stdout[..]), (Some(0), expected), "{}", told.stderr);
    assert!(told.asked[0].starts_with("GET /admin/v1/cache/stats HTTP/1.1\r\n"), "{}", told.asked[0]);
    let told = against(vec![ok(r#"{"saved_s":0,"functions":[]}"#)], &["cache", "stats", "--tenant", "a"]);
    assert!(told.asked[0].starts_with("GET /admin/v1/cache/stats?tenant=a HTTP/1.1\r\n"), "{}", told.asked[0]);
    assert!(told.stdout.starts_with("no function has asked yet") && !told.stdout.contains("TIER"), "{}", told.stdout);
    let told = against(vec![ok(STATS)], &["cache", "stats", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&told.stdout).unwrap()["memory"]["hits"], 6);
}

#[test]
fn an_invalidation_says_where_it_holds() {
    let done = ok(r#"{"seq":17,"everywhere":true,"scopes":2,"redis":"up"}"#);
    let told = against(vec![done], &["cache", "invalidate", "--tenant", "a", "--tag", "x", "--tag", "y"]);
    let expected = "what a tagged x or y is void on all hosts that share this Redis (number 17)\n";
    assert_eq!((told.exit, &told.stdout[..]), (Some(0), expected), "{}", told.stderr);
    assert!(told.asked[0].starts_with("POST /admin/v1/cache/invalidate HTTP/1.1\r\n"), "{}", told.asked[0]);
    assert_eq!(body(&told.asked[0]), r#"{"tags":["x","y"],"tenant":"a"}"#);
    let down = ok(r#"{"seq":3,"everywhere":false,"scopes":1,"redis":"down"}"#);
    let told = against(vec![down], &["cache", "invalidate", "--model", "minilm@3"]);
    assert_eq!((told.exit, body(&told.asked[0])), (Some(0), r#"{"model":"minilm","version":3}"#));
    assert!(
        told.stdout.contains("minilm@3 is void on this host") && told.stderr.contains("warning"),
        "{}",
        told.stderr
    );
    let refused = problem("403 Forbidden", "forbidden", "its own tenant alone");
    let told = against(vec![refused], &["cache", "invalidate", "--everything"]);
    assert_eq!(told.exit, Some(3));
    assert!(told.stderr.contains("403 forbidden") && told.stderr.contains("hint: "), "{}", told.stderr);
    for wrong in [&["cache"][..], &["cache", "invalidate"], &["cache", "invalidate", "--function", "f"]] {
        assert_eq!(tenon(wrong).output().unwrap().status.code(), Some(2), "{wrong:?}");
    }
}
