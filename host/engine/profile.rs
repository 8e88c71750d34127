//! How long batches of a model take here: measured once, kept in `data/profiles`, asked for every batch.
//!
//! Owns the measurements and their file; refuses to know what runs (a closure) and when. A file that is missing,
//! damaged or of another model, device or release is measured again, never trusted in part.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::backend::BackendError;

/// The faster one of these counts: other load on the machine only ever adds.
const COUNTED_RUNS: usize = 2;
/// The batch that shows what a further row costs; where a row alone takes long, two of them show it well enough.
const SAMPLE_ROWS: usize = 4;
const SAMPLE_SLOW_ROWS: usize = 2;
const SLOW_ROW_US: f64 = 20_000.0;
/// Measuring ends here even if buckets are left; predictions then go on from the last one measured.
const MEASURING_LIMIT: Duration = Duration::from_secs(20);

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
    /// Microseconds for each further row.
    pub(super) further_us: f64,
}

/// The times of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    key: Key,
    /// By elements, ascending.
    curves: Vec<Curve>,
}

impl Profile {
    /// From measured curves, in any order.
    pub(super) fn new(key: Key, mut curves: Vec<Curve>) -> Self {
        curves.sort_by_key(|curve| curve.elements);
        Self { key, curves }
    }

    /// What was measured, by elements, ascending.
    pub(super) fn curves(&self) -> &[Curve] {
        &self.curves
    }

    /// How long a batch will take. Between two buckets the larger one speaks; beyond the last, in proportion.
    pub(super) fn predict(&self, rows: usize, elements: u64) -> Option<Duration> {
        let at = self.curves.partition_point(|curve| curve.elements < elements);
        let curve = self.curves.get(at).or(self.curves.last())?;
        let beyond = (elements as f64 / curve.elements.max(1) as f64).max(1.0);
        let us = (curve.first_us + curve.further_us * rows.saturating_sub(1) as f64) * beyond;
        Duration::try_from_secs_f64(us / 1e6).ok()
    }

    /// Measures every shape of `buckets` (the extents of a row). `run` runs rows of such extents and takes the time; the
    /// model has been run before, so that no first run is counted.
    pub(super) fn measure(
        key: Key,
        buckets: &[Vec<u64>],
        most_rows: usize,
        mut run: impl FnMut(usize, &[u64]) -> Result<Duration, BackendError>,
    ) -> Result<Self, BackendError> {
        let begun = Instant::now();
        let mut curves = Vec::new();
        for lengths in buckets {
            if begun.elapsed() > MEASURING_LIMIT && !curves.is_empty() {
                break;
            }
            let mut time = |rows| -> Result<f64, BackendError> {
                let mut fastest = run(rows, lengths)?;
                for _ in 1..COUNTED_RUNS {
                    fastest = fastest.min(run(rows, lengths)?);
                }
                Ok(fastest.as_secs_f64() * 1e6)
            };
            let first_us = time(1)?;
            let rows = if first_us > SLOW_ROW_US { SAMPLE_SLOW_ROWS } else { SAMPLE_ROWS }.min(most_rows);
            let further_us = if rows > 1 { (time(rows)? - first_us).max(0.0) / (rows - 1) as f64 } else { first_us };
            curves.push(Curve { elements: lengths.iter().product(), first_us, further_us });
        }
        Ok(Self::new(key, curves))
    }

    /// Reads a stored profile; `None` if there is none that holds.
    pub(super) fn read(folder: &Path, key: &Key) -> Option<Self> {
        let file = file(folder, key);
        let text = fs::read(&file).ok()?;
        match serde_json::from_slice::<Self>(&text) {
            Ok(profile) if profile.key == *key && !profile.curves.is_empty() => Some(profile),
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

    fn key() -> Key {
        Key { model: "m".into(), device: "cpu".into(), backend: "b".into() }
    }

    #[test]
    fn the_larger_bucket_speaks_and_the_last_one_for_all_beyond() {
        let curve = |elements, first_us| Curve { elements, first_us, further_us: first_us / 2.0 };
        let profile = Profile::new(key(), vec![curve(64, 4000.0), curve(16, 1000.0)]);
        let us = |rows, elements| profile.predict(rows, elements).unwrap().as_micros();
        assert_eq!((us(1, 8), us(1, 16), us(1, 17), us(3, 64), us(1, 128)), (1000, 1000, 4000, 8000, 8000));
        assert_eq!(Profile::new(key(), Vec::new()).predict(1, 1), None);
    }

    #[test]
    fn every_bucket_is_run_alone_and_in_company() {
        let mut runs = Vec::new();
        let run = |rows: usize, lengths: &[u64]| {
            runs.push((rows, lengths[0]));
            Ok(Duration::from_millis(rows as u64 * lengths[0]))
        };
        let profile = Profile::measure(key(), &[vec![2], vec![4]], 32, run).unwrap();
        assert_eq!(profile.curves[1], Curve { elements: 4, first_us: 4000.0, further_us: 4000.0 });
        assert_eq!(runs.len(), 2 * 2 * COUNTED_RUNS);
        assert!(Profile::measure(key(), &[vec![2]], 1, |_, _| Err(BackendError("no".into()))).is_err());
    }

    #[test]
    fn a_stored_profile_is_whole_and_ones_own_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Profile::read(folder.path(), &key()), None);
        let profile = Profile::new(key(), vec![Curve { elements: 1, first_us: 1.5, further_us: 0.5 }]);
        profile.write(folder.path()).unwrap();
        assert_eq!(Profile::read(folder.path(), &key()), Some(profile));
        assert_eq!(Profile::read(folder.path(), &Key { backend: "c".into(), ..key() }), None);
        fs::write(file(folder.path(), &key()), "{\"key\":").unwrap();
        assert_eq!(Profile::read(folder.path(), &key()), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
