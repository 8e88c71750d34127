//! Models that change while they are used: what the repository says comes to be, what fails changes nothing, and
//! whoever holds a version keeps it.

use std::time::Duration;

use super::*;
use crate::engine::{Change, ChangeError, EngineError, ModelState, fake::Memory, profile};

impl Bench {
    fn load(&self, version: Option<u64>) -> Result<(), ChangeError> {
        self.engine.prepare_load("echo", version).and_then(|change| self.engine.publish(change))
    }

    fn unload(&self, version: Option<u64>) -> Result<(), ChangeError> {
        self.engine.prepare_unload("echo", version).and_then(|change| self.engine.publish(change))
    }

    fn put(&self, file: &str, text: &str) {
        put(self.folder.path(), &format!("models/echo/{file}"), text);
    }

    fn remove(&self, version: &str) {
        fs::remove_dir_all(self.folder.path().join("models/echo").join(version)).unwrap();
    }

    /// `1 ready, 2 failed`, the serving one with a star.
    fn states(&self) -> String {
        let state = |model: &crate::engine::ModelStatus| match &model.state {
            ModelState::Ready => "ready",
            ModelState::Failed { .. } => "failed",
            ModelState::Unloaded => "unloaded",
        };
        let each = self.engine.models().into_iter();
        let each =
            each.map(|model| format!("{}{} {}", model.version, if model.serving { "*" } else { "" }, state(&model)));
        each.collect::<Vec<_>>().join(", ")
    }

    fn plain() -> Self {
        Self::new(Behaviour::default(), |text| text)
    }
}

#[tokio::test]
async fn a_swap_and_a_roll_back() {
    let bench = Bench::plain();
    let old = bench.model();
    bench.put("2/model.pt", "two");
    assert_eq!(bench.states(), "1* ready", "what nobody ordered is not there");
    bench.load(None).unwrap();
    assert_eq!(bench.states(), "1 ready, 2* ready");
    assert_eq!(bench.model().version(), 2);
    assert!(Arc::ptr_eq(&old, &bench.engine.model("echo", Version::Number(1)).unwrap()), "it has not changed");
    bench.unload(Some(2)).unwrap();
    assert_eq!((bench.states(), bench.model().version()), ("1* ready, 2 unloaded".into(), 1));
    let said = bench.engine.model("echo", Version::Number(2)).unwrap_err();
    assert!(matches!(said, EngineError::Unloaded { .. }), "{said}");
    bench.load(Some(2)).unwrap();
    bench.remove("1");
    bench.load(None).unwrap();
    assert_eq!(bench.states(), "2* ready", "what is gone leaves");
    // Whoever holds it keeps it.
    let pending = old.infer(vec![("x".into(), tensor(&[&[5]]))], Vec::new(), &bench.invocation()).unwrap();
    assert_eq!(rows(&pending.outputs().await.unwrap()), echoed(&[&[5]]));
    fs::remove_dir_all(bench.folder.path().join("models/echo")).unwrap();
    bench.load(None).unwrap();
    assert_eq!(bench.states(), "", "and so does a model whose folder is gone");
    assert_eq!(bench.engine.missing(), None);
}

#[test]
fn what_has_changed_is_replaced_and_the_rest_is_not_touched() {
    let bench = Bench::plain();
    bench.put("2/model.pt", "two");
    bench.load(None).unwrap();
    let versions = || [1, 2].map(|number| bench.engine.model("echo", Version::Number(number)).unwrap());
    let before = versions();
    bench.put("2/model.pt", "another two");
    bench.load(None).unwrap();
    let after = versions();
    assert!(Arc::ptr_eq(&before[0], &after[0]) && !Arc::ptr_eq(&before[1], &after[1]));
    bench.put("1/tokenizer.json", "{}");
    bench.load(Some(1)).unwrap();
    assert!(!Arc::ptr_eq(&after[0], &versions()[0]), "a tokenizer is of the version");
    bench.put("model.toml", &ECHO.replace("max_queue_size = 16", "max_queue_size = 17"));
    bench.load(None).unwrap();
    assert!(versions().iter().all(|model| model.queue_limit_rows() == 17));
}

