//! Models that change while the host runs: what is put into the repository serves once it is loaded, what cannot be
//! loaded leaves the old version serving, and no caller notices either.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    alone::Alone,
    support::{Answer, Served, TestHost, eventually, made, rewrite},
};

/// Callers beside the changes.
const CALLERS: usize = 8;
/// Cycles of each kind; `make soak` wants 200 by `MODEL_CYCLES`.
const CYCLES: usize = 20;
/// From this cycle on memory must be flat: allocators and libtorch have filled their pools.
const SETTLED: usize = 20;
/// How far a sample may be from the middle one, as a share of it.
const FLAT: f64 = 0.02;

/// A row of sixteen numbers, different for each caller and call.
fn row(caller: usize, call: usize) -> Vec<u8> {
    (0..16).flat_map(|place| ((caller * 1000 + call % 997 + place) as f32).to_le_bytes()).collect()
}

impl Served {
    async fn order(&self, path: &str, body: &Value) -> Answer {
        let asked = self.client.post(format!("{}/admin/v1/models/{path}", self.control)).bearer_auth(self.token());
        let asked = if body.is_null() { asked } else { asked.body(body.to_string()) };
        Answer::of(asked.send().await.unwrap()).await
    }

    /// The states of a model's versions after an order that is followed: `1 ready, 2* ready`.
    async fn ordered(&self, path: &str, body: Value) -> String {
        let answer = self.order(path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        states(&answer.json()["models"])
    }

    fn model_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join("models").join(name)
    }

    /// Puts a version into the repository: the file of the small model `from`.
    fn put_version(&self, model: &str, version: usize, from: &str) {
        let folder = self.model_folder(model).join(version.to_string());
        fs::create_dir(&folder).unwrap();
        symlink(made(".tenon/test-models").join(from).join("1/model.pt"), folder.join("model.pt")).unwrap();
    }

    fn remove_version(&self, model: &str, version: usize) {
        let folder = self.model_folder(model).join(version.to_string());
        // The first one is a link to where all tests have it.
        if folder.is_symlink() { fs::remove_file(folder).unwrap() } else { fs::remove_dir_all(folder).unwrap() }
    }
}

fn states(models: &Value) -> String {
    let one = |model: &Value| {
        let star = if model["serving"] == true { "*" } else { "" };
        format!("{}{star} {}", model["version"], model["state"].as_str().unwrap())
    };
    models.as_array().unwrap().iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The identity model, patient as slow machines need it, in a repository that the test may change.
fn host() -> TestHost {
    let patient = [("queue_timeout_ms = 2000", "queue_timeout_ms = 60000")];
    TestHost::new()
        .changed_model("identity", &patient)
        .functions(&["identity"])
        .changed_function("identity", &[("timeout_ms = 5000", "timeout_ms = 60000")])
}

/// Threads that are lanes of a model.
fn lanes(model: &str) -> usize {
    // The kernel keeps fifteen characters of a name.
    let name: String = format!("lane-{model}").chars().take(15).collect();
    let names = fs::read_dir("/proc/self/task").unwrap();
    let names = names.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.starts_with(&name)).count()
}

/// One swap to another version and back to a single one, and one unload and load of a model that nobody is bound to.
async fn cycle(host: &Served, number: usize) {
    let (old, new) = (number, number + 1);
    host.put_version("identity", new, "identity");
    assert_eq!(host.ordered("identity/load", Value::Null).await, format!("{old} ready, {new}* ready"));
    host.remove_version("identity", old);
    assert_eq!(host.ordered("identity/load", Value::Null).await, format!("{new}* ready"));
    assert_eq!(host.ordered("lookup/unload", Value::Null).await, "1 unloaded");
    assert_eq!(host.ordered("lookup/load", Value::Null).await, "1* ready");
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "`make soak` shows how far it is")]
async fn models_come_and_go_under_load() {
    let Some(process) = Alone::run("models::models_come_and_go_under_load") else { return };
    let wanted = std::env::var("MODEL_CYCLES").ok().map(|count| count.parse::<usize>().unwrap());
    let cycles = wanted.unwrap_or(CYCLES);
    let host = host().models(&["lookup"]).start().await;
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = join_all((0..CALLERS).map(async |caller| {
        let mut call = 0;
        while !done.load(Relaxed) {
            let row = row(caller, call);
            let answer = host.call("identity", row.clone()).await;
            assert_eq!((answer.status, &answer.body), (200, &row), "{}", answer.text());
            served.fetch_add(1, Relaxed);
            call += 1;
        }
    }));
    let changes = async {
        let mut samples = Vec::new();
        for number in 1..=cycles {
            let before = served.load(Relaxed);
            cycle(&host, number).await;
            eventually("calls in every cycle", async || served.load(Relaxed) >= before + CALLERS).await;
            samples.push(process.resident_bytes());
            if wanted.is_some() && number % 10 == 0 {
                println!(
                    "{number} cycles, {} invocations, {} KiB resident",
                    served.load(Relaxed),
                    samples[number - 1] >> 10
                );
            }
        }
        done.store(true, Relaxed);
        samples
    };
    let (_, samples) = tokio::join!(load, changes);
    eventually("lanes of versions that left have ended", async || lanes("identity-") == 2 && lanes("lookup-") == 1)
        .await;
    host.all_back_to_zero().await;
    if samples.len() > SETTLED {
        let mut settled = samples[SETTLED..].to_vec();
        settled.sort_unstable();
        let (least, middle, most) = (settled[0], settled[settled.len() / 2], settled[settled.len() - 1]);
        println!("resident: {} KiB in the middle, {} to {} KiB", middle >> 10, least >> 10, most >> 10);
        let off = (middle - least).max(most - middle) as f64 / middle as f64;
        assert!(off <= FLAT, "memory moves by {off}: {samples:?}");
    }
}

