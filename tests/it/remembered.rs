//! Answers that are remembered: by policies of `function.toml` and of plugins, fresh and stale, and while they are
//! computed. Every computed answer of the plugin `keeper` carries a stamp of its own.

use std::time::Duration;

use futures_util::future::join_all;

use crate::support::{Answer, Served, TestHost, eventually};

const TOP: &str = "component = \"keeper.wasm\"";

/// A host whose keeper has this in its `function.toml`.
fn with(cache: &str) -> TestHost {
    keeper().changed_function("keeper", &[("[limits]", &format!("[cache]\n{cache}\n[limits]"))])
}

pub fn keeper() -> TestHost {
    TestHost::new().models(&["identity", "ragged-identity", "slow"]).functions(&["keeper"])
}

/// Asks with a header that decides how it ends.
async fn told(host: &Served, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
    let url = format!("{}/v1/functions/test/keeper{path}", host.base);
    let mut request = host.client.post(url).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.unwrap()).await
}

async fn say(host: &Served, query: &str, body: &str) -> (String, String) {
    let answer = told(host, &format!("/say{query}"), body, &[]).await;
    assert_eq!((answer.status, &answer.json()["said"]), (200, &body.into()), "{}", answer.text());
    (answer.header("x-tenon-cache").to_owned(), stamp(&answer))
}

pub fn stamp(answer: &Answer) -> String {
    answer.json()["stamp"].as_str().unwrap().to_owned()
}

