//! Sums in tables, over what the fake says it holds.

use super::*;
use crate::engine::fake::{Behaviour, Fake, Memory};

fn budget(bytes: u64) -> (Fake, Arc<Budget>) {
    let fake = Fake::new(Behaviour { memory: Some(Memory::default()), ..Behaviour::default() });
    (fake.clone(), Budget::new(Arc::new(fake), bytes, 0.9))
}

fn serving(budget: &Arc<Budget>, model: &str, lanes: usize, stated: Option<u64>) -> Arc<Share> {
    let share = budget.join(model, (lanes, stated), Vec::new());
    share.serve();
    share
}

fn row(smallest: u64, largest: u64) -> RowBytes {
    RowBytes { smallest, largest }
}

#[test]
fn lanes_share_what_weights_and_stated_lanes_leave() {
    let (fake, budget) = budget(1000);
    let one = serving(&budget, "one", 2, None);
    assert_eq!((one.lane_bytes(), one.planned_bytes()), (500, 450));
    fake.set_weights(100);
    let stated = serving(&budget, "stated", 2, Some(150));
    assert_eq!((one.lane_bytes(), stated.lane_bytes()), (300, 150));
    assert_eq!(one.planned_bytes(), (900 - 100 - 300) / 2);
    let other = serving(&budget, "other", 1, None);
    assert_eq!((one.lane_bytes(), other.lane_bytes()), (200, 200));
    drop((stated, other));
    assert_eq!(one.lane_bytes(), 450);
    fake.set_weights(0);
    assert_eq!((budget.is_short(), one.lane_bytes()), (false, 500));
    let unlimited = Budget::new(Arc::new(Fake::default()), 1000, 0.9);
    let free = serving(&unlimited, "x", 1, None);
    assert_eq!((free.lane_bytes(), free.settle(row(9999, 9999)), free.is_short()), (u64::MAX, Ok(()), false));
}

#[test]
fn who_serves_has_no_less_for_the_sake_of_who_is_only_coming() {
    let (_, budget) = budget(1000);
    let old = serving(&budget, "m", 2, None);
    let other = serving(&budget, "other", 2, None);
    assert_eq!((old.lane_bytes(), other.lane_bytes()), (250, 250));
    let new = budget.join("m", (2, None), vec![old.number()]);
    assert_eq!((old.lane_bytes(), other.lane_bytes(), new.lane_bytes()), (250, 250, 250), "in the old one's place");
    let beside = budget.join("further", (4, None), Vec::new());
    assert_eq!((old.lane_bytes(), beside.lane_bytes()), (250, 1000 / 10));
    drop(beside);
    old.retire();
    new.serve();
    assert_eq!((old.lane_bytes(), other.lane_bytes(), new.lane_bytes()), (250, 250, 250));
    drop(old);
    let third = serving(&budget, "third", 4, None);
    assert_eq!((other.lane_bytes(), new.lane_bytes(), third.lane_bytes()), (125, 125, 125));
}

#[test]
fn a_model_that_leaves_another_no_row_is_refused_with_the_figures() {
    let (fake, budget) = budget(1000);
    let one = serving(&budget, "one", 1, None);
    one.settle(row(500, 500)).unwrap();
    fake.set_weights(100);
    let large = budget.join("large", (1, None), Vec::new());
    let error = large.settle(row(1, 1)).unwrap_err();
    let expected = |model: &str, lane_bytes, row_bytes| {
        let (weight_bytes, limit_bytes) = (100, 1000);
        TooLittle::Lane { model: model.into(), weight_bytes, limit_bytes, lane_bytes, row_bytes }
    };
    assert_eq!(error, expected("one", 400, 500));
    assert!(error.to_string().starts_with("the weights of all models hold 100 of 1000 bytes, which leaves 400 "));
    drop(large);
    let instead = budget.join("large", (1, None), vec![one.number()]);
    assert_eq!(instead.settle(row(850, 1)), Err(expected("large", 800, 850)));
    assert_eq!(instead.settle(row(600, 10_000)), Ok(()), "in the other one's place");
}

#[test]
fn the_largest_row_that_fits_once_is_to_fit_as_long_as_its_model_serves() {
    let (_, budget) = budget(1000);
    let one = serving(&budget, "one", 1, None);
    one.settle(row(10, 600)).unwrap();
    let two = budget.join("two", (1, None), Vec::new());
    assert!(matches!(two.settle(row(10, 10)), Err(TooLittle::Lane { row_bytes: 600, lane_bytes: 500, .. })));
    one.settle(row(10, 1001)).unwrap();
    assert_eq!(two.settle(row(10, 10)), Ok(()), "what never fitted is nobody's loss");
}

#[test]
fn no_more_is_promised_than_there_is() {
    let (fake, budget) = budget(1000);
    fake.set_weights(500);
    let fits = serving(&budget, "fits", 2, Some(200));
    assert_eq!(fits.settle(row(1, 1)), Ok(()));
    let error = budget.join("over", (1, Some(1)), Vec::new()).settle(row(1, 1)).unwrap_err();
    assert_eq!(error, TooLittle::Stated { weight_bytes: 500, stated_bytes: 401, below_bytes: 900 });
    assert!(error.to_string().ends_with("state less"), "{error}");
    let own = budget.join("own", (1, Some(10)), vec![fits.number()]).settle(row(20, 20)).unwrap_err();
    assert!(matches!(own, TooLittle::Lane { lane_bytes: 10, row_bytes: 20, .. }));
}

#[test]
fn refusing_begins_above_the_mark_and_ends_well_below_it() {
    let (fake, budget) = budget(1000);
    fake.set_weights(500);
    // The mark is at 900; a quarter of the 400 below it must be free again.
    let seen = [0, 399, 400, 401, 399, 301, 299, 350, 401].map(|held| {
        fake.set_held(held);
        budget.is_short()
    });
    assert_eq!(seen, [false, false, false, true, true, true, false, false, true]);
}

#[test]
fn the_machines_memory_is_read_off_the_kernels_words() {
    assert_eq!(total_bytes("MemFree: 1 kB\n").or(total_bytes("MemTotal:    1024 kB\nMemFree: 1 kB")), Some(1 << 20));
    assert!(default_bytes() > 1 << 28);
}