/// What is wrong with a model that an operator puts there, and a part of what is said.
type Wrong = (&'static str, fn(&Path), &'static str);

fn toml(folder: &Path, from: &str, to: &str) {
    rewrite(&folder.join("model.toml"), &[(from, to)]);
}

fn file(folder: &Path, bytes: &[u8]) {
    let file = folder.join("2/model.pt");
    fs::remove_file(&file).unwrap();
    fs::write(file, bytes).unwrap();
}

const WRONGS: [Wrong; 10] = [
    ("an empty file", |folder| file(folder, b""), "2/model.pt"),
    ("a corrupt file", |folder| file(folder, b"PK\x03\x04 no model"), "2/model.pt"),
    (
        "half a file",
        |folder| {
            let whole = fs::read(folder.join("2/model.pt")).unwrap();
            file(folder, &whole[..whole.len() / 2]);
        },
        "2/model.pt",
    ),
    ("no file", |folder| fs::remove_file(folder.join("2/model.pt")).unwrap(), "No such file"),
    (
        "another model's file",
        |folder| file(folder, &fs::read(made(".tenon/test-models/lookup/1/model.pt")).unwrap()),
        "the first rows failed",
    ),
    (
        "an input that the model has not",
        |folder| {
            let more = "[[input]]\nname = \"z\"\ndatatype = \"FP32\"\nshape = [\"rows\", 16]\n\n[[output]]";
            toml(folder, "[[output]]", more);
        },
        "the first rows failed",
    ),
    (
        "another datatype than the model gives",
        |folder| toml(folder, "name = \"y\"\ndatatype = \"FP32\"", "name = \"y\"\ndatatype = \"FP64\""),
        "the first rows failed",
    ),
    (
        "a datatype that is none",
        |folder| toml(folder, "name = \"y\"\ndatatype = \"FP32\"", "name = \"y\"\ndatatype = \"FP33\""),
        "FP33",
    ),
    ("no model.toml", |folder| fs::remove_file(folder.join("model.toml")).unwrap(), "model.toml"),
    // It loads, and the function that is bound to it sends sixteen.
    (
        "another shape than functions send",
        |folder| {
            toml(
                folder,
                "name = \"x\"\ndatatype = \"FP32\"\nshape = [\"rows\", 16]",
                "name = \"x\"\ndatatype = \"FP32\"\nshape = [\"rows\", 8]",
            );
            toml(
                folder,
                "name = \"y\"\ndatatype = \"FP32\"\nshape = [\"rows\", 16]",
                "name = \"y\"\ndatatype = \"FP32\"\nshape = [\"rows\", 8]",
            );
        },
        "test/identity: models.model: the input `x` is declared as FP32[rows, 16], the model has FP32[rows, 8]",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_loaded_leaves_the_old_version_serving() {
    let host = host().start().await;
    let folder = host.model_folder("identity");
    let good = fs::read_to_string(folder.join("model.toml")).unwrap();
    for (what, wrong, part) in WRONGS {
        host.put_version("identity", 2, "identity");
        wrong(&folder);
        for _ in 0..2 {
            let problem = host.order("identity/load", &json!({ "version": 2 })).await.is_problem(409, "model-refused");
            let detail = problem["detail"].as_str().unwrap().to_owned();
            assert!(detail.starts_with("nothing was changed: ") && detail.contains(part), "{what}: {detail}");
        }
        let public = host.get("/v1/models").await;
        let listed = public.json()["models"].clone();
        assert_eq!(states(&listed), "1* ready, 2 failed", "{what}");
        assert!(!public.text().contains(host.folder.path().to_str().unwrap()), "a path: {listed}");
        let whole = host.control("/admin/v1/models").await.json()["models"].clone();
        assert!(whole[1]["error"].as_str().unwrap().contains(part), "{what}: {whole}");
        assert_eq!(host.get("/health/ready").await.status, 200, "{what}");
        assert_eq!(host.call("identity", row(1, 2)).await.body, row(1, 2), "{what}");
        fs::write(folder.join("model.toml"), &good).unwrap();
        host.remove_version("identity", 2);
    }
    // Once what was wrong is gone, it is as if nothing had been.
    assert_eq!(host.ordered("identity/load", Value::Null).await, "1* ready");
    host.put_version("identity", 2, "identity");
    let both = [(); 2].map(|()| host.ordered("identity/load", Value::Null));
    assert_eq!(join_all(both).await, ["1 ready, 2* ready"; 2], "one after the other");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_make_no_sense_say_so() {
    let host = host().models(&["lookup"]).start().await;
    for (path, body, status, code, part) in [
        ("nobody/load", Value::Null, 404, "model-not-found", "there are: identity, lookup"),
        ("nobody/unload", Value::Null, 404, "model-not-found", "`nobody`"),
        ("..%2flookup/load", Value::Null, 404, "model-not-found", "`../lookup`"),
        ("%ff/load", Value::Null, 400, "bad-request", "UTF-8"),
        ("lookup/load", json!({ "version": 7 }), 404, "model-not-found", "no version 7 of `lookup`; there are: 1"),
        ("lookup/unload", json!({ "version": 7 }), 404, "model-not-found", "no version 7"),
        ("lookup/load", json!({ "versoin": 7 }), 400, "bad-request", "`versoin`"),
        ("lookup/load", json!({ "force": true }), 400, "bad-request", "`force`"),
        ("lookup/unload", json!({ "version": "x" }), 400, "bad-request", "\"x\""),
        ("lookup/unload", json!([1, 2, 3]), 400, "bad-request", "the body"),
        ("lookup/unload", json!("x".repeat(70_000)), 400, "bad-request", "65536 bytes"),
    ] {
        let problem = host.order(path, &body).await.is_problem(status, code);
        assert!(problem["detail"].as_str().unwrap().contains(part), "{path} {body}: {problem}");
    }
    assert_eq!(host.ordered("lookup/unload", Value::Null).await, "1 unloaded");
    let twice = host.order("lookup/unload", &Value::Null).await.is_problem(409, "model-refused");
    assert_eq!(twice["detail"], "`lookup` is not loaded");
    assert_eq!(host.get("/health/ready").await.status, 200, "it was meant so");
    // Nobody without the token.
    let anyone = host.client.post(format!("{}/admin/v1/models/lookup/load", host.control)).send().await.unwrap();
    Answer::of(anyone).await.is_problem(401, "unauthenticated");
    host.control("/admin/v1/models/lookup/load").await.is_problem(405, "method-not-allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_in_use_leaves_only_by_force_and_its_functions_come_back_with_it() {
    let host = host().start().await;
    let problem = host.order("identity/unload", &Value::Null).await.is_problem(409, "model-in-use");
    assert!(problem["detail"].as_str().unwrap().contains("test/identity (identity@serving)"), "{problem}");
    assert_eq!(host.call("identity", row(0, 0)).await.status, 200);
    assert_eq!(host.ordered("identity/unload", json!({ "force": true })).await, "1 unloaded");
    let answer = host.call("identity", row(0, 0)).await;
    answer.is_problem(503, "model-unavailable");
    assert_eq!((answer.header("retry-after"), answer.header("x-tenon-revision")), ("1", "1"));
    assert_eq!(host.listed("identity").await["state"], "unavailable");
    assert_eq!(host.get("/health/ready").await.status, 200, "it was meant so");
    // A version that does not fit does not bring it back, and others may have it.
    toml(&host.model_folder("identity"), "name = \"x\"", "name = \"w\"");
    assert_eq!(host.ordered("identity/load", Value::Null).await, "1* ready");
    assert_eq!(host.listed("identity").await["state"], "unavailable");
    host.call("identity", row(0, 0)).await.is_problem(503, "model-unavailable");
    toml(&host.model_folder("identity"), "name = \"w\"", "name = \"x\"");
    assert_eq!(host.ordered("identity/load", Value::Null).await, "1* ready");
    let answer = host.call("identity", row(0, 1)).await;
    assert_eq!((answer.status, answer.header("x-tenon-revision"), &answer.body), (200, "1", &row(0, 1)));
    // A roll back leaves them a model, so nothing is forced.
    host.put_version("identity", 2, "identity");
    assert_eq!(host.ordered("identity/load", Value::Null).await, "1 ready, 2* ready");
    assert_eq!(host.listed("identity").await["models"]["model"], "identity@2");
    assert_eq!(host.ordered("identity/unload", json!({ "version": 2 })).await, "1* ready, 2 unloaded");
    assert_eq!(host.listed("identity").await["models"]["model"], "identity@1");
    host.remove_version("identity", 1);
    host.remove_version("identity", 2);
    let gone = host.order("identity/load", &Value::Null).await;
    gone.is_problem(409, "model-refused");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_was_refused_for_its_model_is_tried_again_when_there_is_one() {
    let test = host();
    let models = test.folder().join("models");
    fs::rename(models.join("identity"), models.join(".identity")).unwrap();
    let host = test.start().await;
    assert_eq!(host.listed("identity").await["state"], "refused");
    host.call("identity", row(0, 0)).await.is_problem(404, "function-not-found");
    fs::rename(models.join(".identity"), models.join("identity")).unwrap();
    assert_eq!(host.ordered("identity/load", Value::Null).await, "1* ready");
    eventually("the function serves", async || host.call("identity", row(0, 0)).await.status == 200).await;
    host.all_back_to_zero().await;
}
