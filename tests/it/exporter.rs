//! A collector that is gone, refuses, is overloaded or never answers: requests do not notice, nothing piles up, and what
//! is lost is counted.

use std::time::Duration;

use futures_util::future::join_all;
use tenon_host::telemetry::Protocol;

use crate::{
    collector::{Collector, Mood},
    support::{Served, TestHost, eventually},
};

/// Messages with spans that did not get through.
const FAILED: &str = "tenon_otlp_messages_total{outcome=\"failed\",signal=\"spans\"}";

async fn host(collector: &Collector) -> Served {
    TestHost::new().functions(&["empty"]).config(|config| collector.configure(config)).start().await
}

async fn calls(host: &Served, count: usize) {
    const AT_ONCE: usize = 32;
    for _ in 0..count.div_ceil(AT_ONCE) {
        let answers = join_all((0..AT_ONCE).map(|_| host.call("empty", "{}"))).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
    }
}

fn spans(host: &Served, outcome: &str) -> f64 {
    host.metric(&format!("tenon_otlp_spans_total{{outcome=\"{outcome}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_wait_for_a_collector_that_is_away_for_a_while() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        // A port that nobody listens on yet: a collector that ends would still take what comes over open connections.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let host = TestHost::new().functions(&["empty"]);
        let host = host.config(|config| Collector::expect_at(address, protocol, config)).start().await;
        calls(&host, 32).await;
        eventually("they were sent in vain", async || host.metric(FAILED) > 0.0).await;
        let mut back = None;
        eventually("the port is free again", async || {
            back = match tokio::net::TcpListener::bind(address).await {
                Ok(free) => {
                    drop(free);
                    Some(Collector::start_at(protocol, &address.to_string()).await)
                }
                Err(_) => None,
            };
            back.is_some()
        })
        .await;
        let back = back.unwrap();
        eventually("they arrive", async || back.spans("invoke").len() == 32).await;
        eventually("and are counted", async || spans(&host, "sent") >= 32.0).await;
        assert_eq!((spans(&host, "dropped"), spans(&host, "refused")), (0.0, 0.0));
        host.host.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_collector_gets_them_later_and_a_refusing_one_never() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let collector = Collector::start(protocol).await;
        collector.is_now(Mood::Overloaded);
        let host = host(&collector).await;
        calls(&host, 32).await;
        eventually("it was tried", async || host.metric(FAILED) > 0.0).await;
        collector.is_now(Mood::Takes);
        eventually("they arrive", async || collector.spans("invoke").len() == 32).await;
        assert_eq!(spans(&host, "refused"), 0.0);
        collector.is_now(Mood::Refuses);
        calls(&host, 32).await;
        let each = spans(&host, "sent") / 32.0;
        eventually("they are refused", async || spans(&host, "refused") == each * 32.0).await;
        collector.is_now(Mood::RejectsOne);
        calls(&host, 32).await;
        eventually("one is refused", async || spans(&host, "refused") > each * 32.0).await;
        host.host.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_up_nobody() {
    let collector = Collector::start(Protocol::Grpc).await;
    collector.is_now(Mood::Hangs);
    let host = host(&collector).await;
    // More than the queue holds while the first message is on its way.
    calls(&host, 4000).await;
    eventually("some are dropped", async || spans(&host, "dropped") > 0.0).await;
    let telemetry = host.host.telemetry().clone();
    let begun = std::time::Instant::now();
    host.host.drain().await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(
        telemetry.text().contains("tenon_invocations_total{function=\"empty\",outcome=\"ok\",tenant=\"test\"} 4000")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_sends_what_there_is() {
    let collector = Collector::start(Protocol::Http).await;
    let slowly = TestHost::new().functions(&["empty"]).config(|config| {
        collector.configure(config);
        // Never, but for the drain.
        config.telemetry.otlp_interval_ms = 600_000;
    });
    let host = slowly.start().await;
    calls(&host, 32).await;
    assert_eq!(collector.received().requests, 0);
    host.host.drain().await;
    assert_eq!(collector.spans("invoke").len(), 32);
    assert!(collector.received().metrics.iter().any(|metric| metric.name == "tenon_invocations_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_at_the_end_is_counted() {
    const CALLS: usize = 32;
    // The invocation, its body and two stages; where a guest waited for its turn there is one more.
    const SPANS: usize = 4;
    for mood in [Mood::Hangs, Mood::Overloaded] {
        let collector = Collector::start(Protocol::Http).await;
        collector.is_now(mood);
        let host = host(&collector).await;
        calls(&host, CALLS).await;
        eventually("they are on their way", async || collector.received().requests > 0).await;
        let telemetry = host.host.telemetry().clone();
        host.host.drain().await;
        let text = telemetry.text();
        let dropped = text.lines().find_map(|line| line.strip_prefix("tenon_otlp_spans_total{outcome=\"dropped\"} "));
        let dropped: usize = dropped.unwrap().parse().unwrap();
        assert!(dropped >= SPANS * CALLS, "{dropped} spans of {CALLS} calls");
    }
}
