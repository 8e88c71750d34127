//! What is put is found, for as long as it was meant to; what waits is bounded.

use ::redis::{Value, cmd};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_is_found_in_the_order_asked_for() {
    let Some(server) = Server::start().await else { return };
    let host = Host::up(server.port).await;
    for name in ["a", "b"] {
        host.hits(name).await;
    }
    let found = host.remote.get_many(&[key("b"), key("no"), key("a"), key("b")]).await;
    assert_eq!(found, [Some("b".into()), None, Some("a".into()), Some("b".into())]);
    assert_eq!(host.remote.get_many(&[]).await, Vec::<Option<Bytes>>::new());
    let name = format!("test:v:{}", key("a").hex());
    let Value::Int(ttl) = server.ask(cmd("PTTL").arg(&name)).await else { panic!() };
    assert!((3_500_000..=3_600_000).contains(&ttl), "{ttl}");
    host.remote.forget(key("a"));
    until("it is deleted", || async { host.get(key("a")).await.is_none() && host.get(key("b")).await.is_some() }).await;
    assert!(!host.remote.put(key("short"), Bytes::new(), Duration::from_micros(10)), "Redis knows no such time");
    host.remote.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writes_go_out_and_the_last_one_of_a_key_counts() {
    let Some(server) = Server::start().await else { return };
    let host = Host::up(server.port).await;
    let names: Vec<String> = (0..1000).map(|name| name.to_string()).collect();
    until("writes go out", || async { host.remote.put(key("first"), Bytes::new(), HOUR) }).await;
    for name in &names {
        assert!(host.remote.put(key(name), "old".into(), HOUR));
        host.remote.forget(key(name));
        assert!(host.remote.put(key(name), name.clone().into(), HOUR));
    }
    host.remote.stop().await;
    let figures = host.remote.figures();
    assert_eq!((figures.queue_entries, figures.queue_bytes, figures.writes_failed), (0, 0, 0), "{figures:?}");
    assert!(!host.remote.put(key("late"), Bytes::new(), HOUR), "it has stopped");
    let other = Host::up(server.port).await;
    let keys: Vec<Key> = names.iter().map(|name| key(name)).collect();
    for (keys, names) in keys.chunks(100).zip(names.chunks(100)) {
        let mut found = vec![];
        until("they are there", || {
            let asked = other.remote.get_many(keys);
            async { asked.await.iter().all(Option::is_some) }
        })
        .await;
        found.extend(other.remote.get_many(keys).await.into_iter().map(|found| found.unwrap_or_default()));
        assert_eq!(found, names.iter().map(|name| Bytes::from(name.clone())).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_are_bounded_in_number_and_bytes() {
    let Some(server) = Server::start().await else { return };
    for (entries, bytes, value, most) in [(10, 1 << 30, 10, 10), (1000, 100_000, 10_000, 9)] {
        let config = Config { write_queue_entries: entries, write_queue_bytes: bytes, ..config(server.port) };
        let host = Host::start(&config).await;
        until("writes go out", || async { host.remote.put(key("first"), Bytes::new(), HOUR) }).await;
        until("it is out", || async { host.remote.figures().queue_bytes == 0 }).await;
        server.pause();
        let put = |at: u32| host.remote.put(key(&at.to_string()), vec![0; value].into(), HOUR);
        let taken = (0..100).filter(|at| put(*at)).count();
        // One batch may be on its way besides.
        assert!((most..=most + 128).contains(&taken) && taken < 100, "{taken}");
        let figures = host.remote.figures();
        assert!(figures.queue_entries <= entries as u64 && figures.queue_bytes <= bytes, "{figures:?}");
        assert_eq!(figures.writes_dropped as usize, 100 - taken);
        server.go_on();
        until("nothing is held", || async { host.remote.figures().queue_bytes == 0 }).await;
        host.hits("after").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_wrong_are_errors_and_a_redis_that_is_not_there_is_none() {
    let start = |config: Config| Remote::start(&config, Arc::new(|_| ()));
    assert!(start(Config::default()).is_err());
    assert!(start(Config { redis_ca_file: Some("/does/not/exist".into()), ..config(1) }).is_err());
    let begun = Instant::now();
    let host = Host::start(&config(server::free_port())).await;
    assert!(begun.elapsed() < Duration::from_secs(1) + NOISE, "{:?}", begun.elapsed());
    let RemoteState::Down { reason, since_ms } = host.remote.state() else { panic!() };
    assert_eq!(reason, "connection refused");
    assert!(since_ms > 1_700_000_000_000);
    assert_eq!(host.get(key("a")).await, None);
    assert!(!host.remote.put(key("a"), Bytes::new(), HOUR));
    assert_eq!(host.remote.invalidate(0, &[scope("a")]).await, None);
    assert_eq!(host.remote.figures().invalidations_pending, 1);
    let begun = Instant::now();
    host.remote.stop().await;
    assert!(begun.elapsed() < NOISE, "{:?}", begun.elapsed());
}
