//! Functions from a folder: a change serves without one failed request, a broken change leaves the old one serving, a
//! broken new function is listed with its reason, and one that is removed is gone.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use futures_util::future::join_all;

use crate::support::{Served, TestHost, eventually, made, rewrite};

/// Ways to break a function that asks the identity model: a name, what does it, and what the reason must tell.
type Breakage = (&'static str, fn(&Path), &'static str);
const BREAKAGES: [Breakage; 16] = [
    ("garbage", |folder| component(folder, b"\xff not wasm at all"), "not a WebAssembly component"),
    ("empty-file", |folder| component(folder, b""), "not a WebAssembly component"),
    ("half", |folder| component(folder, &half(folder)), "not a WebAssembly component"),
    ("core-module", |folder| text(folder, "(module)"), "not a WebAssembly component"),
    ("no-stages", |folder| text(folder, "(component)"), "preprocessing"),
    (
        "foreign-import",
        |folder| text(folder, r#"(component (import "evil:host/net@1.0.0" (instance)))"#),
        "evil:host/net",
    ),
    (
        "other-contract",
        |folder| text(folder, r#"(component (import "tenon:plugin/images@1.0.0-rc.1" (instance)))"#),
        "tenon:plugin/images@1.0.0-rc.1",
    ),
    ("gone", |folder| fs::remove_file(folder.join("identity.wasm")).unwrap(), "identity.wasm"),
    ("unknown-key", |folder| manifest(folder, "timeout_ms", "timeout"), "did you mean `timeout_ms`"),
    ("not-toml", |folder| manifest(folder, "[limits]", "[limits"), "function.toml"),
    ("zero", |folder| manifest(folder, "5000", "0"), "limits.timeout_ms"),
    ("no-such-model", |folder| manifest(folder, "identity@serving", "nobody@serving"), "`nobody"),
    ("no-such-version", |folder| manifest(folder, "identity@serving", "identity@7"), "identity@7"),
    ("wrong-shape", |folder| manifest(folder, "x = \"FP32[rows, 16]\"", "x = \"FP32[rows, 17]\""), "FP32[rows, 16]"),
    ("wrong-datatype", |folder| manifest(folder, "y = \"FP32[rows, 16]\"", "y = \"INT64[rows, 16]\""), "INT64"),
    ("elsewhere", |folder| manifest(folder, "identity.wasm", "../identity.wasm"), "component"),
];

fn component(folder: &Path, bytes: &[u8]) {
    fs::write(folder.join("identity.wasm"), bytes).unwrap();
}

fn text(folder: &Path, text: &str) {
    component(folder, &wat::parse_str(text).unwrap());
}

fn half(folder: &Path) -> Vec<u8> {
    let whole = fs::read(folder.join("identity.wasm")).unwrap();
    whole[..whole.len() / 2].to_vec()
}

fn manifest(folder: &Path, from: &str, to: &str) {
    rewrite(&folder.join("function.toml"), &[(from, to)]);
}

async fn revision(host: &Served, function: &str) -> String {
    host.call(function, "").await.header("x-tenon-revision").to_owned()
}

/// Changes `marker` and waits until the change serves: whatever was changed before has been looked at by then.
async fn all_looked_at(host: &Served) {
    // Twice, because the first look may have passed the others before it came to the marker.
    for _ in 0..2 {
        let before = revision(host, "marker").await;
        let file = host.function_folder("marker").join("function.toml");
        fs::write(&file, fs::read_to_string(&file).unwrap() + "\n# changed\n").unwrap();
        eventually("the change serves", async || revision(host, "marker").await != before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_change_leaves_the_old_one_serving() {
    let row = vec![7; 64];
    let mut test = TestHost::new().models(&["identity"]).function_as("test", "marker", "empty");
    for (name, ..) in BREAKAGES {
        test = test.function_as("test", name, "identity");
    }
    let host = test.start().await;
    for (name, breakage, _) in BREAKAGES {
        breakage(&host.function_folder(name));
    }
    all_looked_at(&host).await;
    for (name, ..) in BREAKAGES {
        let answer = host.call(name, row.clone()).await;
        assert_eq!((answer.status, answer.header("x-tenon-revision")), (200, "1"), "{name}: {}", answer.text());
        assert_eq!((&host.listed(name).await["state"], answer.body), (&"ready".into(), row.clone()), "{name}");
    }
    // Made whole again, with a difference: the next revision serves.
    let good = made(".tenon/test-functions/test/identity");
    for (name, ..) in BREAKAGES {
        let folder = host.function_folder(name);
        fs::copy(good.join("identity.wasm"), folder.join("identity.wasm")).unwrap();
        fs::copy(good.join("function.toml"), folder.join("function.toml")).unwrap();
        manifest(&folder, "5000", "4000");
    }
    for (name, ..) in BREAKAGES {
        eventually(name, async || revision(&host, name).await == "2").await;
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_new_function_is_listed_with_its_reason() {
    let mut test = TestHost::new().models(&["identity"]).function_as("test", "good", "identity");
    for (name, ..) in BREAKAGES {
        test = test.function_as("test", name, "identity");
    }
    for (name, breakage, _) in BREAKAGES {
        breakage(&test.function_folder(name));
    }
    // Names that cannot stand in a path are passed over.
    for odd in ["Upper", "-dash", "sp ace"] {
        fs::create_dir(test.function_folder(odd)).unwrap();
        fs::write(test.function_folder(odd).join("function.toml"), "").unwrap();
    }
    let host = test.start().await;
    for (name, _, reason) in BREAKAGES {
        let listed = host.listed(name).await;
        assert_eq!(listed["state"], "refused", "{name}: {listed}");
        assert!(listed["error"].as_str().unwrap().contains(reason), "{name} does not tell of {reason}: {listed}");
        host.call(name, "").await.is_problem(404, "function-not-found");
    }
    assert_eq!(host.listed("good").await["state"], "ready");
    let listed = host.get("/v1/functions").await.json()["functions"].as_array().unwrap().len();
    assert_eq!(listed, BREAKAGES.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_under_load_lose_no_request() {
    const CALLERS: usize = 8;
    let host = TestHost::new().models(&["identity"]).functions(&["identity"]).start().await;
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let row: Vec<u8> = (0..64).collect();
    let load = join_all((0..CALLERS).map(async |_| {
        let mut newest = 0;
        while !done.load(Relaxed) {
            let answer = host.call("identity", row.clone()).await;
            assert_eq!((answer.status, &answer.body), (200, &row), "{}", answer.text());
            let revision: usize = answer.header("x-tenon-revision").parse().unwrap();
            assert!(revision >= newest, "revision {newest} and then {revision}");
            newest = revision;
            served.fetch_add(1, Relaxed);
        }
        newest
    }));
    let changes = async {
        let folder = host.function_folder("identity");
        // The manifest, then the component (a custom section more), written beside and renamed as a build would.
        manifest(&folder, "5000", "4000");
        eventually("revision 2", async || host.listed("identity").await["revision"] == 2).await;
        let mut wasm = fs::read(folder.join("identity.wasm")).unwrap();
        wasm.extend([0, 3, 1, b'x', 0]);
        fs::write(folder.join("identity.partial"), wasm).unwrap();
        fs::rename(folder.join("identity.partial"), folder.join("identity.wasm")).unwrap();
        eventually("revision 3", async || host.listed("identity").await["revision"] == 3).await;
        let before = served.load(Relaxed);
        eventually("calls on it", async || served.load(Relaxed) >= before + 2 * CALLERS).await;
        done.store(true, Relaxed);
    };
    let (newest, ()) = tokio::join!(load, changes);
    assert_eq!(newest, vec![3; CALLERS]);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_serves_and_what_goes_is_gone() {
    let host = TestHost::new().functions(&["empty"]).start().await;
    host.call("later", "").await.is_problem(404, "function-not-found");
    let (from, to) = (host.function_folder("empty"), host.function_folder("later"));
    fs::create_dir(&to).unwrap();
    for file in ["empty.wasm", "function.toml"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    eventually("the new one serves", async || host.call("later", "").await.status == 200).await;
    fs::remove_dir_all(&from).unwrap();
    eventually("the removed one is gone", async || host.call("empty", "").await.status == 404).await;
    assert_eq!(host.listed("empty").await, serde_json::Value::Null);
    assert_eq!(host.call("later", "").await.status, 200);
    host.all_back_to_zero().await;
}
