//! What a free instance does with what waits, case by case.

use super::*;

/// A name, limits, the rows of requests, and how many rows go for which reason.
type Case<'a> = (&'a str, Limits, &'a [&'a [u64]], usize, Reason);

#[test]
fn a_free_instance_takes_what_waits_and_says_why_no_more() {
    let now = Instant::now();
    let alike = |first_us, further_us| profile(&[(1, first_us, further_us)]);
    let cases: [Case<'_>; 11] = [
        ("one row", limits(), &[&[5]], 1, Reason::Idle),
        ("rows of two requests", limits(), &[&[6], &[6, 7]], 3, Reason::Idle),
        ("exactly full", limits(), &[&[1; 4]], 4, Reason::Full),
        ("more than full", limits(), &[&[1; 3], &[1; 3]], 4, Reason::Full),
        ("the next one would pad beyond the elements", limits(), &[&[40, 41, 42]], 2, Reason::Elements),
        ("a row over the limit goes alone", limits(), &[&[150], &[1]], 1, Reason::Elements),
        ("a long row would pad the others", limits(), &[&[5, 5, 30]], 2, Reason::Unlike),
        ("predicted time", Limits { profile: alike(40_000.0, 39_000.0), ..limits() }, &[&[1; 4]], 2, Reason::Time),
        ("a slow row goes alone", Limits { profile: alike(2e6, 1e6), ..limits() }, &[&[1; 2]], 1, Reason::Time),
        ("unless company costs nothing", Limits { profile: alike(2e6, 1.0), ..limits() }, &[&[1; 2]], 2, Reason::Idle),
        ("batches bring nothing", Limits { profile: alike(1e4, 1e4), ..limits() }, &[&[1; 3]], 1, Reason::Unlike),
    ];
    for (case, limits, requests, rows, reason) in cases {
        let mut queue = Queue::new(limits);
        requests.iter().enumerate().for_each(|(ticket, lengths)| queue.push(entry(ticket, lengths, now)));
        let waiting = queue.rows();
        let batch = run(&mut queue, now);
        assert_eq!((batch.0.len(), batch.1), (rows, reason), "{case}");
        assert_eq!(queue.rows(), waiting - rows, "{case}");
    }
}

#[test]
fn a_batch_that_gains_little_from_more_rows_ends_soon() {
    let now = Instant::now();
    let takes = |further_us, requests: &[usize]| {
        let limits = Limits { rows: 32, time: 250 * MS, profile: profile(&[(1, 22e3, further_us)]), ..limits() };
        let mut queue = Queue::new(limits);
        requests.iter().enumerate().for_each(|(ticket, rows)| queue.push(entry(ticket, &vec![1; *rows], now)));
        let (rows, reason) = run(&mut queue, now);
        (rows.len(), reason)
    };
    // Five rows cost 18.8 ms each, the thirteen of a quarter of a second 18.3.
    assert_eq!(takes(18e3, &[1; 20]), (5, Reason::Enough));
    assert_eq!(takes(0.0, &[1; 64]), (32, Reason::Full));
    // What is left must be enough for a batch, too.
    assert_eq!(takes(18e3, &[1; 10]), (5, Reason::Enough));
    assert_eq!(takes(18e3, &[1; 9]), (9, Reason::Idle));
    // A request is not answered before its last row.
    assert_eq!(takes(18e3, &[9, 1, 1]), (9, Reason::Enough));
}

#[test]
fn who_asks_for_much_has_shorter_batches_while_somebody_asks_for_little() {
    let now = Instant::now();
    // A row costs 22 ms alone, 14 ms in the largest batch (18.7 over three quarters) and 17.9 ms in one of two.
    let limits = Limits { rows: 32, time: 1000 * MS, profile: profile(&[(1, 22e3, 13.7e3)]), ..limits() };
    let standing = Standing::default();
    let waits = |loud_ms, quiet_ms, requests: &[(&str, usize)]| {
        let mut queue = Queue::new(limits.clone());
        for _ in 0..100 {
            for (tenant, ms) in [("loud", loud_ms), ("quiet", quiet_ms)] {
                queue.push(entry_of(tenant, standing, 0, &[1], now));
                let Decision::Run(formed) = queue.next(now, 1) else { panic!("a row waits") };
                queue.settle(&formed.bill, ms * MS, now);
            }
        }
        for (ticket, (tenant, rows)) in requests.iter().enumerate() {
            queue.push(entry_of(tenant, standing, ticket, &vec![1; *rows], now));
        }
        let (rows, reason) = run(&mut queue, now);
        (rows.len(), rows.iter().filter(|(ticket, _)| requests[*ticket].0 == "quiet").count(), reason)
    };
    assert_eq!(waits(30, 10, &[("loud", 20)]), (2, 0, Reason::Neighbour));
    assert_eq!(
        waits(30, 10, &[("loud", 20), ("quiet", 1)]),
        (2, 1, Reason::Neighbour),
        "and who is quiet goes with one"
    );
    assert_eq!(waits(30, 10, &[("quiet", 20)]).1, 20, "its own rows are its own affair");
    assert_eq!(waits(12, 10, &[("loud", 20)]).0, 20, "who are alike are no loud neighbours");
    assert_eq!(waits(30, 0, &[("loud", 20)]).0, 20, "nobody asks for little");
}