/// A megabyte for models and lanes, of which each version's weights take so much; rows need next to nothing.
fn small(weight_bytes: u64) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "models/echo/model.toml", ECHO);
    put(folder.path(), "models/echo/1/model.pt", "");
    let memory = Some(Memory { weight_bytes, ..Memory::default() });
    let (fake, telemetry) = (Fake::new(Behaviour { memory, ..Behaviour::default() }), Arc::new(Telemetry::new()));
    let config = Config { memory_bytes: Some(1 << 20), ..config(folder.path()) };
    let engine = Engine::start(&config, Arc::new(fake.clone()), &telemetry).unwrap();
    Bench { engine, fake, telemetry, host: Account::host(1 << 20), folder }
}

fn lane_bytes(model: &Model) -> u64 {
    model.ground().places[0].share.lane_bytes()
}

#[test]
fn a_swap_needs_no_more_room_than_there_is_for_one() {
    // Both at once would be more than the whole.
    let bench = small(600_000);
    let old = bench.model();
    let before = lane_bytes(&old);
    assert_eq!(before, (1 << 20) - 600_000);
    bench.put("model.toml", &ECHO.replace("max_queue_size = 16", "max_queue_size = 17"));
    bench.load(None).unwrap();
    assert_eq!((lane_bytes(&bench.model()), lane_bytes(&old)), (before, before), "the old one ends what it has begun");
    assert!(old.room("t", crate::tenant::Standing::default()).is_err(), "while both are held nobody else comes in");
    drop(old);
    assert!(bench.model().room("t", crate::tenant::Standing::default()).is_ok());
    // A second one that stays does not fit, and takes nothing.
    bench.put("2/model.pt", "two");
    let said = bench.load(None).unwrap_err().to_string();
    assert!(
        said.contains("the weights of all models hold 1200000 bytes") && said.contains("of 943718 below"),
        "{said}"
    );
    assert_eq!(lane_bytes(&bench.model()), before);
}

#[test]
fn two_versions_that_have_changed_come_in_the_place_of_two() {
    let bench = small(400_000);
    bench.put("2/model.pt", "two");
    bench.load(None).unwrap();
    let shared = ((1 << 20) - 800_000) / 2;
    let lanes = || [1, 2].map(|number| lane_bytes(&bench.engine.model("echo", Version::Number(number)).unwrap()));
    assert_eq!(lanes(), [shared; 2], "who was there first has less from now on");
    bench.put("model.toml", &ECHO.replace("max_queue_size = 16", "max_queue_size = 17"));
    bench.load(None).unwrap();
    assert_eq!((bench.states(), lanes()), ("1 ready, 2* ready".into(), [shared; 2]));
    bench.unload(Some(2)).unwrap();
    assert_eq!(lane_bytes(&bench.model()), (1 << 20) - 400_000);
}

#[test]
fn gauges_of_a_queue_add_up_over_versions() {
    let bench = Bench::plain();
    let gauge = |name: &str| bench.metric(&format!("tenon_queue_{name}{{model=\"echo\"}}"));
    assert_eq!((gauge("limit_rows"), gauge("rows")), (Some(16.0), Some(0.0)));
    bench.put("2/model.pt", "two");
    bench.load(None).unwrap();
    let old = bench.engine.model("echo", Version::Number(1)).unwrap();
    bench.fake.hold();
    let ask = |model: &Arc<Model>| model.infer(vec![("x".into(), tensor(&[&[1]]))], Vec::new(), &bench.invocation());
    let running = [ask(&old).unwrap(), ask(&bench.model()).unwrap()];
    bench.fake.wait_running(2);
    let waiting = [ask(&old).unwrap(), ask(&bench.model()).unwrap(), ask(&bench.model()).unwrap()];
    assert_eq!((gauge("limit_rows"), gauge("rows")), (Some(32.0), Some(3.0)));
    drop(waiting);
    assert_eq!(gauge("rows"), Some(0.0));
    bench.fake.release();
    drop((running, old));
    bench.put("3/model.pt", "broken");
    bench.load(None).unwrap_err();
    bench.unload(Some(1)).unwrap();
    // Neither who failed nor who left; lanes that end take their queue along.
    while gauge("limit_rows") != Some(16.0) {
        std::thread::yield_now();
    }
    assert_eq!(gauge("rows"), Some(0.0));
}

