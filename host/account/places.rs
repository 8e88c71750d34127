//! Places for invocations that a tenant holds, beside what it holds in bytes.
//!
//! Owns the count and the rule by which a tenant may take one more; refuses to know what places are and how many there
//! are. The rule is a dynamic threshold (Choudhury and Hahne, 1998): who may hold only so many times what is free always
//! leaves something free, a tenant alone still gets nearly all, and the more tenants want some, the less each may hold.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many times what is free a tenant may hold: one alone gets 8 of 9 places.
const TIMES_FREE: usize = 8;

/// The places that one tenant holds.
#[derive(Debug, Default)]
pub struct Places(Arc<AtomicUsize>);

/// One of them, given back when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Places {
    /// Takes one more while so many are free in all, and fewer than `most` are held, or says how many are.
    pub fn take(&self, free: usize, most: usize) -> Result<Place, usize> {
        let allowed = |held: usize| (held < TIMES_FREE.saturating_mul(free).min(most)).then_some(held + 1);
        self.0.try_update(Relaxed, Relaxed, allowed)?;
        Ok(Place(self.0.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of so many tenants takes what it gets, in turns, until nobody gets more.
    fn taken(places: usize, tenants: usize) -> Vec<usize> {
        let tenants: Vec<_> = (0..tenants).map(|_| (Places::default(), Vec::new())).collect();
        let mut tenants = tenants;
        let mut free = places;
        loop {
            let before = free;
            for (held, mine) in &mut tenants {
                if let Ok(place) = held.take(free, usize::MAX) {
                    mine.push(place);
                    free -= 1;
                }
            }
            if free == before {
                return tenants.iter().map(|(_, mine)| mine.len()).collect();
            }
        }
    }

    #[test]
    fn nobody_gets_all_and_one_alone_gets_nearly_all() {
        assert_eq!(taken(512, 1), [456]);
        assert_eq!(taken(512, 2), [241, 241]);
        assert!(taken(512, 64).iter().all(|held| *held >= 7));
        // Where there are few, one more or less is all there is to share.
        assert_eq!((taken(1, 1), taken(8, 1), taken(9, 1)), (vec![1], vec![8], vec![8]));
    }

    #[test]
    fn a_tenant_may_be_held_to_fewer() {
        let places = Places::default();
        let held: Vec<_> = (0..8).map_while(|_| places.take(64, 3).ok()).collect();
        assert_eq!((held.len(), places.take(64, 3).unwrap_err()), (3, 3));
        assert!(places.take(64, 4).is_ok(), "a limit may be raised");
    }

    #[test]
    fn who_comes_later_finds_room_and_what_is_given_back_is_free() {
        let (greedy, late) = (Places::default(), Places::default());
        let mut held: Vec<_> = (0..56).map_while(|taken| greedy.take(64 - taken, usize::MAX).ok()).collect();
        held.extend(greedy.take(8, usize::MAX));
        assert_eq!((held.len(), greedy.take(7, usize::MAX).unwrap_err()), (57, 57));
        let _place = late.take(7, usize::MAX).unwrap();
        assert!(greedy.take(6, usize::MAX).is_err(), "what is left is for others");
        held.truncate(40);
        assert!(greedy.take(23, usize::MAX).is_ok());
    }
}
