//! Long documents in windows that overlap. Owns which tokens are in which window and whose answer counts: of all windows
//! that hold a token, the one that sees most around it. Pure.

use std::{cmp::Reverse, ops::Range};

/// How windows are laid out, in tokens of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Tokens of a window.
    pub(crate) size: usize,
    /// Tokens that neighbours share at least; less than `size`.
    pub(crate) overlap: usize,
}

impl Layout {
    /// The windows of so many tokens: all of `size`, or one of all tokens where they are fewer.
    pub(crate) fn windows(self, tokens: usize) -> Vec<Range<usize>> {
        if tokens == 0 {
            return Vec::new();
        }
        let step = self.size - self.overlap;
        let last = tokens.saturating_sub(self.size);
        let starts = (0..last).step_by(step).chain([last]);
        starts.map(|start| start..tokens.min(start + self.size)).collect()
    }

    /// How many windows there will be.
    pub(crate) fn count(self, tokens: usize) -> usize {
        match tokens {
            0 => 0,
            _ => tokens.saturating_sub(self.size).div_ceil(self.size - self.overlap) + 1,
        }
    }
}

/// For each token the window whose answer counts: the one in which the nearer edge is farthest; the edges of the document
/// are none. Of equal ones the first.
pub(crate) fn judges(windows: &[Range<usize>], tokens: usize) -> Vec<usize> {
    let room = |window: &Range<usize>, token: usize| {
        let left = if window.start == 0 { usize::MAX } else { token - window.start };
        let right = if window.end == tokens { usize::MAX } else { window.end - 1 - token };
        left.min(right)
    };
    let mut first = 0;
    (0..tokens)
        .map(|token| {
            while windows[first].end <= token {
                first += 1;
            }
            let holding = (first..windows.len()).take_while(|index| windows[*index].start <= token);
            // The first of equal ones, where `max_by_key` would take the last.
            holding.min_by_key(|index| Reverse(room(&windows[*index], token))).expect("a window holds every token")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_overlap_and_the_last_is_full() {
        let layout = Layout { size: 10, overlap: 4 };
        assert!(layout.windows(0).is_empty());
        assert_eq!(layout.windows(10), [0..10]);
        assert_eq!(layout.windows(11), [0..10, 1..11]);
        assert_eq!(layout.windows(23), [0..10, 6..16, 12..22, 13..23]);
    }

    #[test]
    fn the_window_with_most_around_a_token_judges() {
        let windows = [0..10, 6..16];
        assert_eq!(judges(&windows, 16), [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    }

    proptest! {
        #[test]
        fn every_token_is_judged_by_the_best_of_the_windows_that_hold_it(
            tokens in 0_usize..600, size in 2_usize..70, overlap in 0_usize..69,
        ) {
            let layout = Layout { size, overlap: overlap.min(size - 1) };
            let windows = layout.windows(tokens);
            prop_assert_eq!(windows.len(), layout.count(tokens));
            prop_assert!(windows.iter().all(|window| window.len() == size.min(tokens)));
            let shares = |pair: &[Range<usize>]| pair[0].end >= pair[1].start + layout.overlap;
            prop_assert!(windows.windows(2).all(shares));
            let judges = judges(&windows, tokens);
            prop_assert_eq!(judges.len(), tokens);
            for (token, judge) in judges.into_iter().enumerate() {
                let edge = |window: &Range<usize>| {
                    let left = if window.start == 0 { tokens } else { token - window.start };
                    let right = if window.end == tokens { tokens } else { window.end - 1 - token };
                    left.min(right)
                };
                let holding = windows.iter().filter(|window| window.contains(&token));
                prop_assert!(windows[judge].contains(&token));
                prop_assert_eq!(Some(edge(&windows[judge])), holding.map(edge).max());
            }
        }
    }
}
