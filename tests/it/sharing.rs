//! Tenants that want all of the host get their shares of it: of the processor by weight, of places so that some are left.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::{
    raw::Raw,
    support::{Served, TestHost, rewrite},
};

/// The probe as a function of each of these tenants.
fn probes(tenants: &[&str]) -> TestHost {
    let mut test = TestHost::new().probe();
    for tenant in tenants {
        test = test.function_as(tenant, "probe", "probe");
        // Short invocations, so that what is counted at their ends lags little behind.
        let file = test.folder().join("functions").join(tenant).join("probe/function.toml");
        rewrite(&file, &[("cpu_ms = 500", "cpu_ms = 30")]);
    }
    test
}

fn cpu_seconds(host: &Served, tenant: &str) -> f64 {
    let line = |kind| format!("tenon_cpu_seconds_total{{function=\"probe\",kind=\"{kind}\",tenant=\"{tenant}\"}}");
    host.metric(&line("guest")) + host.metric(&line("host_call"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processor_is_shared_by_weight() {
    const AT_ONCE: usize = 5;
    let change = |config: &mut tenon_host::config::Config| {
        config.threads.guests = 1;
        for (tenant, weight) in [("one", 1.0), ("three", 3.0)] {
            config.tenants.entry(tenant.into()).or_default().weight = weight;
        }
    };
    let host = probes(&["one", "three"]).config(change).start().await;
    let until = Instant::now() + Duration::from_secs(3);
    let looping = |tenant: &'static str| {
        let host = &host;
        async move {
            while Instant::now() < until {
                let answer = host.post(&format!("/v1/functions/{tenant}/probe/loop/preprocess"), "").await;
                answer.is_problem(504, "plugin-deadline");
            }
        }
    };
    join_all(["one", "three"].into_iter().flat_map(|tenant| (0..AT_ONCE).map(move |_| tenant)).map(looping)).await;
    host.all_back_to_zero().await;
    let (one, three) = (cpu_seconds(&host, "one"), cpu_seconds(&host, "three"));
    assert!((1.6..5.0).contains(&(three / one)), "{one} s and {three} s");
    // Who has the smaller share waits more, and waiting is no processor time: all of it was on one thread.
    let waited = |tenant: &str| host.metric(&format!("tenon_gate_wait_seconds_sum{{tenant=\"{tenant}\"}}"));
    assert!(waited("one") > 1.0, "{} s", waited("one"));
    assert!(one + three < 2.0 * 3.0 + 1.0, "{one} s and {three} s on one thread");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tenant_takes_the_last_places() {
    let test = probes(&["greedy", "late"]).config(|config| config.sandbox.max_instances = 18);
    let host = test.start().await;
    let upload = async |tenant: &str| {
        let head = format!("POST /v1/functions/{tenant}/probe/echo HTTP/1.1\r\ncontent-length: 10");
        Raw::begin(&host, &head, b"01234").await
    };
    // 16 of 18; then 8 times the 2 that are free is no more than what it has.
    let mut held = Vec::new();
    for number in 1..=16 {
        held.push(upload("greedy").await);
        host.in_flight(number).await;
    }
    let refused = host.post("/v1/functions/greedy/probe/state", "").await;
    let detail = refused.is_problem(429, "concurrency-limit")["detail"].to_string();
    assert!(detail.contains("this tenant has 16 invocations in progress"), "{detail}");
    assert_eq!(refused.header("retry-after"), "1");
    held.push(upload("late").await);
    host.in_flight(17).await;
    assert_eq!(host.post("/v1/functions/late/probe/state", "").await.status, 200);
    // What is given back may be taken again, by whoever held it, too.
    held.truncate(14);
    host.in_flight(14).await;
    assert_eq!(host.post("/v1/functions/greedy/probe/state", "").await.status, 200);
    drop(held);
    host.all_back_to_zero().await;
}
