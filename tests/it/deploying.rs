//! What tests of deployments share: content, uploads and waiting for them. Content is made of the plugin `stamp`, whose
//! constant in its code makes each stamp another component with other answers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Served, made};

/// A stamp in the component, byte for byte; `tests/plugins/stamp` says why it is found there once.
const STAMP: u64 = 0x5eed_7e40_4a3d_c0d1;
/// How long a deployment may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is deployed.
#[derive(Clone)]
pub struct Content {
    pub manifest: String,
    pub component: Vec<u8>,
}

/// A small plugin that needs no model and whose answers tell which one it is: `body` gives `answer_of(n, body)`.
pub fn stamped(n: u64) -> Content {
    let mut component = std::fs::read(made(".tenon/test-functions/test/stamp/stamp.wasm")).unwrap();
    // WebAssembly writes constants as signed LEB128.
    let (from, to) = (leb(STAMP as i64), leb((STAMP ^ (n << 8)) as i64));
    assert_eq!(from.len(), to.len(), "a stamp of the same length");
    let places: Vec<_> =
        component.windows(from.len()).enumerate().filter(|(_, it)| *it == from).map(|(i, _)| i).collect();
    assert!(!places.is_empty(), "the stamp is not found");
    for place in places {
        component[place..place + to.len()].copy_from_slice(&to);
    }
    Content { manifest: "component = \"stamp.wasm\"\n".into(), component }
}

fn leb(mut value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        let done = (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0);
        bytes.push(if done { byte } else { byte | 0x80 });
        if done {
            return bytes;
        }
    }
}

/// What the content of this number answers to `/work?turns=3`, which no other content does.
pub fn answer_of(n: u64) -> String {
    let stamp = STAMP ^ (n << 8);
    let turn = |state: u64, value: u64| (state ^ value).wrapping_mul(stamp).rotate_left(29);
    format!("{:016x}", (0..3).fold(stamp, turn))
}

/// A plugin of the tests as it is.
pub fn plugin(name: &str, manifest: &str) -> Content {
    let component = std::fs::read(made(".tenon/test-functions/test").join(format!("{name}/{name}.wasm"))).unwrap();
    Content { manifest: format!("component = \"{name}.wasm\"\n{manifest}"), component }
}

impl Content {
    /// The same with more in its manifest.
    pub fn with(mut self, manifest: &str) -> Self {
        self.manifest.push_str(manifest);
        self
    }
}

impl Served {
    /// Uploads; `query` is empty or begins with a question mark.
    pub async fn upload(&self, function: &str, query: &str, content: &Content, bearer: &str) -> Answer {
        self.upload_form(function, query, &form(content, None), bearer).await
    }

    /// Uploads these bytes as a form.
    pub async fn upload_form(&self, function: &str, query: &str, form: &[u8], bearer: &str) -> Answer {
        let url = format!("{}/admin/v1/functions/{function}/revisions{query}", self.control);
        let sent = self.client.post(url).bearer_auth(bearer).body(form.to_vec());
        let sent = sent.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}")).send().await;
        Answer::of(sent.unwrap()).await
    }

    /// Uploads and waits until it is a revision or refused.
    pub async fn deploys(&self, function: &str, query: &str, content: &Content) -> Value {
        let answer = self.upload(function, query, content, &self.token()).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        self.ended(answer.header("location")).await
    }

    /// Waits for a deployment's end.
    pub async fn ended(&self, place: &str) -> Value {
        let start = Instant::now();
        loop {
            let told = self.control(place).await;
            assert_eq!(told.status, 200, "{}", told.text());
            let told = told.json();
            if ["ready", "refused"].contains(&told["state"].as_str().unwrap()) {
                return told;
            }
            assert!(start.elapsed() < PATIENCE, "{told}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Deploys what must become revision `number`.
    pub async fn deployed(&self, function: &str, query: &str, content: &Content, number: u64) {
        let told = self.deploys(function, query, content).await;
        assert_eq!((told["state"].as_str(), told["revision"].as_u64()), (Some("ready"), Some(number)), "{told}");
    }

    /// Sends a function's traffic to revisions by weights.
    pub async fn traffic(&self, function: &str, shares: &[(u64, u32)]) -> Answer {
        let shares = shares.iter().map(|(revision, weight)| json!({ "revision": revision, "weight": weight }));
        self.set_traffic(function, json!({ "shares": shares.collect::<Vec<_>>() })).await
    }

    pub async fn set_traffic(&self, function: &str, body: Value) -> Answer {
        let path = format!("/admin/v1/functions/{function}/traffic");
        self.asks("PUT", &path, Some(body), &self.token()).await
    }

    /// What a stamped function answers to the question of `answer_of`.
    pub async fn stamp(&self, function: &str) -> Answer {
        self.post(&format!("/v1/functions/{function}/work?turns=3"), "").await
    }

    /// What `GET /admin/v1/functions/{function}` tells.
    pub async fn registered(&self, function: &str) -> Value {
        self.control(&format!("/admin/v1/functions/{function}")).await.json()
    }
}

const BOUNDARY: &str = "----tenon-test-boundary";

/// A form with content, and a digest where there is one.
pub fn form(content: &Content, digest: Option<&str>) -> Vec<u8> {
    let mut form = Vec::new();
    let mut part = |name: &str, bytes: &[u8]| {
        form.extend_from_slice(
            format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes(),
        );
        form.extend_from_slice(bytes);
        form.extend_from_slice(b"\r\n");
    };
    part("manifest", content.manifest.as_bytes());
    part("component", &content.component);
    if let Some(digest) = digest {
        part("digest", digest.as_bytes());
    }
    form.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    form
}

/// All files below a folder.
pub fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
