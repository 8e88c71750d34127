//! How long batches of a model take here, and how much memory: measured once, kept in `data/profiles`, asked for every batch.
//!
//! Owns the measurements and their file; refuses to know what runs (a closure) and when. A file that is missing,
//! damaged or of another model, device or release is measured again, never trusted in part.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    backend::{BackendError, Cause},
    budget::RowBytes,
};

/// The faster one of these counts: other load on the machine only ever adds.
const COUNTED_RUNS: usize = 2;
/// The batch that shows what a further row costs; where a row alone takes long, two of them show it well enough.
const SAMPLE_ROWS: usize = 4;
const SAMPLE_SLOW_ROWS: usize = 2;
const SLOW_ROW_US: f64 = 20_000.0;
/// Larger batches are measured, each twice the one before, while they should take no longer than this: what a further row
/// costs may change with the size.
const SAMPLE_US: f64 = 100_000.0;
/// Measuring ends here even if buckets are left; predictions then go on from the last one measured.
const MEASURING_LIMIT: Duration = Duration::from_secs(20);

/// Raised when a profile says more than before, so that older ones are measured again.
const FORM: u32 = 3;

/// What the times are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    /// The model file's digest.
    pub(super) model: String,
    /// Where it ran.
    pub(super) device: String,
    /// Release and threads of the backend.
    pub(super) backend: String,
}

/// Batches whose rows are padded to one extent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Curve {
    /// Padded elements of a row: the product of the extents.
    pub(super) elements: u64,
    /// Microseconds for a batch of one row.
    pub(super) first_us: f64,
    /// Microseconds for each further row of a small batch.
    pub(super) further_us: f64,
    /// Rows and microseconds of larger batches, ascending; the first is what `further_us` was found with.
    pub(super) larger: Vec<(usize, f64)>,
    /// Bytes for a batch of one row; `None` where nobody counts.
    pub(super) first_bytes: Option<u64>,
    /// Bytes for each further row.
    pub(super) further_bytes: Option<u64>,
}

/// A batch to run and look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    /// How many rows.
    pub(super) rows: usize,
    /// The extents of each.
    pub(super) lengths: &'a [u64],
    /// Whether what earlier ones left behind should go first.
    pub(super) fresh: bool,
}

/// What a batch took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) time: Duration,
    /// `None` where nobody counts.
    pub(super) bytes: Option<u64>,
}

impl Taken {
    /// Other load on the machine only adds time, what is left over from earlier batches only hides bytes.
    fn and(self, other: Self) -> Self {
        Self { time: self.time.min(other.time), bytes: self.bytes.max(other.bytes) }
    }
}

