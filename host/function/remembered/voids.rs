//! How often tenants make single names void. Owns the bound: a host remembers only so many void names for all tenants, and
//! who names thousands would push out those of others, for whom more would be void than they said.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Names that one tenant makes void in a minute; from there on all that it has is void, which is one name.
const MOST_NAMES: usize = 512;
const MINUTE: Duration = Duration::from_secs(60);
/// Tenants that are told apart.
const MOST_TENANTS: usize = 4096;

/// What tenants made void lately.
#[derive(Debug, Default)]
pub(super) struct Voids(Mutex<HashMap<Box<str>, (Instant, usize)>>);

impl Voids {
    /// Whether a tenant may make so many single names void now.
    pub(super) fn may(&self, tenant: &str, names: usize, now: Instant) -> bool {
        // Numbers that are an estimate anyway.
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= MOST_TENANTS {
            lately.retain(|_, (since, _)| now.saturating_duration_since(*since) < MINUTE);
        }
        if lately.len() >= MOST_TENANTS && !lately.contains_key(tenant) {
            return false;
        }
        let (since, count) = lately.entry(tenant.into()).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= MINUTE {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(names);
        *count <= MOST_NAMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_names_so_many_in_a_minute_and_no_more() {
        let (voids, start) = (Voids::default(), Instant::now());
        assert!((0..MOST_NAMES / 16).all(|_| voids.may("a", 16, start)));
        assert!(!voids.may("a", 1, start) && voids.may("b", 16, start));
        assert!(!voids.may("a", 1, start + MINUTE / 2) && voids.may("a", 1, start + MINUTE));
    }

    #[test]
    fn tenants_are_bounded() {
        let (voids, start) = (Voids::default(), Instant::now());
        assert!((0..MOST_TENANTS).all(|tenant| voids.may(&tenant.to_string(), 1, start)));
        assert!(!voids.may("one more", 1, start) && voids.may("7", 1, start));
        assert!(voids.may("one more", 1, start + MINUTE));
    }
}
