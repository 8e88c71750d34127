//! What settings may be.

use super::*;

fn with(change: impl FnOnce(&mut Config)) -> Result<(), String> {
    let mut config = Config::default();
    change(&mut config);
    config.validate()
}

#[test]
fn defaults_are_right() {
    Config::default().validate().unwrap();
    assert_eq!(Config::default().memory_bytes, 268_435_456);
}

#[test]
fn addresses_of_redis() {
    for url in [
        "redis://localhost",
        "redis://127.0.0.1:6379/2",
        "rediss://cache.internal:6380",
        "redis+cluster://a:7000,b:7000",
        "redis://[::1]:6379",
    ] {
        assert_eq!(with(|config| config.redis_url = Some(url.into())), Ok(()), "{url}");
    }
    for (url, wrong) in [
        ("http://localhost", "must begin with"),
        ("localhost:6379", "must begin with"),
        ("redis://", "names no host"),
        ("redis://:6379", "names no host"),
        ("redis://a,b", "several nodes"),
        ("redis+cluster://a,,b", "names no host"),
    ] {
        let error = with(|config| config.redis_url = Some(url.into())).unwrap_err();
        assert!(error.starts_with("cache.redis_url") && error.contains(wrong), "{url}: {error}");
    }
}

#[test]
fn an_address_with_a_secret_is_refused_without_telling_it() {
    for url in
        ["redis://:hunter2@host", "redis://me:hunter2@host", "rediss://a:hunter2/x@host", "redis://h/?password=hunter2"]
    {
        let error = with(|config| config.redis_url = Some(url.into())).unwrap_err();
        assert!(error.contains("cache.redis_password_file") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_belongs_to_redis_needs_redis() {
    let password = with(|config| config.redis_password_file = Some("p".into())).unwrap_err();
    assert!(password.contains("need cache.redis_url"), "{password}");
    let ca = with(|config| {
        config.redis_url = Some("redis://host".into());
        config.redis_ca_file = Some("ca.pem".into());
    });
    assert!(ca.unwrap_err().starts_with("cache.redis_ca_file"));
    let user = with(|config| {
        config.redis_url = Some("redis://host".into());
        config.redis_user = Some("me".into());
    });
    assert!(user.unwrap_err().starts_with("cache.redis_user"));
}

#[test]
fn ranges_and_prefixes() {
    assert_eq!(with(|config| config.memory_bytes = 0), Ok(()), "no memory is a choice");
    type Change = fn(&mut Config);
    let wrong: [(&str, Change); 6] = [
        ("cache.max_entry_bytes", |config| config.max_entry_bytes = 0),
        ("cache.max_ttl_s", |config| config.max_ttl_s = 0),
        ("cache.lookup_timeout_ms", |config| config.lookup_timeout_ms = 0),
        ("cache.breaker_failures", |config| config.breaker_failures = 0),
        ("cache.redis_prefix", |config| config.redis_prefix = String::new()),
        ("cache.redis_prefix", |config| config.redis_prefix = "a{b}".into()),
    ];
    for (name, change) in wrong {
        let error = with(change).unwrap_err();
        assert!(error.starts_with(name), "{error}");
    }
}
