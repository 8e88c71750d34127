//! Rings against their bounds, readers against writers.

use super::*;

const SMALL: Bounds = Bounds { lines: 4, bytes: 4096, all_bytes: 8192, functions: 3 };

fn line(text: &str) -> Line {
    Line::new(LineKind::Log, "info", ("i".into(), 1), text)
}

fn texts(passage: &Passage) -> Vec<&str> {
    passage.lines.iter().map(|line| &*line.text).collect()
}

fn say(log: &FunctionLog, texts: &[&str]) {
    texts.iter().for_each(|text| log.push(line(text)));
}

fn is_there(logs: &Arc<GuestLogs>, function: &str) -> bool {
    logs.find("a", function).is_some()
}

/// What the rings hold by themselves, against what was counted.
fn counted(logs: &GuestLogs) -> i64 {
    let held: usize =
        lock(&logs.table).values().map(|log| log.ring().lines.iter().map(|it| it.bytes()).sum::<usize>()).sum();
    assert_eq!(held as i64, logs.bytes.load(Relaxed));
    held as i64
}

#[test]
fn a_reader_gets_the_newest_lines_in_order_and_is_told_what_it_missed() {
    let logs = GuestLogs::within(SMALL);
    let log = logs.of("a", "f");
    say(&log, &["1", "2", "3"]);
    let mut all = log.read(usize::MAX, false);
    let mut newest = log.read(2, true);
    let mut none = log.read(0, false);
    assert!(none.take(1).last);
    let passage = newest.take(usize::MAX);
    assert_eq!((texts(&passage), passage.more, passage.last), (vec!["2", "3"], false, false));
    say(&log, &["4", "5", "6"]);
    let passage = all.take(usize::MAX);
    // It asked for what was there then: two of three are gone, and later ones are not for it.
    assert_eq!((passage.missed, texts(&passage), passage.last), (2, vec!["3"], true));
    let passage = newest.take(1);
    assert_eq!((passage.missed, texts(&passage), passage.more), (0, vec!["4"], true));
    say(&log, &["7", "8", "9"]);
    let passage = newest.take(usize::MAX);
    assert_eq!((passage.missed, texts(&passage)), (1, vec!["6", "7", "8", "9"]));
    let mut late = log.read(usize::MAX, false);
    say(&log, &["10", "11", "12", "13", "14"]);
    let passage = late.take(usize::MAX);
    assert_eq!((passage.missed, passage.lines.len(), passage.last), (4, 0, true));
    counted(&logs);
}

#[test]
fn lines_and_rings_are_bounded() {
    let logs = GuestLogs::within(SMALL);
    let log = logs.of("a", "f");
    let long = line(&"ä".repeat(MAX_TEXT_BYTES)).with_backtrace(&"ö".repeat(MAX_TEXT_BYTES));
    assert!(long.bytes() <= LINE_BYTES + 1 + 2 * MAX_TEXT_BYTES);
    // Longer than the whole ring: then there is nothing, and nothing else suffers.
    log.push(long);
    assert_eq!(counted(&logs), 0);
    for _ in 0..100 {
        log.push(line(&"x".repeat(1500)));
    }
    assert!(counted(&logs) <= SMALL.bytes as i64 && log.ring().lines.len() == 2);
}

#[test]
fn those_who_were_silent_for_longest_lose_their_lines_first() {
    let logs = GuestLogs::within(SMALL);
    let held: Vec<_> = ["f", "g", "h"].map(|function| logs.of("a", function)).into();
    for (at_ms, log) in held.iter().enumerate() {
        for _ in 0..2 {
            log.push(Line { at_ms: at_ms as u64, ..line(&"x".repeat(1300)) });
        }
        assert!(counted(&logs) <= SMALL.all_bytes);
    }
    assert_eq!(["f", "g", "h"].map(|function| is_there(&logs, function)), [false, true, true]);
    let mut reader = held[0].read(10, true);
    say(&held[0], &["still there"]);
    assert_eq!(texts(&reader.take(1)), ["still there"]);
}

#[test]
fn a_function_that_does_not_serve_gives_way_and_one_that_does_stays() {
    let logs = GuestLogs::within(SMALL);
    let serves = logs.of("a", "serves");
    for (at_ms, function) in ["f", "g", "h"].into_iter().enumerate() {
        logs.of("a", function).push(Line { at_ms: at_ms as u64 + 1, ..line("x") });
    }
    serves.push(line("x"));
    assert_eq!(["serves", "f", "g", "h"].map(|function| is_there(&logs, function)), [true, false, true, true]);
    assert!(lock(&logs.table).len() <= SMALL.functions);
    counted(&logs);
}

#[tokio::test]
async fn what_is_removed_is_forgotten_and_ends_whoever_reads() {
    let logs = GuestLogs::within(SMALL);
    let (removed, refused) = (logs.of("a", "removed"), logs.of("a", "refused"));
    say(&removed, &["1"]);
    say(&refused, &["1"]);
    logs.settle(|_, function| function == "removed");
    let mut reader = removed.read(0, true);
    let waiting = tokio::spawn(async move {
        reader.news().await;
        reader.take(1).last
    });
    logs.settle(|_, _| false);
    assert!(waiting.await.unwrap());
    assert_eq!(["removed", "refused"].map(|function| is_there(&logs, function)), [false, true]);
    say(&removed, &["from an invocation that was still there"]);
    assert!(!is_there(&logs, "removed"));
    assert_eq!(logs.of("a", "removed").read(1, true).take(1).lines.len(), 0);
    counted(&logs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_beside_many_writers_gets_every_line_or_is_told() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 500;
    let logs = GuestLogs::within(Bounds { lines: 64, ..BOUNDS });
    let log = logs.of("a", "f");
    let mut reader = log.read(0, true);
    for _ in 0..WRITERS {
        let log = log.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                log.push(line(&number.to_string()));
                if number % 50 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let mut got = 0;
    while got < WRITERS * EACH {
        reader.news().await;
        let passage = reader.take(1000);
        got += passage.missed + passage.lines.len() as u64;
    }
    assert_eq!(got, WRITERS * EACH);
    counted(&logs);
}

#[test]
fn a_line_is_told_as_agreed() {
    let said = Line { at_ms: 7, ..line("said") };
    let trap = Line { at_ms: 8, ..Line::new(LineKind::Trap, "error", ("i".into(), 3), "fell") }.with_backtrace("0: f");
    assert_eq!(
        [&said, &trap].map(|line| serde_json::to_string(line).unwrap()),
        [
            r#"{"at_ms":7,"level":"info","invocation":"i","revision":1,"kind":"log","text":"said"}"#,
            r#"{"at_ms":8,"level":"error","invocation":"i","revision":3,"kind":"trap","text":"fell","backtrace":"0: f"}"#,
        ]
    );
}
