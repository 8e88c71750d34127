//! Snapshots: the whole state after every thousandth record, so that opening reads few records. Owns their form and how
//! damage is noticed; a snapshot that cannot be trusted is passed over, since the log has everything.

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;

use super::{
    error::RegistryError,
    state::State,
    store::{SNAPSHOTS, Store},
};

/// Records between two snapshots.
const EVERY: u64 = 1000;
/// A larger state is read from the log instead.
const MOST_BYTES: u64 = 256 << 20;
/// Grows when what the fold makes of old records changes: a snapshot of another form would lack what is new.
const FORM: u32 = 1;
/// Snapshots tried, newest first, before the whole log is read.
const TRIES: usize = 8;

/// Whether a snapshot is due after a record.
pub(super) fn due(n: u64) -> bool {
    n.is_multiple_of(EVERY)
}

fn path(n: u64) -> Path {
    Path::from(format!("{SNAPSHOTS}/{n:020}.json"))
}

/// What stands before the state: valid JSON together with it, and byte for byte what the digest is checked by.
fn opening(state: &[u8]) -> String {
    format!(r#"{{"form":{FORM},"blake3":"{}","state":"#, blake3::hash(state).to_hex())
}

pub(super) async fn write(store: &Store, state: &State) -> Result<(), RegistryError> {
    let broken = |error: serde_json::Error| RegistryError::Record { n: state.n, detail: error.to_string() };
    let text = serde_json::to_vec(state).map_err(broken)?;
    let mut snapshot = opening(&text).into_bytes();
    snapshot.extend(text);
    snapshot.push(b'}');
    if snapshot.len() as u64 > MOST_BYTES {
        return Err(RegistryError::TooLarge { what: path(state.n).to_string(), most_bytes: MOST_BYTES });
    }
    store.write(&path(state.n), Bytes::from(snapshot)).await
}

/// The state of the newest snapshot that is sound; the empty state if there is none.
pub(super) async fn newest(store: &Store) -> Result<State, RegistryError> {
    let listed: Vec<_> = store.list(SNAPSHOTS).try_collect().await?;
    let mut numbers: Vec<u64> = listed.iter().filter_map(|entry| number(&entry.location)).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    for n in numbers.into_iter().take(TRIES) {
        let read = match store.read(&path(n), MOST_BYTES).await {
            Err(error @ RegistryError::Store { .. }) => return Err(error),
            Err(error) => Err(error.to_string()),
            Ok(text) => sound(n, &text.unwrap_or_default()),
        };
        match read {
            Ok(state) => return Ok(state),
            Err(detail) => tracing::warn!(n, detail, "a snapshot of the registry is passed over"),
        }
    }
    Ok(State::default())
}

fn sound(n: u64, text: &[u8]) -> Result<State, String> {
    // The opening's length does not depend on the state.
    let length = opening(b"").len();
    let state = text.get(length..).and_then(|rest| rest.strip_suffix(b"}")).ok_or("it is cut off")?;
    if text[..length] != *opening(state).as_bytes() {
        return Err("it is damaged or of another form".into());
    }
    let state: State = serde_json::from_slice(state).map_err(|error| error.to_string())?;
    if state.n != n {
        return Err(format!("it says that it was taken after record {}", state.n));
    }
    Ok(state)
}

fn number(path: &Path) -> Option<u64> {
    path.filename()?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[tokio::test]
    async fn a_damaged_snapshot_gives_way_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Config::default(), folder.path()).await.unwrap();
        assert_eq!(newest(&store).await.unwrap(), State::default());
        for n in [1000, 2000] {
            write(&store, &State { n, ..State::default() }).await.unwrap();
        }
        assert_eq!(newest(&store).await.unwrap().n, 2000);
        let text = store.read(&path(2000), MOST_BYTES).await.unwrap().unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap();
        for place in 0..text.len() {
            let mut damaged = text.to_vec();
            damaged[place] ^= 1;
            assert!(sound(2000, &damaged).is_err(), "byte {place}");
            assert!(sound(2000, &text[..place]).is_err(), "cut at {place}");
        }
        assert!(sound(3000, &text).is_err());
        store.write(&path(2000), text.slice(..text.len() - 2)).await.unwrap();
        assert_eq!(newest(&store).await.unwrap().n, 1000);
    }
}