#[test]
fn what_fails_changes_nothing_and_is_listed() {
    let bench = Bench::plain();
    let old = bench.model();
    let refused = |version, part: &str| {
        let said = bench.load(version).unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
        assert!(Arc::ptr_eq(&old, &bench.model()));
    };
    bench.put("2/model.pt", "broken");
    bench.put("3/model.pt", "three");
    refused(None, "echo@2: ");
    assert_eq!(bench.states(), "1* ready, 2 failed", "nothing of a load that fails in part");
    let failure = bench.engine.models()[1].failure.clone().unwrap();
    assert!(failure.detail.ends_with("2/model.pt: the file says that it is broken"), "{failure:?}");
    assert!(!failure.reason.contains('/'), "{failure:?}");
    refused(Some(7), "there is no version 7 of `echo`; there are: 1, 2, 3");
    fs::remove_file(bench.folder.path().join("models/echo/2/model.pt")).unwrap();
    refused(Some(2), "No such file");
    bench.put("1/model.pt", "broken");
    refused(Some(1), "broken");
    assert_eq!(bench.states(), "1* ready, 2 failed");
    assert!(bench.engine.models()[0].failure.is_some(), "told beside the one that serves");
    for (from, to, part) in [("datatype = \"FP32\"", "datatype = \"FP33\"", "FP33"), ("[[input]]", "[[input", "line")] {
        bench.put("model.toml", &ECHO.replace(from, to));
        refused(None, part);
    }
    bench.put("model.toml", ECHO);
    bench.put("1/model.pt", "");
    bench.put("2/model.pt", "two");
    bench.load(None).unwrap();
    assert_eq!(bench.states(), "1 ready, 2 ready, 3* ready");
    assert!(bench.engine.models().iter().all(|model| model.failure.is_none()));
    // A model that could not even be found is not made up.
    let unknown = bench.engine.prepare_load("../echo", None).unwrap_err().to_string();
    assert_eq!(unknown, "there is no model `../echo`; there are: echo");
    assert!(bench.engine.prepare_unload("nobody", None).is_err());
}

#[test]
fn unloading_is_told_apart_from_failing() {
    let bench = Bench::plain();
    bench.unload(None).unwrap();
    assert_eq!((bench.states(), bench.engine.missing()), ("1 unloaded".into(), None));
    let twice = bench.unload(None).unwrap_err().to_string();
    assert_eq!(twice, "`echo` is not loaded");
    assert_eq!(bench.unload(Some(1)).unwrap_err().to_string(), "`echo@1` is not loaded");
    assert!(bench.unload(Some(2)).unwrap_err().to_string().contains("there is no version 2"));
    bench.put("1/model.pt", "broken");
    bench.load(None).unwrap_err();
    assert_eq!(bench.engine.missing(), None, "it served nothing before");
    bench.put("1/model.pt", "");
    bench.load(None).unwrap();
    assert_eq!(bench.states(), "1* ready");
}