#[test]
fn a_long_row_is_passed_over_and_goes_when_it_is_the_oldest() {
    let now = Instant::now();
    let mut queue = Queue::new(limits());
    for (ticket, length) in [10, 90, 11, 12, 10].into_iter().enumerate() {
        queue.push(entry(ticket, &[length], now));
    }
    assert_eq!(run(&mut queue, now), (vec![(4, 0), (3, 0), (2, 0), (0, 0)], Reason::Full));
    queue.push(entry(5, &[10], now));
    // It is the oldest now, however many short ones come.
    assert_eq!(run(&mut queue, now), (vec![(1, 0)], Reason::Elements));
    assert_eq!(run(&mut queue, now), (vec![(5, 0)], Reason::Idle));
}

#[test]
fn rows_of_one_request_leave_with_their_like() {
    let now = Instant::now();
    let mut queue = Queue::new(limits());
    queue.push(entry(0, &[50, 5, 48, 6], now));
    assert_eq!(run(&mut queue, now), (vec![(0, 1), (0, 3)], Reason::Elements));
    assert_eq!(run(&mut queue, now), (vec![(0, 2), (0, 0)], Reason::Idle));
}

#[test]
fn padding_to_buckets_is_part_of_the_price() {
    let now = Instant::now();
    let buckets = vec![vec![16, 32, 64]];
    // 17 is padded to 32: with it, two rows of 16 would be twice as long.
    let device = profile(&[(16, 100.0, 80.0), (32, 200.0, 160.0), (64, 400.0, 320.0)]);
    let mut queue = Queue::new(Limits { buckets, profile: device, ..limits() });
    queue.push(entry(0, &[16, 16, 17, 31], now));
    let Decision::Run(formed) = queue.next(now, 1) else { panic!("rows wait") };
    assert_eq!((formed.rows, formed.reason, formed.elements), (vec![(0, 0), (0, 1)], Reason::Unlike, (32, 16)));
    let Decision::Run(formed) = queue.next(now, 1) else { panic!("rows wait") };
    assert_eq!((formed.rows.len(), formed.elements), (2, (48, 32)));
}

#[test]
fn a_delay_is_waited_out_unless_the_batch_is_full() {
    let now = Instant::now();
    let mut queue = Queue::new(Limits { delay: 5 * MS, ..limits() });
    assert!(matches!(queue.next(now, 1), Decision::Idle));
    queue.push(entry(0, &[1], now));
    assert!(matches!(queue.next(now + MS, 1), Decision::WaitUntil(ready) if ready == now + 5 * MS));
    assert_eq!(run(&mut queue, now + 5 * MS).1, Reason::Deadline);
    queue.push(entry(1, &[1; 5], now));
    assert_eq!(run(&mut queue, now).1, Reason::Full);
}

#[test]
fn rows_without_ragged_dimensions_have_no_elements_to_limit() {
    let now = Instant::now();
    let mut queue = Queue::new(limits());
    let times = Times { queued: now, give_up: now + MS, deadline: now + MS };
    let whose = ("t".into(), Standing::default(), Priority::Interactive);
    queue.push(Entry::new(0, whose, (3, [].into()), times));
    assert_eq!(run(&mut queue, now), (vec![(0, 0), (0, 1), (0, 2)], Reason::Idle));
}

#[test]
fn a_lone_request_is_spread_over_lanes_that_are_free() {
    let now = Instant::now();
    let slow = Limits { rows: 16, profile: profile(&[(1, 10_000.0, 8_000.0)]), time: 1000 * MS, ..limits() };
    let quick = Limits { profile: profile(&[(1, 10.0, 1.0)]), ..slow.clone() };
    let takes = |limits: &Limits, rows: usize, free| {
        let mut queue = Queue::new(limits.clone());
        queue.push(entry(0, &vec![1; rows], now));
        let Decision::Run(formed) = queue.next(now, free) else { panic!("rows wait") };
        (formed.rows.len(), formed.reason)
    };
    assert_eq!(takes(&slow, 9, 1), (9, Reason::Idle));
    assert_eq!(takes(&slow, 9, 2), (5, Reason::Spread));
    assert_eq!(takes(&slow, 9, 4), (3, Reason::Spread));
    assert_eq!(takes(&slow, 2, 64), (1, Reason::Spread));
    assert_eq!(takes(&slow, 1, 2), (1, Reason::Idle));
    assert_eq!(takes(&quick, 9, 2), (9, Reason::Idle), "waking a lane would cost more");
}

