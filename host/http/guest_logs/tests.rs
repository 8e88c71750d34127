//! Queries, places, and what is sent when nobody says anything, or nobody will any more.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures_util::StreamExt as _;

use super::*;
use crate::telemetry::{Line, LineKind, Telemetry};

#[test]
fn a_query_says_how_many_and_whether_to_stay() {
    assert_eq!(asked(None), Ok((TAIL, false)));
    assert_eq!(asked(Some("follow=true&tail=0")), Ok((0, true)));
    assert_eq!(asked(Some("tail=10000&follow=false")), Ok((10_000, false)));
    for (bad, named) in [
        ("tail=-1", "tail"),
        ("tail=", "tail"),
        ("tail=99999999999999999999", "tail"),
        ("follow=1", "follow"),
        ("follow", "follow"),
        ("since=3", "since"),
        ("tail=1&tail=2", "twice"),
        ("follow=true&follow=true", "twice"),
    ] {
        assert!(asked(Some(bad)).unwrap_err().contains(named), "{bad}");
    }
}

#[test]
fn followers_are_bounded_and_no_tenant_takes_all_places() {
    let followers = Arc::new(Followers::default());
    let place = |tenant| followers.place(tenant);
    let theirs: Vec<_> = (0..MAX_FOLLOWERS_OF_TENANT).map(|_| place(Some("a")).unwrap()).collect();
    assert!(place(Some("a")).err().unwrap().contains("this tenant"));
    let mut all = vec![place(Some("b")).unwrap()];
    all.extend((theirs.len() + 1..MAX_FOLLOWERS).map(|_| place(None).unwrap()));
    for tenant in [None, Some("b"), Some("c")] {
        assert!(place(tenant).err().unwrap().contains("this host"));
    }
    drop(theirs);
    assert!(place(Some("a")).is_ok());
    drop(all);
    let following = followers.following();
    assert!(following.all == 0 && following.by_tenant.is_empty(), "{following:?}");
}

#[test]
fn what_was_missed_is_a_line_of_its_own() {
    let text = written(&Passage { missed: 12, ..Passage::default() });
    let line: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&line["kind"], &line["text"]), (&"missed".into(), &"12 lines were missed".into()));
    assert!(line["invocation"].is_null() && line["at_ms"].is_u64() && text.ends_with(b"\n"));
}

/// Somebody who follows until told otherwise, and who may for so many looks.
fn follower(over: impl Future<Output = ()> + Send + 'static, looks: usize) -> Follow {
    let left = AtomicUsize::new(looks);
    let may = move || left.try_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
    let place = Arc::new(Followers::default()).place(None).unwrap();
    Follow { over: Box::pin(over), may: Box::new(may), _place: place }
}

#[tokio::test]
async fn silence_is_filled_and_ends_when_the_key_does() {
    let telemetry = Telemetry::new();
    let log = telemetry.guest_logs().of("a", "f");
    let follow = follower(std::future::pending(), 3);
    let sent: Vec<_> = lines(log.read(0, true), Some(follow), Duration::from_millis(1)).collect().await;
    let (end, beats) = sent.split_last().unwrap();
    assert!(beats.len() >= 3 && beats.iter().all(|piece| piece.as_ref().unwrap() == "\n"), "{sent:?}");
    let end: serde_json::Value = serde_json::from_slice(end.as_ref().unwrap()).unwrap();
    assert_eq!((&end["kind"], &end["code"]), (&"end".into(), &"forbidden".into()));
    // Who does not follow is told nothing of an end: there is one anyway.
    let sent: Vec<_> = lines(log.read(0, false), None, BEAT).collect().await;
    assert!(sent.is_empty(), "{sent:?}");
}

#[tokio::test]
async fn the_last_lines_are_sent_when_the_host_ends() {
    let telemetry = Telemetry::new();
    let log = telemetry.guest_logs().of("a", "f");
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let over = async move { drop(ended.await) };
    let mut sent = Box::pin(lines(log.read(0, true), Some(follower(over, 1)), BEAT));
    assert_eq!(sent.next().await.unwrap().unwrap(), "\n");
    end.send(()).unwrap();
    for number in 0..2000 {
        log.push(Line::new(LineKind::Log, "info", ("i".into(), 1), &number.to_string()));
    }
    let rest: Vec<_> = sent.map(|piece| piece.unwrap()).collect().await;
    let rest = String::from_utf8(rest.concat()).unwrap();
    assert!(rest.lines().next().unwrap().contains("1000 lines were missed"), "{rest:.200}");
    let (said, end) = rest.trim_end().rsplit_once('\n').unwrap();
    assert!(said.ends_with("\"text\":\"1999\"}") && said.lines().count() == 1001);
    let end: serde_json::Value = serde_json::from_str(end).unwrap();
    assert_eq!((&end["kind"], &end["code"], end["at_ms"].is_u64()), (&"end".into(), &"draining".into(), true));
}