#[test]
fn only_what_should_serve_since_the_start_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "models/echo/model.toml", ECHO);
    put(folder.path(), "models/echo/1/model.pt", "");
    put(folder.path(), "models/echo/2/model.pt", "broken");
    let bench = Bench::over(folder, Behaviour::default());
    assert_eq!((bench.states(), bench.engine.missing()), ("1* ready, 2 failed".into(), None), "the other one serves");
    bench.unload(Some(1)).unwrap();
    assert_eq!(bench.engine.missing().as_deref(), Some("echo"));
    bench.load(Some(2)).unwrap_err();
    assert_eq!(bench.engine.missing().as_deref(), Some("echo"), "one more failure makes nothing good");
    bench.unload(Some(2)).unwrap();
    assert_eq!((bench.states(), bench.engine.missing()), ("1 unloaded, 2 unloaded".into(), None));
}

#[test]
fn a_profile_that_cannot_be_stored_is_no_reason_to_refuse() {
    let bench = Bench::plain();
    // As a full disk does: nothing can be created there.
    let data = bench.folder.path().join("data");
    fs::remove_dir_all(&data).unwrap();
    fs::write(&data, "a file where the folder should be").unwrap();
    bench.put("2/model.pt", "two");
    bench.load(None).unwrap();
    assert_eq!(bench.states(), "1 ready, 2* ready");
    let key = profile::Key { model: "m".into(), device: "cpu".into(), backend: "b".into() };
    assert!(profile::Profile::new(key, Vec::new()).write(&data.join("profiles")).is_err(), "it could not be stored");
}

#[test]
fn what_is_refused_by_others_is_noted_and_taken_down() {
    let bench = Bench::plain();
    bench.put("2/model.pt", "two");
    let change: Change = bench.engine.prepare_load("echo", None).unwrap();
    let new = Arc::downgrade(&change.model(Version::Serving).unwrap());
    assert_eq!((change.name(), change.model(Version::Number(9)).is_err()), ("echo", true));
    bench.engine.refuse(change, "it does not fit");
    assert_eq!(bench.states(), "1* ready, 2 failed");
    assert_eq!(bench.engine.models()[1].failure.as_ref().unwrap().detail, "it does not fit");
    assert!(new.upgrade().is_none());
}

#[tokio::test]
async fn a_version_lives_until_its_last_user_lets_go_and_not_longer() {
    let bench = Bench::plain();
    bench.fake.hold();
    let running = bench.infer(&[&[1]]).unwrap();
    bench.fake.wait_running(1);
    let waiting = bench.infer(&[&[2]]).unwrap();
    let old = Arc::downgrade(&bench.model());
    // Not through the gate that is held: the new version would wait there for its first row.
    bench.unload(None).unwrap();
    assert!(old.upgrade().is_some(), "two inferences are on their way");
    bench.fake.release();
    for (pending, value) in [(running, 1), (waiting, 2)] {
        assert_eq!(rows(&pending.outputs().await.unwrap()), echoed(&[&[value]]));
    }
    assert!(old.upgrade().is_none());
    bench.load(None).unwrap();
    assert!(bench.infer(&[&[3]]).unwrap().outputs().await.is_ok());
}

#[test]
fn an_engine_that_was_stopped_takes_no_more_models() {
    let mut bench = Bench::plain();
    bench.put("2/model.pt", "two");
    let late = bench.engine.prepare_load("echo", None).unwrap();
    let new = Arc::downgrade(&late.model(Version::Serving).unwrap());
    bench.engine.stop();
    assert!(
        matches!(bench.engine.publish(late), Err(ChangeError::Stopped)),
        "who ordered it must not think it was done"
    );
    assert!(new.upgrade().is_none(), "nobody would stop it");
    // What leaves while it still computes is stopped as well, and waited for.
    let config = Config { stop_timeout: Duration::from_millis(20), ..config(bench.folder.path()) };
    bench.engine = Engine::start(&config, Arc::new(bench.fake.clone()), &bench.telemetry).unwrap();
    bench.fake.hold();
    let running = bench.infer(&[&[1]]).unwrap();
    bench.fake.wait_running(1);
    let waiting = bench.model();
    bench.unload(None).unwrap();
    bench.engine.stop();
    assert!(matches!(waiting.room("t", crate::tenant::Standing::default()), Err(InferError::Unavailable { .. })));
    drop(running);
}
