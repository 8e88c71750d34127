//! The registry on a real folder: two hosts on one store, what is damaged, what is swept.

use std::{collections::BTreeSet, fs, path::PathBuf};

use bytes::Bytes;

use super::*;

/// What takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(10);

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}

fn operator() -> Author {
    Author { by: "operator".into(), why: None }
}

async fn open(folder: &Path) -> Arc<Registry> {
    Registry::open(&Config::default(), folder).await.unwrap()
}

fn tenant(name: &str) -> Change {
    Change::TenantSet { tenant: name.into(), settings: TenantSettings::default() }
}

async fn new(registry: &Registry, function: &str, component: &str) -> NewRevision {
    let manifest = registry.put_blob(Bytes::from_static(b"manifest")).await.unwrap();
    let component = registry.put_blob(Bytes::from(component.to_owned())).await.unwrap();
    let digest = component.digest.clone();
    NewRevision { tenant: "acme".into(), function: function.into(), manifest, component, digest }
}

fn all(_: Option<&FunctionState>, number: u64) -> Option<Split> {
    Some(Split::all(number))
}

fn file(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join("registry").join(name)
}

fn blob_file(folder: &tempfile::TempDir, blob: &BlobRef) -> PathBuf {
    file(folder, &format!("blobs/{}/{}", &blob.digest[..2], blob.digest))
}

#[tokio::test]
async fn what_is_changed_is_there_for_who_opens_later() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    let mut applied = registry.subscribe();
    let why = Some("w".repeat(1000));
    let state = registry.change(Author { by: "key_a".into(), why }, |_| Ok(tenant("acme"))).await.unwrap();
    assert_eq!((state.n, *applied.borrow_and_update()), (1, 1));
    let revision = new(&registry, "rank", "one").await;
    let added = registry.add_revision(operator(), revision, all).await.unwrap();
    assert_eq!((added.number, added.existed, added.state.n), (1, false, 2));
    let later = open(folder.path()).await;
    assert_eq!(*later.state(), *registry.state());
    let records = log::read_from(&later.store, 1, 10).await.unwrap();
    assert_eq!(
        records.iter().map(|record| (record.n, &record.by[..])).collect::<Vec<_>>(),
        [(1, "key_a"), (2, "operator")]
    );
    assert_eq!(records[0].why.as_ref().unwrap().len(), 512);
    assert_eq!(log::read_from(&later.store, 2, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_change_that_does_not_fit_leaves_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    let gone = |_: &State| Ok(Change::TenantRemoved { tenant: "acme".into() });
    let nobody = Author { by: String::new(), why: None };
    for (refused, code) in [
        (registry.change(operator(), gone).await, NOT_FOUND),
        (registry.change(operator(), |_| Err(Refused::conflict("not today"))).await, CONFLICT),
        (registry.change(nobody, |_| Ok(tenant("acme"))).await, INVALID),
    ] {
        assert!(matches!(refused, Err(ChangeError::Refused(refused)) if refused.code == code), "{code}");
    }
    assert_eq!(log::read_from(&registry.store, 1, 10).await.unwrap(), []);
}

#[tokio::test]
async fn the_same_revision_is_added_once() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    for (component, number, existed, n) in [
        ("one", 1, false, 1),
        ("one", 1, true, 1),
        ("two", 2, false, 2),
        // The old one again: no new revision, but traffic goes to it.
        ("one", 1, true, 3),
    ] {
        let revision = new(&registry, "rank", component).await;
        let added = registry.add_revision(operator(), revision, all).await.unwrap();
        assert_eq!((added.number, added.existed, added.state.n), (number, existed, n), "{component}");
        assert_eq!(added.state.function("acme", "rank").unwrap().traffic, Some(Split::all(number)));
    }
    let mut lacking = new(&registry, "rank", "three").await;
    fs::remove_file(blob_file(&folder, &lacking.component)).unwrap();
    let refused = registry.add_revision(operator(), lacking.clone(), all).await;
    assert!(matches!(refused, Err(ChangeError::Refused(Refused { code: INVALID, .. }))), "{refused:?}");
    lacking.component.digest = "../../etc/passwd".into();
    assert!(registry.add_revision(operator(), lacking, all).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_lose_no_change() {
    const EACH: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let hosts = [open(folder.path()).await, open(folder.path()).await];
    let mut working = tokio::task::JoinSet::new();
    for (i, host) in hosts.iter().cloned().enumerate() {
        working.spawn(async move {
            for j in 0..EACH {
                let wanted = format!("t{i}-{j}");
                let state = host.change(operator(), |_| Ok(tenant(&wanted))).await.unwrap();
                assert!(state.tenants.contains_key(&wanted));
            }
        });
    }
    while let Some(done) = working.join_next().await {
        done.unwrap();
    }
    for host in &hosts {
        assert_eq!(host.catch_up().await.unwrap(), 2 * EACH as u64);
        assert_eq!(host.state().tenants.len(), 2 * EACH);
    }
    assert_eq!(*hosts[0].state(), *hosts[1].state());
    assert_eq!(*open(folder.path()).await.state(), *hosts[0].state());
}

#[tokio::test]
async fn a_change_is_decided_again_on_what_another_host_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()).await, open(folder.path()).await);
    one.change(operator(), |_| Ok(tenant("acme"))).await.unwrap();
    // The first time both decide on the empty state.
    let mut seen = Vec::new();
    let decide = |state: &State| {
        seen.push(state.n);
        Ok(tenant("beta"))
    };
    assert_eq!(two.change(operator(), decide).await.unwrap().n, 2);
    assert_eq!(seen, [0, 1]);
    // A refusal on what is behind is none.
    assert_eq!(one.state().n, 1);
    one.change(operator(), |_| Ok(Change::TenantRemoved { tenant: "beta".into() })).await.unwrap();
    // Nor is what was so before another host changed it.
    let revision = new(&one, "rank", "one").await;
    one.add_revision(operator(), revision.clone(), all).await.unwrap();
    two.catch_up().await.unwrap();
    one.change(operator(), |_| Ok(Change::FunctionRemoved { tenant: "acme".into(), function: "rank".into() }))
        .await
        .unwrap();
    let added = two.add_revision(operator(), revision, all).await.unwrap();
    assert_eq!((added.number, added.existed, added.state.n), (2, false, 6));
}

