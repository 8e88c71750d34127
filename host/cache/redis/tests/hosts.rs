//! What hosts tell each other, and what they hear when they were away.

use super::*;

fn seqs(host: &Host) -> Vec<u64> {
    let seq = |heard: &Heard| if let Heard::Invalidated { seq, .. } = heard { Some(*seq) } else { None };
    host.heard().iter().filter_map(seq).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidations_are_heard_by_all_once_and_in_order() {
    let Some(server) = Server::start().await else { return };
    let (a, b) = (Host::up(server.port).await, Host::up(server.port).await);
    let mut given = vec![];
    for (at, host) in [&a, &b, &a, &b].into_iter().enumerate() {
        given.push(host.remote.invalidate(0, &[scope(&at.to_string()), scope("all")]).await.unwrap());
    }
    let high = a.remote.invalidate(given[3] + 100, &[scope("high")]).await.unwrap();
    assert_eq!(high, given[3] + 101, "above what the host knows");
    given.push(high);
    for host in [&a, &b] {
        let heard = host.hears(scope("high")).await;
        assert!(heard < Duration::from_secs(1), "{heard:?}");
        assert_eq!(seqs(host), given);
        assert!(given.is_sorted() && host.heard_scopes().contains(&scope("2")));
    }
    // Nobody hears it again when the list is read, nor does whoever comes later miss it.
    a.remote.bus.catch_up().await.unwrap();
    assert_eq!(seqs(&a), given);
    let late = Host::up(server.port).await;
    late.hears(scope("high")).await;
    assert_eq!(seqs(&late), given);
    assert_eq!((a.floors(), b.floors(), late.floors()), (1, 1, 1));
    assert!(matches!(late.heard()[0], Heard::Floor(base) if base < given[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_are_heard_by_others() {
    let Some(server) = Server::start().await else { return };
    let (a, b) = (Host::up(server.port).await, Host::up(server.port).await);
    let text = "change 7: é\n".repeat(100);
    let wanted = Heard::Announced { topic: "registry".into(), text: text.clone() };
    until("it is heard", || async {
        a.remote.announce("registry", &text);
        tokio::time::sleep(Duration::from_millis(20)).await;
        b.heard().contains(&wanted)
    })
    .await;
    assert!(!a.heard().contains(&wanted), "not by whoever says it");
    a.remote.announce("registry", &"x".repeat(1 << 20));
    assert_eq!(a.remote.figures().announcements_dropped, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_away_hears_what_was_said() {
    let Some(server) = Server::start().await else { return };
    let proxy = Proxy::before(server.port).await;
    let (a, b) = (Host::up(server.port).await, Host::up(proxy.port).await);
    for mode in [Mode::Reset, Mode::Stall, Mode::Swallow] {
        proxy.set(mode);
        let missed = scope(&format!("{mode:?}"));
        // Long enough for a line that only listens to be found silent.
        a.remote.invalidate(0, &[missed]).await.unwrap();
        let told = scope(&format!("by b {mode:?}"));
        assert_eq!(b.remote.invalidate(0, &[told]).await, None);
        assert!(!b.heard_scopes().contains(&missed));
        proxy.set(Mode::Pass);
        say(&format!("away by {mode:?}: heard after"), b.hears(missed).await);
        say(&format!("away by {mode:?}: told after"), a.hears(told).await);
        until("nothing is pending", || async { b.remote.figures().invalidations_pending == 0 }).await;
    }
    assert_eq!(b.floors(), 1, "the list had it all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_everything_costs_nothing_if_nobody_was_behind() {
    let Some(mut server) = Server::start().await else { return };
    let (a, b) = (Host::up(server.port).await, Host::up(server.port).await);
    let before = a.remote.invalidate(0, &[scope("before")]).await.unwrap();
    for host in [&a, &b] {
        host.hears(scope("before")).await;
    }
    server.kill();
    until("it is missed", || async { a.remote.invalidate(before, &[scope("meanwhile")]).await.is_none() }).await;
    server.restart().await;
    for host in [&a, &b] {
        host.hears(scope("meanwhile")).await;
        assert_eq!(host.floors(), 1);
    }
    let after = b.remote.invalidate(0, &[scope("after")]).await.unwrap();
    assert!(after > before, "numbers only rise");
    a.hears(scope("after")).await;
    assert!(seqs(&a).is_sorted() && seqs(&b).is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_what_somebody_did_not_hear_costs_a_floor() {
    let Some(mut server) = Server::start().await else { return };
    let proxy = Proxy::before(server.port).await;
    let (a, b) = (Host::up(server.port).await, Host::up(proxy.port).await);
    proxy.set(Mode::Reset);
    let missed = a.remote.invalidate(0, &[scope("missed")]).await.unwrap();
    a.hears(scope("missed")).await;
    server.restart().await;
    a.hits("a").await;
    a.remote.invalidate(0, &[scope("after")]).await;
    a.hears(scope("after")).await;
    proxy.set(Mode::Pass);
    b.hears(scope("after")).await;
    let floors =
        b.heard().into_iter().filter_map(|heard| if let Heard::Floor(base) = heard { Some(base) } else { None });
    assert!(floors.max().unwrap() >= missed, "what it has begun before is void");
    assert_eq!(a.floors(), 1, "who had heard all goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_was_shortened_costs_whoever_was_away_a_floor() {
    let Some(server) = Server::start().await else { return };
    let proxy = Proxy::before(server.port).await;
    let (a, b) = (Host::up(server.port).await, Host::up(proxy.port).await);
    let first = a.remote.invalidate(0, &[scope("first")]).await.unwrap();
    b.hears(scope("first")).await;
    proxy.set(Mode::Reset);
    until("it is away", || async { !b.remote.lines.control.is_up() }).await;
    let mut fill = ::redis::cmd("ZADD");
    fill.arg("{test}:invalidations");
    for seq in (first + 1)..=(first + 12_000) {
        fill.arg(seq).arg(format!("i:00000000000000bb:{seq}:00000000000000aa:{}", "ab".repeat(16)));
    }
    server.ask(&fill).await;
    let last = a.remote.invalidate(0, &[scope("last")]).await.unwrap();
    assert_eq!(last, first + 12_001);
    let ::redis::Value::Int(kept) = server.run("ZCARD {test}:invalidations").await else { panic!() };
    assert_eq!(kept, 10_001, "with the marker");
    proxy.set(Mode::Pass);
    say("10,000 missed: heard after", b.hears(scope("last")).await);
    assert_eq!(b.heard().into_iter().filter(|heard| *heard == Heard::Floor(last - 10_000)).count(), 1);
    assert_eq!(seqs(&b)[1..], (last - 9999..=last).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_there_is_no_harm() {
    let Some(server) = Server::start().await else { return };
    let host = Host::up(server.port).await;
    for garbage in ["x", "i:1:2:3", "i:9999999999999999:00000000000000aa:00", "l:no", "a:b"] {
        server.run(&format!("PUBLISH {{test}}:events {garbage}")).await;
    }
    until("they are counted", || async { host.remote.figures().unreadable == 5 }).await;
    for wrong in
        ["redis.call('SET', KEYS[1], 'x')", "redis.call('SADD', KEYS[1], 'x')", "redis.call('ZADD', KEYS[1], 1, 'x')"]
    {
        let script = format!("redis.call('DEL', KEYS[1]) {wrong}");
        server.ask(::redis::cmd("EVAL").arg(script).arg(1).arg("{test}:invalidations")).await;
        let tag = scope(wrong);
        assert!(host.remote.invalidate(0, &[tag]).await.is_some(), "{wrong}");
        host.hears(tag).await;
    }
    assert!(seqs(&host).is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_whose_caller_leaves_is_told_nevertheless() {
    let Some(server) = Server::start().await else { return };
    let (a, b) = (Host::up(server.port).await, Host::up(server.port).await);
    server.pause();
    let (left, two) = (scope("left"), [scope("left")]);
    let leaves = tokio::time::timeout(Duration::from_millis(20), a.remote.invalidate(0, &two)).await;
    assert!(leaves.is_err());
    assert_eq!(a.remote.figures().invalidations_pending, 1);
    server.go_on();
    b.hears(left).await;
    let many: Vec<ScopeId> = (0..200).map(|at: u32| scope(&at.to_string())).collect();
    assert!(a.remote.invalidate(0, &many).await.is_some());
    for tag in many {
        b.hears(tag).await;
    }
}
