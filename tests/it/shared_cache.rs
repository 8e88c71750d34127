//! Hosts that share a Redis, and what its faults come to: a miss and a counter, never a failed request.

use std::time::{Duration, Instant};

use crate::{
    redis::Redis,
    remembered::{keeper, stamp},
    support::{Answer, Served, TestHost, eventually},
};

fn with(redis: &Redis) -> TestHost {
    let cache = "[cache]\nkey = \"request\"\nttl_s = 60\nrows = \"input\"\n[limits]";
    let test = keeper().changed_function("keeper", &[("[limits]", cache)]);
    test.config(|config| redis.configure(config))
}

async fn say(host: &Served, body: &str) -> Answer {
    let answer = host.call("keeper/say", body.to_owned()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn how(answer: &Answer) -> &str {
    answer.header("x-tenon-cache")
}

/// Values in Redis.
fn kept(redis: &Redis) -> usize {
    redis.ask("KEYS tenon:v:*").matches("tenon:v:").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_and_one_that_starts_anew_know_what_was_computed() {
    let Some(redis) = Redis::start() else { return };
    let (first, second) = (with(&redis).start().await, with(&redis).start().await);
    let computed = say(&first, "a").await;
    eventually("it is written", async || kept(&redis) == 1).await;
    for host in [&second, &with(&redis).start().await] {
        let hit = say(host, "a").await;
        assert_eq!((how(&hit), stamp(&hit)), ("hit", stamp(&computed)));
        // What came from Redis is in memory now.
        assert_eq!(stamp(&say(host, "a").await), stamp(&computed));
    }
    // Rows, too.
    let rows = async |host: &Served| host.call("keeper/numbers?x=1", "[1, 2, 3]").await;
    rows(&first).await;
    eventually("rows are written", async || kept(&redis) == 5).await;
    let known = second.call("keeper/numbers?x=2", "[3, 2, 9]").await;
    assert_eq!((how(&known), known.json()["y"].clone()), ("partial", serde_json::json!([3.0, 2.0, 9.0])));
    first.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_redis_is_not_trusted() {
    let Some(redis) = Redis::start() else { return };
    let host = with(&redis).start().await;
    let computed = say(&host, "a").await;
    eventually("it is written", async || kept(&redis) == 1).await;
    let keys = redis.ask("KEYS tenon:v:*");
    let key = keys.lines().find(|line| line.starts_with("tenon:v:")).unwrap().trim();
    for poison in [format!("SETRANGE {key} 300 xxxx"), format!("SET {key} garbage"), format!("SET {key} \"\"")] {
        redis.ask(&poison);
        let fresh = with(&redis).start().await;
        let answer = say(&fresh, "a").await;
        assert_eq!(how(&answer), "miss", "{poison}");
        assert_ne!(stamp(&answer), stamp(&computed), "{poison}");
        eventually("it is overwritten", async || {
            let again = with(&redis).start().await;
            how(&say(&again, "a").await) == "hit"
        })
        .await;
    }
    redis.ask(&format!("DEL {key}"));
    redis.ask(&format!("LPUSH {key} 1"));
    assert_eq!(how(&say(&with(&redis).start().await, "a").await), "miss", "another type");
}

/// Asks for known and unknown things, each of which must be answered; the longest that one took.
async fn load(host: &Served, round: &str, count: usize) -> Duration {
    let mut longest = Duration::ZERO;
    for number in 0..count {
        let start = Instant::now();
        say(host, &format!("{round} {}", number % 20)).await;
        longest = longest.max(start.elapsed());
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_of_redis_fails_a_request() {
    let Some(mut redis) = Redis::start() else { return };
    let host = with(&redis).start().await;
    let recovers = async |host: &Served, redis: &Redis, what: &str| {
        let before = kept(redis);
        let start = Instant::now();
        let mut number = 0;
        while kept(redis) == before {
            say(host, &format!("after {what} {number}")).await;
            number += 1;
            assert!(start.elapsed() < Duration::from_secs(5), "nothing is written after {what}");
        }
    };
    load(&host, "before", 40).await;
    redis.signal("STOP");
    let longest = load(&host, "stopped", 200).await;
    redis.signal("CONT");
    // A lookup waits 5 ms; the rest is a machine that has other things to do.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    recovers(&host, &redis, "a stop").await;
    redis.ask("CLIENT PAUSE 700 ALL");
    load(&host, "paused", 200).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    recovers(&host, &redis, "a pause").await;
    redis.ask("CONFIG SET maxmemory 1");
    load(&host, "full", 100).await;
    redis.ask("CONFIG SET maxmemory 0");
    recovers(&host, &redis, "it was full").await;
    redis.kill();
    load(&host, "gone", 200).await;
    redis.again();
    recovers(&host, &redis, "it was gone").await;
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_starts_without_its_redis() {
    let Some(mut redis) = Redis::start() else { return };
    redis.kill();
    let host = with(&redis).start().await;
    assert_eq!(how(&say(&host, "a").await), "miss");
    assert_eq!(how(&say(&host, "a").await), "hit", "from memory");
    redis.again();
    let mut number = 0;
    eventually("it is used", async || {
        number += 1;
        say(&host, &format!("b{number}")).await;
        kept(&redis) > 0
    })
    .await;
}
