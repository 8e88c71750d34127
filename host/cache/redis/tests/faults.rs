//! Whatever becomes of Redis: no call waits longer than it may, and hits are back soon after Redis is.

use super::*;

/// While `fault` lasts calls stay within their bound, with `down` if Redis is of no use meanwhile; after it hits are
/// back in time.
async fn endures(what: &str, host: &Host, fault: impl AsyncFnOnce(), end: impl AsyncFnOnce(), down: bool) {
    host.hits("before").await;
    let before = host.remote.figures();
    fault().await;
    let longest = host.asks("before", Duration::from_millis(1500)).await;
    say(&format!("{what}: longest call"), longest);
    assert!(longest <= LOOKUP + NOISE, "{what}: a call took {longest:?}");
    let after = host.remote.figures();
    let skipped = after.lookups_skipped - before.lookups_skipped;
    let waited = after.lookups_slow + after.lookups_failed - before.lookups_slow - before.lookups_failed;
    if down {
        assert!(matches!(host.remote.state(), RemoteState::Down { .. }), "{what}");
        assert!(skipped > 10 * waited, "{what}: it is left alone: {skipped} against {waited}");
    } else {
        assert_eq!(host.remote.state(), RemoteState::Up, "{what}");
    }
    end().await;
    let back = host.hits("before").await;
    say(&format!("{what}: hits again after"), back);
    assert!(back <= RECOVERY, "{what}: {back:?}");
    let all = Instant::now();
    until("all lines are up", || async { host.remote.lines.all().iter().all(|line| line.is_up()) }).await;
    say(&format!("{what}: all lines up after"), back + all.elapsed());
    assert!(back + all.elapsed() <= RECOVERY + NOISE, "{what}: {:?}", all.elapsed());
    host.comes_up().await;
    host.remote.invalidate(0, &[scope(what)]).await;
    host.hears(scope(what)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails() {
    let Some(server) = Server::start().await else { return };
    let proxy = Proxy::before(server.port).await;
    let host = Host::up(proxy.port).await;
    let modes = [
        ("delayed by a second", Mode::Delay(Duration::from_secs(1))),
        ("stalled", Mode::Stall),
        ("cut without a word", Mode::Swallow),
        ("reset", Mode::Reset),
        ("garbage", Mode::Garbage),
    ];
    for (what, mode) in modes {
        endures(what, &host, async || proxy.set(mode), async || proxy.set(Mode::Pass), true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_paused_or_killed() {
    let Some(server) = Server::start().await else { return };
    let host = Host::up(server.port).await;
    endures("stopped", &host, async || server.pause(), async || server.go_on(), true).await;
    let pause = async || drop(server.run("CLIENT PAUSE 1600 ALL").await);
    // It ends by itself.
    let end = async || tokio::time::sleep(Duration::from_millis(100)).await;
    endures("paused", &host, pause, end, true).await;
    let server = tokio::sync::Mutex::new(server);
    let kill = async || server.lock().await.kill();
    endures("killed", &host, kill, async || server.lock().await.restart().await, true).await;
    assert_eq!(host.floors(), 1, "nothing was missed: no floor but the one of the first contact");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_memory_is_full() {
    let Some(server) = Server::start().await else { return };
    let host = Host::up(server.port).await;
    let fill = async || drop(server.run("CONFIG SET maxmemory 1").await);
    let end = async || drop(server.run("CONFIG SET maxmemory 0").await);
    host.hits("a").await;
    fill().await;
    until("writes rest", || async {
        host.remote.put(key("b"), Bytes::new(), HOUR);
        host.remote.figures().writes_rest.as_deref() == Some("OOM")
    })
    .await;
    let seq = host.remote.invalidate(0, &[scope("a")]).await;
    assert!(seq.is_some(), "an invalidation needs no room");
    host.hears(scope("a")).await;
    assert!(!host.remote.put(key("b"), Bytes::new(), HOUR));
    let longest = host.asks("a", Duration::from_millis(700)).await;
    assert!(longest <= LOOKUP + NOISE, "{longest:?}");
    assert!(host.get(key("a")).await.is_some() || host.hits("a").await < RECOVERY, "lookups go on");
    end().await;
    let (start, back) = (Instant::now(), key("c"));
    until("writes go out", || async {
        host.remote.put(back, "c".into(), HOUR);
        host.get(back).await.is_some()
    })
    .await;
    say("memory full: writes again after", start.elapsed());
    assert!(start.elapsed() < RECOVERY && host.remote.figures().writes_rest.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_become_a_replica() {
    let (Some(server), Some(master)) = (Server::start().await, Server::start().await) else { return };
    let host = Host::up(server.port).await;
    host.hits("a").await;
    // Its master never answers it: what it holds stays.
    master.pause();
    server.run(&format!("REPLICAOF 127.0.0.1 {}", master.port)).await;
    until("writes rest", || async {
        host.remote.put(key("b"), Bytes::new(), HOUR);
        host.remote.figures().writes_rest.as_deref() == Some("READONLY")
    })
    .await;
    until("lookups go on", || async { host.get(key("a")).await.is_some() }).await;
    assert_eq!(host.remote.invalidate(0, &[scope("a")]).await, None);
    assert_eq!(host.remote.figures().invalidations_pending, 1);
    assert!(host.asks("a", Duration::from_millis(500)).await <= LOOKUP + NOISE);
    server.run("REPLICAOF NO ONE").await;
    assert!(host.hits("b").await <= RECOVERY);
    let heard = host.hears(scope("a")).await;
    say("replica no more: what was pending is heard after", heard);
    assert!(heard <= RECOVERY, "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_late_or_forgets() {
    let Some(mut server) = Server::start().await else { return };
    server.kill();
    let host = Host::start(&config(server.port)).await;
    assert_eq!(host.get(key("a")).await, None);
    server.restart().await;
    let back = host.hits("a").await;
    say("there at last: hits after", back);
    assert!(back <= RECOVERY, "{back:?}");
    let flushed = async || drop(server.run("FLUSHALL").await);
    host.comes_up().await;
    endures("flushed", &host, flushed, async || (), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_value_is_a_miss_until_it_is_written_anew() {
    let Some(server) = Server::start().await else { return };
    let host = Host::up(server.port).await;
    for wrong in ["LPUSH", "SADD"] {
        host.hits("b").await;
        server.run(&format!("DEL test:v:{} test:probe:1", key("a").hex())).await;
        server.run(&format!("{wrong} test:v:{} x", key("a").hex())).await;
        server.run(&format!("{wrong} test:probe:1 x")).await;
        let found = host.remote.get_many(&[key("a"), key("b")]).await;
        assert_eq!(found, [None, Some("b".into())], "one wrong value harms no other");
        assert!(host.hits("a").await <= RECOVERY);
    }
    assert_eq!(host.remote.figures().lookups_failed, 0);
}

/// Many callers at once meet a server that stops: each waits no longer than its bound, most not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_before_a_server_that_stops() {
    let Some(server) = Server::start().await else { return };
    let host = Arc::new(Host::up(server.port).await);
    host.hits("a").await;
    server.pause();
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let host = host.clone();
        crowd.spawn(async move {
            let call = Instant::now();
            assert_eq!(host.get(key("a")).await, None);
            call.elapsed()
        });
    }
    let longest = crowd.join_all().await.into_iter().max().unwrap();
    say("a crowd: longest call", longest);
    assert!(longest <= LOOKUP + NOISE, "{longest:?}");
    // No caller waits now.
    let mut waits = Duration::ZERO;
    for _ in 0..100 {
        let call = Instant::now();
        host.get(key("a")).await;
        waits += call.elapsed();
    }
    assert!(waits < NOISE, "{waits:?}");
    server.go_on();
    assert!(host.hits("a").await <= RECOVERY);
}