#[test]
fn an_exclusive_tenant_shares_no_batch() {
    let now = Instant::now();
    let exclusive = Standing { exclusive: true, ..Standing::default() };
    let mut queue = Queue::new(limits());
    for (ticket, tenant) in ["a", "x", "b", "x"].into_iter().enumerate() {
        let standing = if tenant == "x" { exclusive } else { Standing::default() };
        queue.push(entry_of(tenant, standing, ticket, &[1], now));
    }
    let mut batches = Vec::new();
    while queue.rows() > 0 {
        let (mut rows, reason) = run(&mut queue, now);
        rows.sort_unstable();
        batches.push((rows.into_iter().map(|(ticket, _)| ticket).collect::<Vec<_>>(), reason));
    }
    assert_eq!(batches, [(vec![0, 2], Reason::Exclusive), (vec![1, 3], Reason::Idle)]);
}

#[test]
fn what_may_wait_waits_but_not_for_ever() {
    let now = Instant::now();
    let mut queue = Queue::new(Limits { rows: 1, ..limits() });
    for ticket in 0..40 {
        let whose = |priority| ("t".into(), Standing::default(), priority);
        let times = Times { queued: now, give_up: now + MS, deadline: now + MS };
        queue.push(Entry::new(2 * ticket, whose(Priority::Batch), (1, [1].into()), times));
        queue.push(Entry::new(2 * ticket + 1, whose(Priority::Interactive), (1, [1].into()), times));
    }
    let first: Vec<_> = (0..20).map(|_| run(&mut queue, now).0[0].0).collect();
    assert_eq!(first.iter().filter(|ticket| *ticket % 2 == 0).count(), 2, "one in ten: {first:?}");
    let rest = (0..60).map(|_| run(&mut queue, now).0.len()).sum::<usize>();
    assert_eq!((rest, queue.rows()), (60, 0));
}

#[test]
fn who_waited_too_long_is_given_up_but_not_who_was_begun() {
    let now = Instant::now();
    let mut queue = Queue::new(limits());
    queue.push(entry(0, &[1; 6], now));
    queue.push(entry(1, &[1], now));
    assert_eq!(run(&mut queue, now).0.len(), 4);
    assert_eq!(queue.expire(now + 49 * MS), []);
    assert_eq!(queue.expire(now + 50 * MS), [(1, Expired::QueueTimeout)]);
    assert_eq!(queue.rows(), 2);
    assert_eq!(queue.expire(now + 200 * MS), [(0, Expired::Deadline)]);
    assert_eq!(queue.rows(), 0);
}

#[test]
fn withdrawing_frees_the_places_of_the_rows_that_wait() {
    let now = Instant::now();
    let mut queue = Queue::new(limits());
    queue.push(entry(0, &[1; 6], now));
    queue.push(entry(1, &[1; 2], now));
    assert_eq!(run(&mut queue, now).0.len(), 4);
    assert_eq!(queue.withdraw(true, |ticket| *ticket == 0), 0, "it was begun");
    assert_eq!(queue.withdraw(false, |ticket| *ticket == 0), 2);
    assert_eq!(queue.withdraw(true, |ticket| *ticket == 1), 2);
    assert_eq!(queue.withdraw(false, |ticket| *ticket == 1), 0);
    assert_eq!(queue.rows(), 0);
    queue.push(entry(2, &[1], now));
    assert_eq!(queue.clear(), [2]);
    assert!(matches!(queue.next(now, 1), Decision::Idle));
}

#[test]
fn a_full_queue_keeps_a_place_for_who_has_little_in_it() {
    let now = Instant::now();
    let mut queue = Queue::new(limits());
    let standing = Standing::default();
    for ticket in 0..16 {
        assert!(queue.has_room(("many", standing), (0, 0), 16));
        queue.push(entry_of("many", standing, ticket, &[1], now));
    }
    assert!(!queue.has_room(("many", standing), (0, 0), 16), "it holds more than its share");
    assert!(!queue.has_room(("few", standing), (0, 8), 16), "its share is on its way");
    let mut let_in = 0;
    while queue.has_room(("few", standing), (0, 0), 16) {
        queue.push(entry_of("few", standing, 100 + let_in, &[1], now));
        let_in += 1;
    }
    assert_eq!(let_in, 8, "its share of 16");
    let tenants = (0..50).filter(|tenant| {
        let name = format!("t{tenant}");
        let has_room = queue.has_room((&name, standing), (0, 0), 16);
        if has_room {
            queue.push(entry_of(&name, standing, 200 + tenant, &[1], now));
        }
        has_room
    });
    assert_eq!((tenants.count(), queue.rows()), (8, 32), "twice the limit is the most");
}
