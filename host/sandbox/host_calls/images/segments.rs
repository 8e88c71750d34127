//! A JPEG's segments, followed from the beginning to the end before anything is decoded: how many there are, how much they
//! hold, in how many scans the image comes. The decoder works through whatever it finds, some of it again and again, so
//! there are bounds to all of that; and it follows segments more leniently, so whatever two readers could follow in two ways
//! is refused.

use super::open::Unreadable;

/// The most scans: encoders make some ten. Each is a pass over the whole image.
pub(super) const MAX_SCANS: usize = 24;
/// The most segments; metadata that comes in many pieces is put together anew after each.
const MAX_SEGMENTS: usize = 1000;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const PROGRESSIVE: u8 = 0xc2;

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Segments {
    /// All coefficients are kept until the end: progressive, or one component after the other.
    pub(super) keeps_coefficients: bool,
    /// Of all segments.
    pub(super) bytes: usize,
}

impl Segments {
    pub(super) fn of(file: &[u8]) -> Result<Self, Unreadable> {
        const DAMAGED: Unreadable = Unreadable(std::borrow::Cow::Borrowed("the JPEG is damaged between its parts"));
        let mut rest = file.strip_prefix(&[0xff, START_OF_IMAGE]).ok_or(DAMAGED)?;
        let mut all = Self::default();
        let (mut components, mut count, mut scans) = (None, 0, 0);
        loop {
            let marker = next_marker(&mut rest)?;
            match marker {
                END_OF_IMAGE if scans > 0 => return Ok(all),
                0xc0..=0xcf | START_OF_SCAN | 0xdb | 0xdd | 0xe0..=0xef | 0xfe => {}
                _ => return Err(DAMAGED),
            }
            let segment = next_segment(&mut rest)?;
            (all.bytes, count) = (all.bytes + segment.len(), count + 1);
            if count > MAX_SEGMENTS {
                return Err(Unreadable("the JPEG has more segments than are read".into()));
            }
            match marker {
                START_OF_SCAN => {
                    let together = components.is_some() && segment.first().copied() == components;
                    // Of one component after the other the first scan says enough.
                    all.keeps_coefficients |= scans == 0 && !together;
                    scans += 1;
                    if scans > MAX_SCANS {
                        return Err(Unreadable("the JPEG has more scans than are read".into()));
                    }
                    pass_over_scan(&mut rest);
                }
                // Tables (0xc4, 0xcc) are not frames.
                0xc0..=0xcf if marker & 3 != 0 || marker == 0xc0 => {
                    if scans > 0 {
                        return Err(DAMAGED);
                    }
                    all.keeps_coefficients |= marker == PROGRESSIVE;
                    components = segment.get(5).copied();
                }
                _ => {}
            }
        }
    }
}

const CUT_OFF: Unreadable = Unreadable(std::borrow::Cow::Borrowed("the JPEG is cut off"));

/// The marker that comes next, which nothing but its own filling may stand before.
fn next_marker(rest: &mut &[u8]) -> Result<u8, Unreadable> {
    while let [0xff, 0xff, ..] = rest {
        *rest = &rest[1..];
    }
    match *rest {
        [0xff, marker, ..] => {
            *rest = &rest[2..];
            Ok(*marker)
        }
        [] | [0xff] => Err(CUT_OFF),
        _ => Err(Unreadable("the JPEG is damaged between its parts".into())),
    }
}

/// What belongs to a marker, without its length.
fn next_segment<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Unreadable> {
    let [high, low, ..] = *rest else { return Err(CUT_OFF) };
    let length = usize::from(u16::from_be_bytes([*high, *low])).max(2);
    let segment = rest.get(2..length).ok_or(CUT_OFF)?;
    *rest = &rest[length..];
    Ok(segment)
}

/// Goes on to the marker that ends a scan: zeros behind 0xff are the scan's own, and so are restarts.
fn pass_over_scan(rest: &mut &[u8]) {
    while let Some(at) = memchr::memchr(0xff, rest) {
        *rest = &rest[at..];
        let filled = rest.iter().take_while(|byte| **byte == 0xff).count();
        match rest.get(filled) {
            Some(0 | 0xd0..=0xd7) => *rest = &rest[filled + 1..],
            _ => return,
        }
    }
    *rest = &[];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &length[..], content].concat()
    }

    fn frame(marker: u8) -> Vec<u8> {
        segment(marker, &[8, 0, 9, 0, 9, 3])
    }

    /// Whether coefficients are kept; none where it is refused.
    fn of(segments: &[Vec<u8>]) -> Option<bool> {
        let file = [&[0xff, 0xd8], &segments.concat()[..]].concat();
        Segments::of(&file).ok().map(|segments| segments.keeps_coefficients)
    }

    #[test]
    fn segments_tell_what_must_be_kept_and_whether_it_ends() {
        let (thumbnail, tables) = (segment(0xe1, &[0xff, 0xd9, 0xff, 0xda]), segment(0xc4, &[1; 20]));
        let scan = [segment(0xda, &[3]), vec![1, 0xff, 0, 2, 0xff, 0xd3, 3, 0xff, 0xff, 0, 4]].concat();
        let (one, end) = ([segment(0xda, &[1]), vec![7]].concat(), vec![0xff, 0xff, 0xd9, 0xff, 0xda]);
        assert_eq!(of(&[thumbnail.clone(), frame(0xc0), scan.clone(), end.clone()]), Some(false));
        assert_eq!(of(&[frame(0xc2), scan.clone(), tables.clone(), one.clone(), end.clone()]), Some(true));
        assert_eq!(of(&[tables, frame(0xc1), one.clone(), one, end.clone()]), Some(true), "one after the other");
        assert_eq!(of(&[thumbnail, frame(0xc0), scan.clone()]), None, "cut off");
        assert_eq!(of(&[frame(0xc0), vec![0xff, 0xc4, 0xff]]), None, "cut off in a segment");
        assert_eq!(of(&[frame(0xc0), vec![0], scan.clone(), end.clone()]), None, "something between");
        assert_eq!(of(&[vec![0xff, 0], frame(0xc0), scan.clone(), end.clone()]), None, "two ways to read it");
        assert_eq!(of(&[scan.clone(), frame(0xc0), end.clone()]), None, "a frame behind a scan");
        assert_eq!(of(&[end]), None, "nothing in it");
    }

    #[test]
    fn there_are_only_so_many() {
        let (scan, end) = ([segment(0xda, &[3]), vec![1]].concat(), vec![0xff, 0xd9]);
        let of_scans = |count: usize| of(&[frame(0xc0), scan.repeat(count), end.clone()]);
        assert_eq!((of_scans(MAX_SCANS), of_scans(MAX_SCANS + 1)), (Some(false), None));
        let of_comments =
            |count: usize| of(&[segment(0xfe, &[]).repeat(count), frame(0xc0), scan.clone(), end.clone()]);
        assert_eq!((of_comments(MAX_SEGMENTS - 2), of_comments(MAX_SEGMENTS - 1)), (Some(false), None));
    }
}
