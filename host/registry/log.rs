//! The log: numbered records, each created once and read for ever. Owns names and order; refuses to know what records
//! do. There are no holes: record n+1 is created only by a host that has read record n.

use futures_util::{StreamExt, stream};
use object_store::path::Path;

use super::{
    bounds,
    change::Record,
    error::{Refused, RegistryError},
    store::{Creation, LOG, Store},
};

/// Records asked for at once when there are many to read: a shared store answers each after milliseconds.
const AHEAD: usize = 16;

/// A place in the log as a name that sorts.
pub(super) fn path(n: u64) -> Path {
    Path::from(format!("{LOG}/{n:020}.json"))
}

/// Record `n`, if it is there.
pub(super) async fn read(store: &Store, n: u64) -> Result<Option<Record>, RegistryError> {
    let text = store.read(&path(n), bounds::RECORD_BYTES).await?;
    text.map(|text| Record::read(n, &text)).transpose()
}

/// The records from `first` on, up to `most` of them. The first is asked for alone: mostly there is none.
pub(super) async fn read_from(store: &Store, first: u64, most: usize) -> Result<Vec<Record>, RegistryError> {
    let mut records = Vec::new();
    let Some(record) = read(store, first).await?.filter(|_| most > 0) else { return Ok(records) };
    records.push(record);
    let last = first.saturating_add(most as u64);
    // What comes after a hole was created since the hole was looked at: it is read the next time.
    let mut more = stream::iter(first.saturating_add(1)..last).map(|n| read(store, n)).buffered(AHEAD);
    // What cannot be read ends the reading here, and is an error when it is asked for as the first.
    while let Some(Ok(Some(record))) = more.next().await {
        records.push(record);
    }
    Ok(records)
}

/// The record as it will lie in the log, unless it is too long for one.
pub(super) fn encoded(record: &Record) -> Result<Vec<u8>, Refused> {
    let text = serde_json::to_vec(record).map_err(|error| Refused::invalid(error.to_string()))?;
    if text.len() as u64 > bounds::RECORD_BYTES {
        return Err(Refused::invalid(format!(
            "a change has at most {} bytes, not {}",
            bounds::RECORD_BYTES,
            text.len()
        )));
    }
    Ok(text)
}

/// Creates a record. Once that is acknowledged it is there for good.
pub(super) async fn create(store: &Store, n: u64, text: Vec<u8>) -> Result<Creation, object_store::Error> {
    store.create(&path(n), text).await
}

#[cfg(test)]
mod tests {
    use super::super::{
        Config,
        change::{Author, Change},
    };
    use super::*;

    #[tokio::test]
    async fn records_are_read_up_to_the_first_hole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Config::default(), folder.path()).await.unwrap();
        let author = Author { by: "operator".into(), why: None };
        for n in (1..=40).chain(42..=43) {
            let record = Record::new(n, 1, &author, Change::KeyRevoked { id: "a".into() }).unwrap();
            create(&store, n, encoded(&record).unwrap()).await.unwrap();
        }
        for (first, most, expected) in [(1, 100, 40), (1, 5, 5), (40, 9, 1), (41, 9, 0), (1, 0, 0), (u64::MAX, 2, 0)] {
            let numbers: Vec<u64> =
                read_from(&store, first, most).await.unwrap().iter().map(|record| record.n).collect();
            assert_eq!(numbers, (first..).take(expected).collect::<Vec<_>>());
        }
    }
}
