//! Leads that land, leave and are handed over, in any order.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;

use super::*;

fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

fn lead<V>(flights: &Arc<Flights<V>>, n: u8) -> Lead<V> {
    match flights.join(key(n)) {
        Seat::Lead(lead) => lead,
        Seat::Follow(_) => panic!("somebody leads"),
    }
}

fn follow<V>(flights: &Arc<Flights<V>>, n: u8) -> Follow<V> {
    match flights.join(key(n)) {
        Seat::Lead(_) => panic!("nobody leads"),
        Seat::Follow(follow) => follow,
    }
}

#[tokio::test]
async fn a_hundred_followers_get_one_value() {
    let flights = Flights::new();
    let lead = lead(&flights, 1);
    let followers: Vec<_> = (0..100).map(|_| tokio::spawn(follow(&flights, 1).wait())).collect();
    assert!(flights.lead_if_free(key(1)).is_none() && flights.lead_if_free(key(2)).is_some());
    lead.land("value");
    for follower in followers {
        assert!(matches!(follower.await.unwrap(), Landed::Value("value")));
    }
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_lead_that_leaves_makes_exactly_one_follower_lead() {
    let flights = Flights::new();
    let first = lead(&flights, 1);
    let mut followers: Vec<_> = (0..10).map(|_| Box::pin(follow(&flights, 1).wait())).collect();
    drop(first);
    let second = match followers.remove(0).await {
        Landed::Lead(lead) => lead,
        Landed::Value(()) => panic!("nobody computed it"),
    };
    let mut context = Context::from_waker(Waker::noop());
    assert!(followers.iter_mut().all(|follower| follower.as_mut().poll(&mut context).is_pending()));
    second.land(());
    for follower in followers {
        assert!(matches!(follower.await, Landed::Value(())));
    }
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_follower_that_leaves_with_the_lead_on_its_way_passes_it_on() {
    let flights = Flights::<()>::new();
    let first = lead(&flights, 1);
    let (second, third, fourth) = (follow(&flights, 1), follow(&flights, 1), follow(&flights, 1));
    drop(third);
    drop(first);
    // The lead is in the channel of the second, which never looks.
    drop(second);
    assert!(matches!(fourth.wait().await, Landed::Lead(_)));
    assert!(flights.is_empty(), "it was dropped, and nobody was left");
}

#[tokio::test]
async fn who_comes_after_the_landing_begins_afresh() {
    let flights = Flights::new();
    let first = lead(&flights, 1);
    let early = follow(&flights, 1);
    first.land(1);
    let second = lead(&flights, 1);
    let late = follow(&flights, 1);
    assert!(matches!(early.wait().await, Landed::Value(1)));
    second.land(2);
    assert!(matches!(late.wait().await, Landed::Value(2)));
}

#[test]
fn followers_that_left_are_swept() {
    let flights = Flights::<()>::new();
    let lead = lead(&flights, 1);
    for _ in 0..10_000 {
        drop(follow(&flights, 1));
    }
    assert!(flights.lock()[&key(1)].line.len() <= 2 * SWEEP_EVERY);
    drop(lead);
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_value_that_cannot_be_cloned_leaves_nobody_waiting() {
    #[derive(Debug)]
    struct Fragile;
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            panic!("no copies");
        }
    }
    let flights = Flights::new();
    let first = lead(&flights, 1);
    let (one, other) = (follow(&flights, 1), follow(&flights, 1));
    let landing = tokio::spawn(async move { first.land(Fragile) });
    assert!(landing.await.is_err());
    let Landed::Lead(second) = one.wait().await else { panic!("there is no value") };
    let mut other = Box::pin(other.wait());
    let mut context = Context::from_waker(Waker::noop());
    assert!(other.as_mut().poll(&mut context).is_pending());
    drop(second);
    assert!(matches!(other.await, Landed::Lead(_)));
    assert!(flights.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_crowd_on_threads_everybody_gets_a_value() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let (flights, leads) = (Flights::new(), Arc::new([const { AtomicUsize::new(0) }; 4]));
    let crowd = (0..400usize).map(|n| {
        let (flights, leads) = (flights.clone(), leads.clone());
        tokio::spawn(async move {
            for round in 0..20 {
                let slot = (n + round) % 4;
                let mut seat = flights.join(key(slot as u8));
                // Once only: some that fail each time would pass the lead on among themselves for ever.
                let mut fails = (n * 31 + round) % 3 == 0;
                loop {
                    let lead = match seat {
                        Seat::Lead(lead) => lead,
                        Seat::Follow(follow) if (n + round) % 7 == 0 => {
                            drop(follow);
                            break;
                        }
                        Seat::Follow(follow) => match follow.wait().await {
                            Landed::Value(value) => break assert_eq!(value, slot),
                            Landed::Lead(lead) => lead,
                        },
                    };
                    assert_eq!(leads[slot].fetch_add(1, SeqCst), 0, "two lead");
                    tokio::task::yield_now().await;
                    leads[slot].fetch_sub(1, SeqCst);
                    if !std::mem::take(&mut fails) {
                        break lead.land(slot);
                    }
                    drop(lead);
                    seat = flights.join(key(slot as u8));
                    if (n + round) % 2 == 0 {
                        break;
                    }
                }
            }
        })
    });
    for one in crowd.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert!(flights.is_empty());
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Join,
    Poll(usize),
    Leave(usize),
    Land,
    Fail,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Join),
        3 => (0usize..8).prop_map(Event::Poll),
        2 => (0usize..8).prop_map(Event::Leave),
        1 => Just(Event::Land),
        2 => Just(Event::Fail),
    ]
}

