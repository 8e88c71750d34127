//! Whatever was built against a release of the contract keeps deploying, and answers as it did: the contract of each
//! release as it was, and components of that time (`tests/fixtures/contract`).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tenon_host::{
    sandbox::{Config, Sandbox},
    tensor::HeapStaging,
};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve, SourceMap};

use crate::{
    images,
    inspect::tenon,
    support::{Answer, Served, TestHost, made},
};

fn kept(release: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/contract").join(release)
}

fn releases() -> Vec<String> {
    let folders = std::fs::read_dir(kept("")).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// A component that imports every function of a contract and exports every stage. It does nothing. Each of `changes` is a
/// text of that contract and what stands in its place.
fn of_everything(wit: &Path, changes: &[(&str, &str)]) -> Vec<u8> {
    let mut files = SourceMap::new();
    let mut used = vec![false; changes.len()];
    for file in std::fs::read_dir(wit).unwrap().map(|entry| entry.unwrap().path()) {
        // `wit/` has a page beside its files.
        if file.extension().is_some_and(|extension| extension == "wit") {
            let mut text = std::fs::read_to_string(&file).unwrap();
            for ((from, to), used) in changes.iter().zip(&mut used) {
                *used |= text.contains(from);
                text = text.replace(from, to);
            }
            files.push_str(file.to_str().unwrap(), text);
        }
    }
    assert!(used.iter().all(|used| *used), "not all of {changes:?} are in {}", wit.display());
    let mut resolve = Resolve::default();
    let package = resolve.push_group(files.parse().map_err(|(_, error)| error).unwrap()).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// What host and command line say of a component: none, or the refusal's code, which has to be the same.
fn judged(sandbox: &Arc<Sandbox>, component: &[u8]) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), component).unwrap();
    let said = tenon(&[file.path().to_str().unwrap()]);
    let host = sandbox.compile(component).err();
    let (code, inspected) = (host.as_ref().map(|refusal| refusal.code()), said["refusals"][0]["code"].as_str());
    assert_eq!(code, inspected, "the host: {host:?}, inspect: {said}");
    code.map(str::to_owned)
}

#[test]
fn all_that_a_release_had_is_there_as_it_was() {
    let sandbox = Sandbox::new(Config { max_instances: 1, ..Config::default() }, Arc::new(HeapStaging)).unwrap();
    let releases = releases();
    assert!(releases.iter().any(|release| release == "1.0.0"), "{releases:?}");
    for release in releases {
        let wit = kept(&release).join("wit");
        let judged = |changes: &[(&str, &str)]| judged(&sandbox, &of_everything(&wit, changes));
        assert_eq!(judged(&[]), None, "{release} is not what it was");
        // A patch of that release changes words alone.
        let (minor, _) = release.rsplit_once('.').unwrap();
        let (package, patch) = (format!("@{release};"), format!("@{minor}.77;"));
        assert_eq!(judged(&[(&package, &patch)]), None, "{release} as {patch}");
    }
    // And if it were not there, this would be seen.
    for change in [
        ("status: u16,", "status: u32,"),
        ("body-size: func() -> u64;", "body-size: func() -> u32;"),
        ("bypass: func();", "bypass: func(); forget: func();"),
        ("infer(list<inference>),", "infer(list<inference>), again,"),
    ] {
        let judged = judged(&sandbox, &of_everything(&kept("1.0.0/wit"), &[change]));
        assert_eq!(judged.as_deref(), Some("differs-from-contract"), "{change:?}");
    }
}

/// A host with the components of a release.
async fn host_of(release: &str, names: &[&str], models: &[&str]) -> Served {
    let test = TestHost::new().models(models);
    for name in names {
        test.place("test", name, &kept(release).join(name));
    }
    if names.contains(&"vectors") { test.minilm().start().await } else { test.start().await }
}

async fn json_of(host: &Served, path: &str, body: &Value) -> Value {
    let answer = host.call(path, body.to_string()).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_of_1_0_0() {
    let host = host_of("1.0.0", &["guarded"], &["identity"]).await;
    let body = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }] });
    host.call("guarded", body.to_string()).await.is_problem(400, "no-word");
    let asked = host.client.post(format!("{}/v1/functions/test/guarded", host.base)).header("x-word", "please");
    let answer = Answer::of(asked.body(body.to_string()).send().await.unwrap()).await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!(vec![1.0; 16]), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn caching_rows_and_tensors_of_1_0_0() {
    let host = host_of("1.0.0", &["keeper"], &["identity", "ragged-identity", "slow"]).await;
    let say = "keeper/say?ttl=60000&key=a&tag=b";
    let first = json_of(&host, say, &json!("hello")).await;
    assert_eq!(first, json_of(&host, say, &json!("hello")).await, "it was not remembered");
    assert_ne!(first, json_of(&host, "keeper/say?ttl=60000&key=c", &json!("hello")).await);
    let numbers = json_of(&host, "keeper/numbers", &json!([1, 2])).await;
    assert_eq!((&numbers["y"], &numbers["whole"]), (&json!([1.0, 2.0]), &json!(true)), "{numbers}");
    let ragged = json_of(&host, "keeper/ragged", &json!([[1, 2], [3]])).await;
    assert_eq!((&ragged["same"], &ragged["total"]), (&json!([[1, 2], [3]]), &json!([3, 3])), "{ragged}");
    let named = json_of(&host, "keeper/named", &json!([["a", 1], ["b", 2]])).await;
    assert_eq!((&named["y"], &named["known"]), (&json!([1.0, 2.0]), &json!([false, false])), "{named}");
    host.call("keeper/refuse", "").await.is_problem(422, "told-to");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_config_of_1_0_0() {
    let host = host_of("1.0.0", &["vectors"], &[]).await;
    let answer = json_of(&host, "vectors", &json!({ "texts": ["a cell", "a cell", "a tissue"] })).await;
    let vectors = answer["vectors"].as_array().unwrap();
    assert_eq!((vectors.len(), vectors[0].as_array().unwrap().len()), (3, 384));
    assert!(vectors[0] == vectors[1] && vectors[0] != vectors[2] && answer["tokens"] == 12, "{}", answer["tokens"]);
    let many: Vec<_> = (0..65).map(|n| n.to_string()).collect();
    let refused = host.call("vectors", json!({ "texts": many }).to_string()).await;
    assert!((400..500).contains(&refused.status), "config's max_texts: {}", refused.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_1_0_0() {
    let host = host_of("1.0.0", &["easel"], &[]).await;
    let picture = std::fs::read(made("tests/fixtures/vision/pictures/plain.png")).unwrap();
    let program = json!([
        { "body": [0, picture.len()] },
        { "box": { "image": 0, "area": [2, 2, 8, 8] } },
        { "tensor": ["UINT8", [1, 3, 4, 4]] },
        { "row": { "image": 0, "tensor": 0, "row": 0, "size": [4, 4] } },
        { "encode": [0, "png"] },
    ]);
    let (said, body) = images::run(&host, program, &picture).await;
    assert!(said.len() == 5 && said[0] == "ok" && said[4] == "ok", "{said:?}");
    assert!(body.starts_with(b"\x89PNG"), "no PNG");
}