#[tokio::test]
async fn its_own_record_is_known_again() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()).await, open(folder.path()).await);
    let record = Record::new(1, 1, &operator(), tenant("acme")).unwrap();
    log::create(&one.store, 1, log::encoded(&record).unwrap()).await.unwrap();
    assert!(two.is_there(&record).await.unwrap());
    let same_words = Record::new(1, 1, &operator(), tenant("acme")).unwrap();
    assert!(!two.is_there(&same_words).await.unwrap());
}

#[tokio::test]
async fn what_was_damaged_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    let large = vec![7_u8; 3 << 20];
    let blob = registry.put_blob(Bytes::from(large.clone())).await.unwrap();
    assert_eq!(registry.blob(&blob).await.unwrap(), large);
    for damaged in [&large[1..], &[&large[1..], &[8][..]].concat(), &[&large[..], &[7][..]].concat()] {
        fs::write(blob_file(&folder, &blob), damaged).unwrap();
        let error = registry.blob(&blob).await.unwrap_err();
        assert!(matches!(error, RegistryError::Damaged { .. }), "{error}");
    }
    registry.put_blob(Bytes::from(large)).await.unwrap();
    registry.blob(&blob).await.unwrap();
    for digest in [BlobRef::of(b"other").digest, "../x".into(), String::new(), "é".into()] {
        let error = registry.blob(&BlobRef { digest, bytes: 5 }).await.unwrap_err();
        assert!(matches!(error, RegistryError::Missing { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_changes_and_keeps_the_last_state() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()).await, open(folder.path()).await);
    for name in ["a", "b", "c"] {
        one.change(operator(), |_| Ok(tenant(name))).await.unwrap();
    }
    fs::write(file(&folder, "log/00000000000000000003.json"), "{").unwrap();
    let error = two.catch_up().await.unwrap_err();
    assert!(error.to_string().starts_with("record 3 of the registry cannot be read"), "{error}");
    assert_eq!(two.state().n, 2, "what is before it counts");
    assert!(two.change(operator(), |_| Ok(tenant("d"))).await.is_err());
    assert!(two.sweep(Duration::ZERO).await.is_err(), "who is behind deletes nothing");
    assert!(Registry::open(&Config::default(), folder.path()).await.is_err());
}

#[tokio::test]
async fn following_tells_of_trouble_and_of_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()).await, open(folder.path()).await);
    let config = Config { poll_ms: 50, ..Config::default() };
    let follower = Registry::open(&config, folder.path()).await.unwrap();
    let stop = watch::Sender::new(false);
    let following = tokio::spawn(Arc::clone(&follower).follow(stop.subscribe()));
    let mut applied = follower.subscribe();
    one.change(operator(), |_| Ok(tenant("a"))).await.unwrap();
    timeout(PATIENCE, applied.wait_for(|n| *n == 1)).await.unwrap().unwrap();
    // Where the next record will be lies something that is none.
    let next = file(&folder, "log/00000000000000000002.json");
    fs::write(&next, "{").unwrap();
    until(|| follower.health().is_some()).await;
    assert!(follower.health().unwrap().starts_with("record 2 of the registry cannot be read"));
    fs::remove_file(&next).unwrap();
    two.change(operator(), |_| Ok(tenant("b"))).await.unwrap();
    timeout(PATIENCE, applied.wait_for(|n| *n == 2)).await.unwrap().unwrap();
    until(|| follower.health().is_none()).await;
    assert_eq!(one.hosts().await.unwrap().len(), 1);
    stop.send_replace(true);
    following.await.unwrap();
    assert_eq!(one.hosts().await.unwrap(), [], "a host that stops takes its note back");
}

