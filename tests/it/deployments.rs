//! From an upload to a revision that serves, and everything that is refused on the way.

use serde_json::{Value, json};

use crate::{
    deploying::{Content, answer_of, files, form, plugin, stamped},
    support::{Served, TestHost},
};

const FUNCTION: &str = "shop/stamp";

async fn host() -> Served {
    TestHost::new().models(&["identity"]).start().await
}

fn revisions(told: &Value) -> Vec<(u64, Option<u64>)> {
    let list = told["revisions"].as_array().unwrap();
    list.iter().map(|it| (it["number"].as_u64().unwrap(), it["share"].as_u64())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn deploy_promote_roll_back_and_look_at_what_happened() {
    let host = host().await;
    host.deployed(FUNCTION, "?why=first", &stamped(1), 1).await;
    // Ready, and nobody's until somebody says so.
    host.stamp(FUNCTION).await.is_problem(404, "function-not-found");
    assert_eq!(host.registered(FUNCTION).await["state"], "idle");
    assert_eq!(host.traffic(FUNCTION, &[(1, 1)]).await.status, 200);
    assert_eq!(host.stamp(FUNCTION).await.text(), answer_of(1));
    host.deployed(FUNCTION, "?promote=true", &stamped(2), 2).await;
    let answer = host.stamp(FUNCTION).await;
    assert_eq!((answer.text(), answer.header("x-tenon-revision")), (answer_of(2), "2"));
    // A revision by its number, in traffic or out of it.
    assert_eq!(host.stamp(&format!("{FUNCTION}@1")).await.text(), answer_of(1));
    host.stamp(&format!("{FUNCTION}@3")).await.is_problem(404, "revision-not-found");
    // The same content again is the same revision.
    host.deployed(FUNCTION, "", &stamped(1), 1).await;
    host.deployed(FUNCTION, "", &stamped(1).with("# another manifest\n"), 3).await;
    let path = format!("/admin/v1/functions/{FUNCTION}");
    assert_eq!(
        revisions(&host.control(&format!("{path}/revisions")).await.json()),
        [(3, None), (2, Some(1)), (1, None)]
    );
    let back = host.asks("POST", &format!("{path}/rollback"), Some(json!({ "why": "slow" })), &host.token()).await;
    assert_eq!(back.json()["split"]["shares"], json!([{ "revision": 1, "weight": 1 }]));
    assert_eq!(host.stamp(FUNCTION).await.text(), answer_of(1));
    let none = host.asks("POST", &format!("{path}/rollback"), None, &host.token()).await;
    none.is_problem(409, "conflict");
    let history = host.control(&format!("{path}/history")).await.json();
    let events = history["events"].as_array().unwrap();
    let told: Vec<_> = events.iter().map(|event| event["what"].as_str().unwrap()).collect();
    assert_eq!(told.len(), 5, "{history}");
    assert!(told[0].starts_with("rolled back to 1") && told[4] == "revision 1 added", "{history}");
    assert_eq!(
        (&events[0]["why"], &events[0]["by"], &events[4]["why"]),
        (&json!("slow"), &json!("operator"), &json!("first"))
    );
    let gone = host.asks("DELETE", &path, None, &host.token()).await;
    assert_eq!(gone.status, 204);
    host.stamp(FUNCTION).await.is_problem(404, "function-not-found");
    // Numbers do not come back.
    host.deployed(FUNCTION, "?promote=true", &stamped(1), 4).await;
    assert_eq!(host.stamp(FUNCTION).await.text(), answer_of(1));
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deployed_is_there_after_a_restart_and_is_not_compiled_again() {
    let test = TestHost::new();
    let mut config = tenon_host::config::Config::default();
    let test = test.config(|own| config = own.clone());
    let host = test.start().await;
    host.deployed(FUNCTION, "?promote=true", &stamped(1), 1).await;
    host.deployed(FUNCTION, "", &stamped(2), 2).await;
    let (folder, client) = (host.folder, host.client);
    host.host.drain().await;
    let compiled = folder.path().join("data/compiled");
    let before = std::fs::read_dir(&compiled).unwrap().count();
    let again = tenon_host::boot::start(config).await.unwrap();
    let (base, control) = (again.data_url(), again.control_url());
    let host = Served { host: again, client, base, control, folder };
    assert_eq!(host.stamp(FUNCTION).await.text(), answer_of(1));
    assert_eq!(host.stamp(&format!("{FUNCTION}@2")).await.text(), answer_of(2));
    assert_eq!(std::fs::read_dir(&compiled).unwrap().count(), before);
}

const CASE: &str = "
[[case]]
name = \"three turns\"
path = \"/work\"
query = { turns = \"3\" }
[case.expect]
body = \"ANSWER\"

[[case]]
name = \"no turns\"
path = \"/work\"
[case.expect]
status = 400
code = \"query\"
";

#[tokio::test(flavor = "multi_thread")]
async fn its_own_cases_run_before_it_is_ready() {
    let host = host().await;
    let case = CASE.replace("ANSWER", &answer_of(1));
    let told = host.deploys(FUNCTION, "?promote=true", &stamped(1).with(&case)).await;
    assert_eq!((&told["state"], &told["done"], &told["total"]), (&json!("ready"), &json!(2), &json!(2)), "{told}");
    // Another plugin answers otherwise, is refused, and what serves goes on.
    let told = host.deploys(FUNCTION, "?promote=true", &stamped(2).with(&case)).await;
    assert_eq!((&told["state"], &told["error"]["code"]), (&json!("refused"), &json!("case")), "{told}");
    assert!(told["error"]["detail"].as_str().unwrap().contains("three turns"), "{told}");
    assert_eq!(host.stamp(FUNCTION).await.text(), answer_of(1));
    assert_eq!(host.registered(FUNCTION).await["latest"], 1);
    host.all_back_to_zero().await;
}

/// Everything that can be wrong with what is uploaded, with the code that tells it and a word of what it says.
fn refused() -> Vec<(&'static str, Content, &'static str, &'static str)> {
    let good = stamped(1);
    let with_component = |component: &[u8]| Content { component: component.to_vec(), ..good.clone() };
    let with_manifest = |manifest: &str| Content { manifest: manifest.into(), ..good.clone() };
    let truncated = &good.component[..good.component.len() / 2];
    let core = wat::parse_str("(module)").unwrap();
    let foreign = wat::parse_str("(component (import \"foreign:thing/x@1.0.0\" (instance)))").unwrap();
    let empty = wat::parse_str("(component)").unwrap();
    let bound = |input: &str, model: &str| {
        with_manifest(&format!(
            "component = \"stamp.wasm\"\n[models.identity]\nmodel = \"{model}\"\ninputs = {{ x = \"{input}\" }}\n"
        ))
    };
    vec![
        ("not wasm", with_component(b"hello"), "component", "not a WebAssembly component"),
        ("nothing", with_component(b""), "component", "not a WebAssembly component"),
        ("a core module", with_component(&core), "component", "not a WebAssembly component"),
        ("truncated", with_component(truncated), "component", "not a WebAssembly component"),
        ("a zip", with_component(b"PK\x03\x04 and much that would unpack"), "component", "not a WebAssembly component"),
        ("unknown import", with_component(&foreign), "component", "foreign:thing/x"),
        ("no stage", with_component(&empty), "component", "preprocessing"),
        ("unknown key", with_manifest("component = \"x.wasm\"\nmodls = 1"), "manifest", "`models`"),
        ("wrong type", with_manifest("component = 3"), "manifest", "line 1"),
        ("no manifest", with_manifest(""), "manifest", "component"),
        (
            "a limit over the host's",
            with_manifest("component = \"x.wasm\"\n[limits]\nmemory_bytes = 999999999999"),
            "manifest",
            "memory_bytes",
        ),
        ("no such model", bound("FP32[rows, 16]", "nothing@serving"), "binding", "nothing"),
        ("another shape", bound("FP32[rows, 17]", "identity@serving"), "binding", "FP32[rows, 16]"),
        ("another datatype", bound("INT64[rows, 16]", "identity@serving"), "binding", "INT64"),
        ("no such version", bound("FP32[rows, 16]", "identity@9"), "binding", "9"),
        (
            "a case that makes no sense",
            stamped(1).with("[[case]]\nname = \"x\"\nmethod = \"PUT\"\n"),
            "manifest",
            "POST or GET",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_content_is_refused_with_its_own_reason_and_nothing_is_kept() {
    let host = host().await;
    for (what, content, code, named) in refused() {
        let told = host.deploys(FUNCTION, "?promote=true", &content).await;
        assert_eq!((&told["state"], &told["error"]["code"]), (&json!("refused"), &json!(code)), "{what}: {told}");
        assert!(told["error"]["detail"].as_str().unwrap().contains(named), "{what}: {told}");
    }
    assert_eq!(host.control("/admin/v1/functions").await.json()["functions"], json!([]));
    let registry = host.folder.path().join("data/registry");
    let blobs = files(&registry.join("blobs"));
    assert!(blobs.is_empty(), "{blobs:?}");
    let compiled = files(&host.folder.path().join("data/compiled"));
    assert!(compiled.iter().all(|file| file.ends_with("key")), "{compiled:?}");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_uploads_are_refused_before_anything_is_compiled() {
    let host = TestHost::new().config(|config| config.sandbox.max_component_bytes = 1 << 20).start().await;
    let (content, token) = (stamped(1), host.token());
    let mismatch = form(&content, Some(&"0".repeat(64)));
    host.upload_form(FUNCTION, "", &mismatch, &token).await.is_problem(422, "digest-mismatch");
    let digest = blake3::hash(&content.component).to_hex();
    assert_eq!(host.upload_form(FUNCTION, "", &form(&content, Some(&digest)), &token).await.status, 202);
    let large = Content { component: vec![0; (1 << 20) + 1], ..content.clone() };
    host.upload(FUNCTION, "", &large, &token).await.is_problem(413, "body-too-large");
    let huge = Content { component: vec![0; 100 << 20], ..content.clone() };
    host.upload(FUNCTION, "", &huge, &token).await.is_problem(413, "body-too-large");
    let manifest = Content { manifest: "#".repeat((256 << 10) + 1), ..content.clone() };
    host.upload(FUNCTION, "", &manifest, &token).await.is_problem(413, "body-too-large");
    for (what, form) in [("nothing", &b""[..]), ("no form", b"hello"), ("half a form", &form(&content, None)[..900])] {
        let answer = host.upload_form(FUNCTION, "", form, &token).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
    }
    let not_text = Content { manifest: String::new(), ..content.clone() };
    let mut broken = form(&not_text, None);
    let place = broken.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    broken.insert(place, 0xff);
    host.upload_form(FUNCTION, "", &broken, &token).await.is_problem(400, "bad-request");
    for name in ["Shop/stamp", "shop/St.amp", "shop/-x"] {
        host.upload(name, "", &content, &token).await.is_problem(422, "invalid");
    }
    host.upload(FUNCTION, "?promote=yes", &content, &token).await.is_problem(400, "bad-request");
    let none = format!("/admin/v1/functions/{FUNCTION}/deployments/none");
    host.control(&none).await.is_problem(404, "deployment-not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_make_no_sense_are_refused() {
    let host = host().await;
    host.deployed(FUNCTION, "?promote=true", &stamped(1), 1).await;
    for (shares, status, code) in [
        (&[][..], 422, "invalid"),
        (&[(2, 1)], 404, "revision-not-found"),
        (&[(1, 0)], 422, "invalid"),
        (&[(1, 1), (1, 2)], 422, "invalid"),
    ] {
        host.traffic(FUNCTION, shares).await.is_problem(status, code);
    }
    host.traffic("shop/nothing", &[(1, 1)]).await.is_problem(404, "function-not-found");
    for body in [json!({ "share": [] }), json!([1]), json!({ "shares": [{ "revision": -1, "weight": 1 }] })] {
        host.set_traffic(FUNCTION, body).await.is_problem(400, "bad-request");
    }
    for path in ["revisions", "traffic", "history", ""] {
        let path = format!("/admin/v1/functions/shop/nothing/{path}");
        host.control(path.trim_end_matches('/')).await.is_problem(404, "function-not-found");
    }
    assert_eq!(host.stamp(FUNCTION).await.text(), answer_of(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_waits_for_its_model_and_serves_once_it_is_there() {
    let bound = "[models.model]\nmodel = \"identity@serving\"\ninputs = { x = \"FP32[rows, 16]\" }\noutputs = { y = \"FP32[rows, 16]\" }\n";
    let host = host().await;
    host.deployed("shop/identity", "?promote=true", &plugin("identity", bound), 1).await;
    let answer = host.post("/v1/functions/shop/identity", vec![0_u8; 64]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let token = host.token();
    let forced = json!({ "force": true });
    assert_eq!(host.asks("POST", "/admin/v1/models/identity/unload", Some(forced), &token).await.status, 200);
    host.post("/v1/functions/shop/identity", vec![0_u8; 64]).await.is_problem(503, "model-unavailable");
    assert_eq!(host.registered("shop/identity").await["state"], "unavailable");
    assert_eq!(host.asks("POST", "/admin/v1/models/identity/load", None, &token).await.status, 200);
    assert_eq!(host.post("/v1/functions/shop/identity", vec![0_u8; 64]).await.status, 200);
}