type Wait = Pin<Box<dyn Future<Output = Landed<u32>>>>;

proptest! {
    #[test]
    fn in_no_history_two_lead_or_nobody_does(events in prop::collection::vec(event(), 0..80)) {
        let flights = Flights::<u32>::new();
        let (mut lead, mut waits) = (None::<Lead<u32>>, Vec::<(u32, Wait)>::new());
        // Landings so far; who joined in a round gets that round's value or none.
        let mut round = 0;
        let mut context = Context::from_waker(Waker::noop());
        for event in events.into_iter().chain([Event::Land; 1]) {
            match event {
                Event::Join => match flights.join(key(1)) {
                    Seat::Lead(new) => prop_assert!(lead.replace(new).is_none(), "two lead"),
                    Seat::Follow(follow) => waits.push((round, Box::pin(follow.wait()))),
                },
                Event::Poll(n) if n < waits.len() => {
                    match waits[n].1.as_mut().poll(&mut context) {
                        Poll::Pending => prop_assert!(waits[n].0 == round && !flights.is_empty()),
                        Poll::Ready(landed) => {
                            let (joined, _) = waits.swap_remove(n);
                            match landed {
                                Landed::Value(value) => prop_assert_eq!(value, joined),
                                Landed::Lead(new) => prop_assert!(lead.replace(new).is_none(), "two lead"),
                            }
                        }
                    }
                }
                Event::Leave(n) if n < waits.len() => drop(waits.swap_remove(n)),
                Event::Land => if let Some(lead) = lead.take() {
                    lead.land(round);
                    round += 1;
                },
                Event::Fail => drop(lead.take()),
                Event::Poll(_) | Event::Leave(_) => {}
            }
        }
        // Whoever is left gets a value or, as the only one, the lead: none hangs.
        while !waits.is_empty() {
            let before = waits.len();
            let mut n = 0;
            while n < waits.len() {
                match waits[n].1.as_mut().poll(&mut context) {
                    Poll::Pending => n += 1,
                    Poll::Ready(Landed::Value(value)) => prop_assert_eq!(value, waits.swap_remove(n).0),
                    Poll::Ready(Landed::Lead(new)) => {
                        drop(waits.swap_remove(n));
                        new.land(round);
                    }
                }
            }
            prop_assert!(waits.len() < before, "somebody waits for nobody");
        }
        drop(lead);
        prop_assert!(flights.is_empty());
    }
}
