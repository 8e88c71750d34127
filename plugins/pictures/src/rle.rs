//! Masks as COCO's run lengths: lengths of stretches down the columns, outside and inside by turns, outside first.

/// The lengths of a mask whose bytes are 0 outside; none where there are more than `most`.
pub fn counts(mask: &[u8], width: u32, most: usize) -> Option<Vec<u32>> {
    let width = width as usize;
    let (mut counts, mut inside, mut length) = (Vec::new(), false, 0_u32);
    for x in 0..width {
        for pixel in mask.iter().skip(x).step_by(width) {
            if (*pixel != 0) != inside {
                if counts.len() + 1 >= most {
                    return None;
                }
                counts.push(length);
                (inside, length) = (!inside, 0);
            }
            length += 1;
        }
    }
    counts.push(length);
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(counts: &[u32], width: usize, height: usize) -> Vec<u8> {
        let inside = counts.iter().enumerate().flat_map(|(turn, count)| vec![turn % 2 == 1; *count as usize]);
        let mut mask = vec![0; width * height];
        for (place, inside) in inside.enumerate() {
            mask[place % height * width + place / height] = u8::from(inside);
        }
        mask
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(width in 1_usize..20, bits in proptest::collection::vec(0_u8..2, 1..300)) {
            let height = bits.len().div_ceil(width);
            let mut mask = bits;
            mask.resize(width * height, 0);
            let counts = counts(&mask, width as u32, 1000).unwrap();
            prop_assert_eq!(counts.iter().map(|count| *count as usize).sum::<usize>(), mask.len());
            prop_assert!(counts[1..].iter().all(|count| *count > 0));
            prop_assert_eq!(decoded(&counts, width, height), mask);
        }
    }

    #[test]
    fn as_coco_has_it() {
        // Three wide, two high: the second column, and the last pixel.
        assert_eq!(counts(&[0, 1, 0, 0, 1, 1], 3, 10), Some(vec![2, 2, 1, 1]));
        assert_eq!(counts(&[9, 0], 2, 10), Some(vec![0, 1, 1]), "outside comes first");
        assert_eq!(counts(&[1, 0, 1, 0], 4, 3), None);
    }
}