fn how(answer: &Answer) -> &str {
    answer.header("x-tenon-cache")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stated_policy_answers_without_a_guest() {
    let host = with("key = \"request\"\nttl_s = 60\nheaders = [\"Accept-Language\"]").start().await;
    let (first, stamped) = say(&host, "", "a").await;
    let guest = || host.sum("tenon_cpu_seconds_total{function=\"keeper\",kind=\"guest\"");
    let before = guest();
    assert_eq!((first.as_str(), say(&host, "", "a").await), ("miss", ("hit".into(), stamped.clone())));
    assert!(before > 0.0 && guest() == before, "a hit runs nothing");
    // What differs is not the same; what was not named does not make a difference.
    for (query, body) in [("", "b"), ("?x=1", "a"), ("?x=1&y=2", "a")] {
        assert_eq!(say(&host, query, body).await.0, "miss", "{query} {body}");
    }
    for (header, expected) in [("accept-language", "miss"), ("accept", "hit"), ("authorization", "hit")] {
        assert_eq!(how(&told(&host, "/say", "a", &[(header, "x")]).await), expected, "{header}");
    }
    assert_eq!(how(&told(&host, "/say", "a", &[("accept-language", "x")]).await), "hit");
    let other = told(&host, "/slow", "a", &[]).await;
    assert_eq!((how(&other), other.status), ("miss", 200), "the path");
    assert!(other.header("server-timing").starts_with("cache;dur="), "{}", other.header("server-timing"));
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_says_what_is_the_same() {
    let host = keeper().start().await;
    // Nothing said is nothing remembered.
    assert_eq!((say(&host, "", "a").await.0, say(&host, "", "a").await.0), ("bypass".into(), "bypass".into()));
    let (first, stamped) = say(&host, "?ttl=60000", "a").await;
    assert_eq!((first.as_str(), say(&host, "?ttl=60000", "a").await), ("miss", ("hit".into(), stamped)));
    assert_eq!(say(&host, "?ttl=60000&bypass=1", "a").await.0, "bypass");
    // Where the plugin names the material, nothing else counts, and its parts are kept apart.
    let key = |query: &str| told_key(&host, query.to_owned());
    assert_eq!(key("ttl=60000&key=ab&key=c").await, "miss");
    assert_eq!(key("ttl=60001&key=ab&key=c&x=1").await, "hit");
    assert_eq!((key("ttl=60000&key=a&key=bc").await, key("ttl=60000&key=abc").await), ("miss".into(), "miss".into()));
    let path = "/say?ttl=60000&key=lang&header=Accept-Language";
    for (value, expected) in [("de", "miss"), ("en", "miss"), ("de", "hit")] {
        assert_eq!(how(&told(&host, path, "", &[("accept-language", value)]).await), expected, "{value}");
    }
    told(&host, "/say?policy=trap", "", &[]).await.is_problem(502, "plugin-trap");
    assert_eq!(told(&host, "/say?ttl=1&tag=t", "", &[]).await.status, 200);
    for wrong in ["header=a%20b", "header=Authorization", "tag=", "class=%0a"] {
        told(&host, &format!("/say?ttl=1&{wrong}"), "", &[]).await.is_problem(502, "plugin-contract");
    }
    let tags: String = (0..17).map(|tag| format!("&tag={tag}")).collect();
    told(&host, &format!("/say?ttl=1{tags}"), "", &[]).await.is_problem(502, "plugin-contract");
    host.all_back_to_zero().await;
}

async fn told_key(host: &Served, query: String) -> String {
    how(&told(host, &format!("/say?{query}"), "x", &[]).await).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_manifest_and_the_host_cap() {
    let host = with("max_ttl_s = 1").config(|config| config.cache.max_ttl_s = 60).start().await;
    assert_eq!(
        (say(&host, "?ttl=3600000", "a").await.0, say(&host, "?ttl=3600000", "a").await.0.as_str()),
        ("miss".into(), "hit")
    );
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(say(&host, "?ttl=3600000", "a").await.0, "miss");
    let off = with("key = \"none\"").start().await;
    assert_eq!(
        (say(&off, "?ttl=60000", "a").await.0, say(&off, "?ttl=60000", "a").await.0.as_str()),
        ("bypass".into(), "bypass")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_answer_is_given_while_it_is_computed_again() {
    let host = keeper().start().await;
    let query = "?ttl=1500&while=60000";
    let (_, first) = say(&host, query, "a").await;
    assert_eq!(say(&host, query, "a").await, ("hit".into(), first.clone()));
    tokio::time::sleep(Duration::from_millis(1550)).await;
    assert_eq!(say(&host, query, "a").await, ("stale".into(), first.clone()));
    eventually("a new answer is there", async || say(&host, query, "a").await.1 != first).await;
    // Computing fails: the old one is given still.
    let path = format!("/say{query}");
    tokio::time::sleep(Duration::from_millis(1550)).await;
    let answer = told(&host, &path, "a", &[("x-do", "trap")]).await;
    assert_eq!((answer.status, how(&answer)), (200, "stale"));
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_answer_is_given_where_computing_fails() {
    let host = keeper().start().await;
    let path = "/say?ttl=200&error=60000";
    let first = stamp(&told(&host, path, "a", &[]).await);
    tokio::time::sleep(Duration::from_millis(250)).await;
    let failed = told(&host, path, "a", &[("x-do", "trap")]).await;
    assert_eq!((failed.status, how(&failed), stamp(&failed)), (200, "stale", first.clone()));
    // A refusal is an answer, and nothing that fails.
    assert_eq!(told(&host, path, "a", &[("x-do", "refuse")]).await.status, 422);
    let again = told(&host, path, "a", &[]).await;
    assert_eq!(how(&again), "miss");
    assert_ne!(stamp(&again), first);
    told(&host, "/say?ttl=200", "b", &[("x-do", "trap")]).await.is_problem(502, "plugin-trap");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_remembered_where_the_policy_says_so() {
    let host = keeper().start().await;
    let refuse = async |query: &str| {
        let answer = told(&host, &format!("/refuse{query}"), "a", &[]).await;
        let problem = answer.is_problem(422, "told-to");
        (how(&answer).to_owned(), problem["detail"].as_str().unwrap().to_owned())
    };
    for query in ["?ttl=60000", "?ttl=60000&error=60000"] {
        assert_ne!(refuse(query).await.1, refuse(query).await.1, "{query}");
    }
    let (first, detail) = refuse("?negative=60000").await;
    assert_eq!((first.as_str(), refuse("?negative=60000").await), ("miss", ("hit".into(), detail)));
    // And answers are not where it says only that.
    let say = async || told(&host, "/say?negative=60000", "a", &[]).await;
    assert_ne!(stamp(&say().await), stamp(&say().await));
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_in_progress_are_one() {
    let host = keeper().config(|config| config.sandbox.max_instances = 400).start().await;
    told(&host, "/slow?ttl=60000", "first", &[]).await;
    let before = host.batches("slow");
    let answers = join_all((0..100).map(|_| told(&host, "/slow?ttl=60000", "a", &[]))).await;
    let stamps: std::collections::BTreeSet<_> = answers.iter().map(stamp).collect();
    assert_eq!((stamps.len(), host.batches("slow") - before), (1, 1.0));
    let waited = answers.iter().filter(|answer| how(answer) == "coalesced").count();
    let led = answers.iter().filter(|answer| how(answer) == "miss").count();
    assert_eq!(led, 1);
    assert!(waited > 50, "{waited} of 99 waited");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_takes_over_from_a_lead_that_leaves() {
    let host = keeper().start().await;
    told(&host, "/slow?ttl=60000", "first", &[]).await;
    for patience_ms in [5, 40, 90] {
        let (before, body) = (host.batches("slow"), format!("{patience_ms}"));
        let url = format!("{}/v1/functions/test/keeper/slow?ttl=60000", host.base);
        let lead = host.client.post(url).body(body.clone()).timeout(Duration::from_millis(patience_ms)).send();
        let followers = async {
            // After the lead has joined, which a body that was read comes before.
            tokio::time::sleep(Duration::from_millis(3)).await;
            join_all((0..20).map(|_| told(&host, "/slow?ttl=60000", &body, &[]))).await
        };
        let (left, answers) = tokio::join!(lead, followers);
        assert!(left.is_err(), "it was to leave");
        let stamps: std::collections::BTreeSet<_> = answers.iter().map(stamp).collect();
        assert_eq!(stamps.len(), 1, "after {patience_ms} ms");
        // The lead's own, if it was on the lane already, and exactly one more.
        let ran = host.batches("slow") - before;
        assert!((1.0..=2.0).contains(&ran), "{ran} after {patience_ms} ms");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lead_that_fails_hands_over_and_deadlines_are_each_ones_own() {
    let host = keeper().start().await;
    told(&host, "/slow?ttl=60000", "first", &[]).await;
    let path = "/slow?ttl=60000&key=k";
    // A deadline that is too short for the model: its caller alone is told so.
    let short = told(&host, path, "a", &[("x-tenon-timeout-ms", "100")]);
    let others = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let impatient = told(&host, path, "a", &[("x-tenon-timeout-ms", "40")]);
        tokio::join!(impatient, join_all((0..5).map(|_| told(&host, path, "a", &[]))))
    };
    let (short, (impatient, patient)) = tokio::join!(short, others);
    short.is_problem(504, "deadline-exceeded");
    impatient.is_problem(504, "deadline-exceeded");
    assert!(patient.iter().all(|answer| answer.status == 200));
    let stamps: std::collections::BTreeSet<_> = patient.iter().map(stamp).collect();
    assert_eq!(stamps.len(), 1);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_needs_no_place_of_the_function() {
    let host = with("key = \"request\"\nttl_s = 60")
        .changed_function("keeper", &[("[limits]", "[limits]\nmax_concurrency = 1")])
        .start()
        .await;
    let known = stamp(&told(&host, "/say", "a", &[]).await);
    let busy = tokio::spawn({
        let request = host.client.post(format!("{}/v1/functions/test/keeper/slow", host.base));
        async move { request.send().await.unwrap().status().as_u16() }
    });
    eventually("the place is taken", async || {
        told(&host, "/say", &uuid(), &[]).await.status == 429 || busy.is_finished()
    })
    .await;
    assert_eq!(stamp(&told(&host, "/say", "a", &[]).await), known);
    assert_eq!(busy.await.unwrap(), 200);
    host.all_back_to_zero().await;
}

fn uuid() -> String {
    format!("{:?}", std::time::Instant::now())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_revision_knows_nothing_unless_they_share_a_class() {
    let host = keeper().start().await;
    let before = [say(&host, "?ttl=60000", "a").await.1, say(&host, "?ttl=60000&class=v1", "a").await.1];
    let manifest = host.function_folder("keeper").join("function.toml");
    crate::support::rewrite(&manifest, &[(TOP, &format!("# Another one.\n{TOP}"))]);
    eventually("the new revision serves", async || say(&host, "?ttl=60000", "a").await.1 != before[0]).await;
    assert_eq!(say(&host, "?ttl=60000&class=v1", "a").await, ("hit".into(), before[1].clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tenant_is_given_what_is_another_ones() {
    let host = keeper().function_as("other", "keeper", "keeper").function_as("test", "second", "keeper").start().await;
    let mut seen = Vec::new();
    for (function, policy) in ["test/keeper", "other/keeper", "test/second"].iter().flat_map(|function| {
        ["ttl=60000&key=same", "ttl=60000&key=same&class=same", "ttl=60000"].map(|it| (function, it))
    }) {
        let url = format!("{}/v1/functions/{function}/say?{policy}", host.base);
        let ask = async || Answer::of(host.client.post(&url).body("a").send().await.unwrap()).await;
        let (first, second) = (ask().await, ask().await);
        assert_eq!((how(&first), how(&second)), ("miss", "hit"), "{function} {policy}");
        assert_eq!(stamp(&first), stamp(&second));
        assert!(!seen.contains(&stamp(&first)), "{function} {policy} was given another's");
        seen.push(stamp(&first));
    }
}

/// Any two policies of two tenants, with equal material: bodies are canaries that name their tenant and are no part of the
/// key, so an answer that crosses over shows.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_policies_say_canaries_stay_with_their_tenant() {
    let host = keeper().function_as("other", "keeper", "keeper").start().await;
    let mut random = fastrand::Rng::with_seed(6);
    let pick = |random: &mut fastrand::Rng, from: &[&str]| from[random.usize(..from.len())].to_owned();
    let mut known = 0;
    for _ in 0..300 {
        let key = pick(&mut random, &["key=a", "key=b", "key=a&key=b", "key=", "key=a&header=x-h", ""]);
        let asks = ["test", "other"].map(|tenant| {
            let class = pick(&mut random, &["", "&class=a", "&class=test", "&class=other"]);
            let tag = pick(&mut random, &["", "&tag=a", "&tag=test"]);
            let times = pick(&mut random, &["ttl=60000", "ttl=1&while=60000", "ttl=1&error=60000", "negative=60000"]);
            let path = pick(&mut random, &["say", "refuse"]);
            (tenant, format!("{}/v1/functions/{tenant}/keeper/{path}?{times}{class}{tag}&{key}", host.base))
        });
        let asked = asks.into_iter().map(|(tenant, url)| {
            let sent = host.client.post(url).header("x-h", "same").body(format!("canary of {tenant}")).send();
            async move { (tenant, Answer::of(sent.await.unwrap()).await) }
        });
        for (tenant, answer) in join_all(asked).await {
            if answer.status == 200 {
                assert_eq!(answer.json()["said"], format!("canary of {tenant}"));
            }
            known += usize::from(how(&answer) != "miss");
        }
    }
    assert!(known > 100, "{known} of 600 were known: it was to be tried");
    host.all_back_to_zero().await;
}