#[tokio::test]
async fn what_nothing_names_is_swept_when_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()).await, open(folder.path()).await);
    let kept = new(&one, "rank", "kept").await;
    one.add_revision(operator(), kept.clone(), all).await.unwrap();
    let lost = one.put_blob(Bytes::from_static(b"lost")).await.unwrap();
    let cut_off =
        [file(&folder, "log/00000000000000000009.json#1"), file(&folder, &format!("blobs/00/{}#12", lost.digest))];
    for file in &cut_off {
        fs::write(file, "half").unwrap();
    }
    assert_eq!(one.sweep(Duration::from_secs(60)).await.unwrap(), Swept::default());
    // A host that has not read the record yet reads it first.
    assert_eq!(two.state().n, 0);
    let swept = two.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(swept, Swept { blobs: 1, temporary: 2, snapshots: 0, hosts: 0 });
    assert!(matches!(one.blob(&lost).await, Err(RegistryError::Missing { .. })));
    assert!(cut_off.iter().all(|file| !file.exists()));
    one.blob(&kept.component).await.unwrap();
    one.change(operator(), |_| Ok(Change::FunctionRemoved { tenant: "acme".into(), function: "rank".into() }))
        .await
        .unwrap();
    assert_eq!(one.sweep(Duration::ZERO).await.unwrap().blobs, 2);
}

#[tokio::test]
async fn a_blob_put_again_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    let blob = registry.put_blob(Bytes::from_static(b"x")).await.unwrap();
    let hour = Duration::from_secs(3600);
    let made_old = || {
        let file = fs::File::options().write(true).open(blob_file(&folder, &blob)).unwrap();
        file.set_modified(SystemTime::now() - 2 * hour).unwrap();
    };
    made_old();
    registry.put_blob(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(registry.sweep(hour).await.unwrap().blobs, 0);
    // Nor does it go if it was put again after it was found to be old.
    made_old();
    let old = registry.unnamed(&registry.state(), hour).await.unwrap();
    assert_eq!(old.len(), 1);
    registry.put_blob(Bytes::from_static(b"x")).await.unwrap();
    assert!(!registry.delete_if_old(&old[0], hour).await.unwrap());
    made_old();
    assert_eq!(registry.sweep(hour).await.unwrap().blobs, 1);
}

#[tokio::test]
async fn notes_of_hosts_that_are_away_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    registry.speak().await.unwrap();
    let note = file(&folder, &format!("hosts/{}.json", registry.host()));
    let aged = |age_s| {
        let note = fs::File::options().write(true).open(&note).unwrap();
        note.set_modified(SystemTime::now() - Duration::from_secs(age_s)).unwrap();
    };
    aged(100);
    assert_eq!(registry.hosts().await.unwrap(), []);
    assert_eq!(registry.sweep(Duration::from_secs(3600)).await.unwrap().hosts, 0);
    aged(3700);
    assert_eq!(registry.sweep(Duration::from_secs(3600)).await.unwrap().hosts, 1);
}

/// Records laid down without syncing each, as a history that was made long ago.
fn lay_down(folder: &Path, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        let record = Record::new(n, n, &operator(), tenant(&format!("t{}", n % 50))).unwrap();
        let file = folder.join("registry").join(log::path(n).to_string());
        fs::write(file, log::encoded(&record).unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_snapshot_spares_reading_what_is_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    lay_down(folder.path(), 1..=999);
    registry.catch_up().await.unwrap();
    let state = registry.change(operator(), |_| Ok(tenant("last"))).await.unwrap();
    assert_eq!(state.n, 1000);
    registry.change(operator(), |_| Ok(tenant("one-more"))).await.unwrap();
    let whole = open(folder.path()).await.state();
    fs::remove_file(file(&folder, "log/00000000000000000500.json")).unwrap();
    assert_eq!(*open(folder.path()).await.state(), *whole);
    let names: BTreeSet<_> = whole.tenants.keys().cloned().collect();
    assert!(names.contains("last") && names.contains("one-more"));
}
