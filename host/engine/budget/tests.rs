//! Sums in tables, over what the fake says it holds.

use super::*;
use crate::engine::fake::{Behaviour, Fake, Memory};

fn budget(bytes: u64) -> (Fake, Arc<Budget>) {
    let fake = Fake::new(Behaviour { memory: Some(Memory::default()), ..Behaviour::default() });
    (fake.clone(), Budget::new(Arc::new(fake), Device::Cpu, bytes, 0.9))
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
    let (_, budget) = budget(1000);
    let one = serving(&budget, "one", 2, None);
    assert_eq!((one.lane_bytes(), one.planned_bytes()), (500, 450));
    one.weighs(100);
    let stated = serving(&budget, "stated", 2, Some(150));
    assert_eq!((one.lane_bytes(), stated.lane_bytes()), (300, 150));
    assert_eq!(one.planned_bytes(), (900 - 100 - 300) / 2);
    let other = serving(&budget, "other", 1, None);
    assert_eq!((one.lane_bytes(), other.lane_bytes()), (200, 200));
    drop((stated, other));
    assert_eq!(one.lane_bytes(), 450);
    let unlimited = Budget::new(Arc::new(Fake::default()), Device::Cpu, 1000, 0.9);
    let free = serving(&unlimited, "x", 1, None);
    assert_eq!((free.lane_bytes(), free.settle(row(9999, 9999)), free.is_short()), (u64::MAX, Ok(()), false));
}

#[test]
fn who_serves_has_no_less_for_the_sake_of_who_is_only_coming() {
    let (_, budget) = budget(1000);
    let (old, other) = (serving(&budget, "m", 2, None), serving(&budget, "other", 2, None));
    old.weighs(200);
    let lanes = |shares: &[&Share]| shares.iter().map(|share| share.lane_bytes()).collect::<Vec<_>>();
    assert_eq!((lanes(&[&old, &other]), other.planned_bytes()), (vec![200, 200], 175));
    let new = budget.join("m", (2, None), vec![old.number()]);
    new.weighs(200);
    assert_eq!(lanes(&[&old, &other, &new]), [200, 200, 200], "in the old one's place");
    assert_eq!(other.planned_bytes(), (900 - 400) / 6, "all of them are there for the time being");
    let beside = budget.join("further", (4, None), Vec::new());
    assert_eq!(lanes(&[&old, &other, &beside]), [200, 200, (1000 - 400) / 10]);
    drop(beside);
    old.retire();
    new.serve();
    assert_eq!(lanes(&[&old, &other, &new]), [200, 200, 200]);
    drop(old);
    assert_eq!((lanes(&[&other, &new]), other.planned_bytes()), (vec![200, 200], 175));
    let third = serving(&budget, "third", 4, None);
    assert_eq!(lanes(&[&other, &new, &third]), [100, 100, 100]);
}

#[test]
fn a_model_that_leaves_another_no_row_is_refused_with_the_figures() {
    let (_, budget) = budget(1000);
    let one = serving(&budget, "one", 1, None);
    one.settle(row(500, 500)).unwrap();
    let large = budget.join("large", (1, None), Vec::new());
    large.weighs(100);
    let expected = |model: &str, lane_bytes, row_bytes| {
        let (weight_bytes, limit_bytes) = (100, 1000);
        TooLittle::Lane { model: model.into(), weight_bytes, limit_bytes, lane_bytes, row_bytes }
    };
    let error = large.settle(row(1, 1)).unwrap_err();
    assert_eq!(error, expected("one", 400, 500));
    assert!(error.to_string().starts_with("the weights of all models hold 100 of 1000 bytes, which leaves 400 "));
    drop(large);
    let instead = budget.join("large", (1, None), vec![one.number()]);
    instead.weighs(100);
    assert_eq!(instead.settle(row(850, 1)), Err(expected("large", 800, 850)));
    assert_eq!(instead.settle(row(600, 10_000)), Ok(()), "in the other one's place");
}

#[test]
fn a_version_in_the_place_of_another_is_judged_as_if_that_had_gone() {
    let (_, budget) = budget(1000);
    let (one, other) = (serving(&budget, "m", 1, None), serving(&budget, "n", 1, None));
    one.weighs(300);
    other.settle(row(1, 340)).unwrap();
    one.settle(row(1, 340)).unwrap();
    let new = budget.join("m", (1, None), vec![one.number()]);
    new.weighs(300);
    assert_eq!(new.settle(row(1, 340)), Ok(()));
    one.retire();
    new.serve();
    drop(one);
    let third = budget.join("third", (1, None), Vec::new());
    let refused = third.settle(row(1, 1)).unwrap_err();
    assert!(matches!(refused, TooLittle::Lane { row_bytes: 340, .. }), "what fits is kept over a swap: {refused}");
}

#[test]
fn the_largest_row_that_fits_is_to_fit_as_long_as_its_model_serves() {
    let (_, budget) = budget(1000);
    let one = serving(&budget, "one", 1, None);
    one.settle(row(10, 600)).unwrap();
    let two = budget.join("two", (1, None), Vec::new());
    assert!(matches!(two.settle(row(10, 10)), Err(TooLittle::Lane { row_bytes: 600, lane_bytes: 500, .. })));
    one.settle(row(10, 1001)).unwrap();
    assert_eq!(two.settle(row(10, 10)), Ok(()), "what does not fit is nobody's loss");
}

#[test]
fn what_fits_at_the_start_does_not_depend_on_the_order() {
    let (_, budget) = budget(1000);
    let (first, second) = (budget.join("a", (1, None), Vec::new()), budget.join("b", (1, None), Vec::new()));
    assert_eq!((first.settle(row(10, 600)), second.settle(row(10, 100))), (Ok(()), Ok(())));
    first.serve();
    second.serve();
    assert_eq!((first.lane_bytes(), second.lane_bytes()), (500, 500));
}

#[test]
fn no_more_is_promised_than_there_is() {
    let (_, budget) = budget(1000);
    let fits = serving(&budget, "fits", 2, Some(200));
    fits.weighs(500);
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