impl Curve {
    fn measure(
        lengths: &[u64],
        most_rows: usize,
        run: &mut impl FnMut(Sample<'_>) -> Result<Taken, BackendError>,
    ) -> Result<(Self, bool), BackendError> {
        let mut sample = |rows| -> Result<Taken, BackendError> {
            let mut taken = run(Sample { rows, lengths, fresh: true })?;
            for _ in 1..COUNTED_RUNS {
                taken = taken.and(run(Sample { rows, lengths, fresh: false })?);
            }
            Ok(taken)
        };
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let first = sample(1)?;
        let first_us = us(first.time);
        let rows = if first_us > SLOW_ROW_US { SAMPLE_SLOW_ROWS } else { SAMPLE_ROWS }.min(most_rows);
        let several = if rows > 1 { sample(rows).map(Some) } else { Ok(None) };
        let several = several.or_else(|error| match error.cause {
            // Then each is taken to need what the first needs: no other batch will be made.
            Cause::OutOfMemory(_) => Ok(None),
            _ => Err(error),
        })?;
        let further = rows.saturating_sub(1) as u64;
        let further_us =
            several.map_or(first_us, |several| (us(several.time) - first_us).max(0.0) / further.max(1) as f64);
        let further_bytes = match several {
            None => first.bytes,
            Some(several) => several
                .bytes
                .zip(first.bytes)
                .map(|(several, first)| several.saturating_sub(first).div_ceil(further.max(1))),
        };
        let mut larger: Vec<(usize, f64)> = several.iter().map(|several| (rows, us(several.time))).collect();
        let mut is_short = false;
        let next = |larger: &[(usize, f64)]| {
            let (rows, us) = larger.last()?;
            (2 * rows <= most_rows && 2.0 * us <= SAMPLE_US).then_some(2 * rows)
        };
        while let Some(rows) = next(&larger) {
            match sample(rows) {
                Ok(taken) => larger.push((rows, us(taken.time))),
                Err(error) if error.short().is_some() => {
                    is_short = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let elements = lengths.iter().product();
        let is_whole = (rows < 2 || several.is_some()) && !is_short;
        Ok((Self { elements, first_us, further_us, larger, first_bytes: first.bytes, further_bytes }, is_whole))
    }

    /// Microseconds for a batch: in proportion between two that were measured, and beyond the last as between the last two.
    fn us(&self, rows: usize) -> f64 {
        let (mut before, mut each) = ((1, self.first_us), self.further_us);
        for point in &self.larger {
            each = (point.1 - before.1) / (point.0 - before.0).max(1) as f64;
            if rows <= point.0 {
                break;
            }
            before = *point;
        }
        before.1 + each.max(0.0) * rows.saturating_sub(before.0) as f64
    }
}

/// What batches of one model take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    form: u32,
    key: Key,
    /// By elements, ascending.
    curves: Vec<Curve>,
    /// Whether it may be kept: not where there was too little memory for what was to be measured.
    #[serde(skip)]
    is_whole: bool,
}

impl Profile {
    /// From measured curves, in any order.
    pub(super) fn new(key: Key, mut curves: Vec<Curve>) -> Self {
        curves.sort_by_key(|curve| curve.elements);
        Self { form: FORM, key, curves, is_whole: true }
    }

    /// What was measured, by elements, ascending.
    pub(super) fn curves(&self) -> &[Curve] {
        &self.curves
    }

    /// The curve that speaks for rows of so many elements, and by how much they are beyond it. Between two buckets the
    /// larger one speaks; beyond the last, in proportion.
    fn curve(&self, elements: u64) -> Option<(&Curve, f64)> {
        let at = self.curves.partition_point(|curve| curve.elements < elements);
        let curve = self.curves.get(at).or(self.curves.last())?;
        Some((curve, (elements as f64 / curve.elements.max(1) as f64).max(1.0)))
    }

    /// How much memory a batch will need at most; `None` where nobody counted.
    pub(super) fn predict_bytes(&self, rows: usize, elements: u64) -> Option<u64> {
        let (curve, beyond) = self.curve(elements)?;
        let further = curve.further_bytes?.saturating_mul(rows.saturating_sub(1) as u64);
        Some((curve.first_bytes?.saturating_add(further) as f64 * beyond) as u64)
    }

    /// Whether it predicts memory.
    pub(super) fn counts_bytes(&self) -> bool {
        self.predict_bytes(1, 1).is_some()
    }

    /// What the smallest row needs, and one of so many elements.
    pub(super) fn row_bytes(&self, largest: u64) -> RowBytes {
        let bytes = |elements| self.predict_bytes(1, elements).unwrap_or_default();
        RowBytes { smallest: bytes(1), largest: bytes(largest) }
    }

    /// Whether it may stand for the model from now on.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// How long a batch will take.
    pub(super) fn predict(&self, rows: usize, elements: u64) -> Option<Duration> {
        let (curve, beyond) = self.curve(elements)?;
        Duration::try_from_secs_f64(curve.us(rows) * beyond / 1e6).ok()
    }

    /// Measures every shape of `buckets` (the extents of a row). `run` runs rows of such extents; the model has been run
    /// before, so that no first run is counted. A bucket whose row does not fit ends it, unless it is the first.
    pub(super) fn measure(
        key: Key,
        buckets: &[Vec<u64>],
        most_rows: usize,
        mut run: impl FnMut(Sample<'_>) -> Result<Taken, BackendError>,
    ) -> Result<Self, BackendError> {
        let begun = Instant::now();
        let mut profile = Self::new(key, Vec::new());
        for lengths in buckets {
            if begun.elapsed() > MEASURING_LIMIT && !profile.curves.is_empty() {
                break;
            }
            match Curve::measure(lengths, most_rows, &mut run) {
                Ok((curve, is_whole)) => {
                    // Where there was no memory for several rows, another day may have it.
                    profile.is_whole &= is_whole;
                    profile.curves.push(curve);
                }
                Err(error) if error.short().is_some() && !profile.curves.is_empty() => {
                    tracing::warn!(?lengths, %error, "rows as long as this do not fit in the memory of a lane");
                    profile.is_whole = false;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        profile.curves.sort_by_key(|curve| curve.elements);
        Ok(profile)
    }

    /// Reads a stored profile; `None` if there is none that holds.
    pub(super) fn read(folder: &Path, key: &Key) -> Option<Self> {
        let file = file(folder, key);
        let text = fs::read(&file).ok()?;
        match serde_json::from_slice::<Self>(&text) {
            Ok(profile) if profile.form == FORM && profile.key == *key && !profile.curves.is_empty() => {
                Some(Self { is_whole: true, ..profile })
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "a stored profile is unreadable: measuring again");
                None
            }
        }
    }

    /// Stores it: under another name first, so that a reader never sees half of it.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let file = file(folder, &self.key);
        let partial = file.with_extension(format!("{}.partial", std::process::id()));
        fs::write(&partial, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&partial, &file).inspect_err(|_| {
            // The error of the renaming is the one worth reporting.
            let _ = fs::remove_file(&partial);
        })
    }
}

fn file(folder: &Path, key: &Key) -> PathBuf {
    let name = blake3::hash(format!("{}\n{}\n{}", key.model, key.device, key.backend).as_bytes()).to_hex();
    folder.join(format!("{}.json", &name[..32]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Short;

    fn key() -> Key {
        Key { model: "m".into(), device: "cpu".into(), backend: "b".into() }
    }

    #[test]
    fn the_larger_bucket_speaks_and_the_last_one_for_all_beyond() {
        let curve = |elements, first_us| Curve {
            elements,
            first_us,
            further_us: first_us / 2.0,
            larger: Vec::new(),
            first_bytes: Some(first_us as u64 * 2),
            further_bytes: Some(first_us as u64),
        };
        let profile = Profile::new(key(), vec![curve(64, 4000.0), curve(16, 1000.0)]);
        let us = |rows, elements| profile.predict(rows, elements).unwrap().as_micros();
        assert_eq!((us(1, 8), us(1, 16), us(1, 17), us(3, 64), us(1, 128)), (1000, 1000, 4000, 8000, 8000));
        let bytes = |rows, elements| profile.predict_bytes(rows, elements).unwrap();
        assert_eq!((bytes(1, 8), bytes(3, 64), bytes(1, 128)), (2000, 16000, 16000));
        let empty = Profile::new(key(), Vec::new());
        assert_eq!((empty.predict(1, 1), empty.predict_bytes(1, 1)), (None, None));
    }

    #[test]
    fn every_bucket_is_run_alone_and_in_company() {
        let mut runs = 0;
        let run = |Sample { rows, lengths, .. }: Sample<'_>| {
            runs += 1;
            let size = rows as u64 * lengths[0];
            Ok(Taken { time: Duration::from_millis(size), bytes: Some(100 + size) })
        };
        let profile = Profile::measure(key(), &[vec![2], vec![4]], 32, run).unwrap();
        let expected = Curve {
            elements: 4,
            first_us: 4000.0,
            further_us: 4000.0,
            larger: vec![(4, 16_000.0), (8, 32_000.0), (16, 64_000.0)],
            first_bytes: Some(104),
            further_bytes: Some(4),
        };
        assert_eq!((&profile.curves[1], profile.is_whole()), (&expected, true));
        // Of the shorter one also the largest, which should take no more than a tenth of a second.
        assert_eq!(runs, (5 + 4) * COUNTED_RUNS);
        assert!(Profile::measure(key(), &[vec![2]], 1, |_| Err(BackendError::threw("no"))).is_err());
    }

    #[test]
    fn a_further_row_may_cost_more_the_larger_the_batch() {
        let larger = vec![(2, 3000.0), (4, 5000.0), (8, 13_000.0)];
        let bytes = (None, None);
        let (first_bytes, further_bytes) = bytes;
        let curve = Curve { elements: 1, first_us: 2000.0, further_us: 1000.0, larger, first_bytes, further_bytes };
        let profile = Profile::new(key(), vec![curve]);
        let ms = [1, 2, 3, 4, 6, 8, 10].map(|rows| profile.predict(rows, 1).unwrap().as_millis());
        assert_eq!(ms, [2, 3, 4, 5, 9, 13, 17]);
    }

    #[test]
    fn buckets_that_do_not_fit_are_left_out_and_the_rest_is_not_kept() {
        let run = |room: u64| {
            move |Sample { rows, lengths, .. }: Sample<'_>| {
                let size = rows as u64 * lengths[0];
                let short = || BackendError::out_of_memory(Short::Lane, "too much");
                let taken = Taken { time: Duration::from_millis(1), bytes: Some(size) };
                if size > room { Err(short()) } else { Ok(taken) }
            }
        };
        let measure = |room| Profile::measure(key(), &[vec![2], vec![4], vec![8]], 32, run(room));
        let profile = measure(5).unwrap();
        assert_eq!((profile.curves.len(), profile.is_whole()), (2, false));
        // Four rows of two did not fit either: each further one is taken for a first one.
        assert_eq!(
            (profile.predict_bytes(2, 2), profile.row_bytes(2)),
            (Some(4), RowBytes { smallest: 2, largest: 2 })
        );
        assert!(measure(1).is_err());
    }

    #[test]
    fn a_stored_profile_is_whole_and_ones_own_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Profile::read(folder.path(), &key()), None);
        let curve = Curve {
            elements: 1,
            first_us: 1.5,
            further_us: 0.5,
            larger: vec![(2, 2.0)],
            first_bytes: Some(7),
            further_bytes: None,
        };
        let profile = Profile::new(key(), vec![curve]);
        profile.write(folder.path()).unwrap();
        assert_eq!(Profile::read(folder.path(), &key()), Some(profile));
        assert_eq!(Profile::read(folder.path(), &Key { backend: "c".into(), ..key() }), None);
        // One of an earlier release, then half a file.
        let old = fs::read_to_string(file(folder.path(), &key())).unwrap().replace("\"form\": 3,", "");
        fs::write(file(folder.path(), &key()), old).unwrap();
        assert_eq!(Profile::read(folder.path(), &key()), None);
        fs::write(file(folder.path(), &key()), "{\"key\":").unwrap();
        assert_eq!(Profile::read(folder.path(), &key()), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
