//! A host that is killed at any instant: what it had acknowledged is there when it starts again, and nothing else serves.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    deploying::{Content, answer_of, form, stamped},
    process::Process,
    support::{Answer, client},
};

/// As many as `KILLS` says, more in `make soak`.
const KILLS: u64 = 20;
const FUNCTION: &str = "shop/stamp";

/// What a killed host's successor must know.
#[derive(Default)]
struct Acknowledged {
    latest: u64,
    serving: u64,
    /// Asked for, and killed before the answer: may be so or not.
    perhaps_latest: Option<u64>,
    perhaps_serving: Option<u64>,
    /// Changes that were acknowledged.
    changes: u64,
}

struct Asking {
    client: reqwest::Client,
    control: String,
    data: String,
    token: String,
}

impl Asking {
    fn of(process: &Process, folder: &Path) -> Self {
        let token = std::fs::read_to_string(folder.join("data/admin-token")).unwrap().trim().to_owned();
        let (control, data) = (process.control.trim().to_owned(), process.data.trim().to_owned());
        Self { client: client().build().unwrap(), control, data, token }
    }

    /// `None` where the host is gone.
    async fn upload(&self, content: &Content) -> Option<String> {
        let url = format!("{}/admin/v1/functions/{FUNCTION}/revisions", self.control);
        let sent = self.client.post(url).bearer_auth(&self.token).body(form(content, None));
        let sent = sent.header("content-type", "multipart/form-data; boundary=----tenon-test-boundary").send().await;
        let answer = Answer::of(sent.ok()?).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        Some(answer.header("location").to_owned())
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let sent = self.client.get(format!("{}{path}", self.control)).bearer_auth(&self.token).send().await.ok()?;
        sent.json().await.ok()
    }

    /// Deploys and promotes until the host is gone; notes what it was told.
    async fn change(&self, known: &mut Acknowledged) -> Option<()> {
        loop {
            let number = known.latest + 1;
            known.perhaps_latest = Some(number);
            let place = self.upload(&stamped(number)).await?;
            loop {
                let told = self.get(&place).await?;
                assert_ne!(told["state"], "refused", "{told}");
                if told["state"] == "ready" {
                    assert_eq!(told["revision"], number, "{told}");
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (known.latest, known.perhaps_latest) = (number, None);
            known.changes += 1;
            // Deploying takes longest, and it is appending that must not be cut in half.
            for revision in [number, number.saturating_sub(1).max(1), number] {
                self.promote(revision, known).await?;
            }
        }
    }

    async fn promote(&self, revision: u64, known: &mut Acknowledged) -> Option<()> {
        known.perhaps_serving = Some(revision);
        let body = json!({ "shares": [{ "revision": revision, "weight": 1 }] });
        let url = format!("{}/admin/v1/functions/{FUNCTION}/traffic", self.control);
        let set = self.client.put(url).bearer_auth(&self.token).json(&body).send().await.ok()?;
        assert_eq!(set.status(), 200);
        (known.serving, known.perhaps_serving) = (revision, None);
        known.changes += 1;
        Some(())
    }

    /// Holds what the host says against what was acknowledged.
    async fn check(&self, known: &mut Acknowledged) {
        let function = self.get(&format!("/admin/v1/functions/{FUNCTION}")).await.unwrap();
        if known.latest == 0 && function["code"] == "function-not-found" {
            return;
        }
        let (latest, serving) = (function["latest"].as_u64().unwrap(), function["serving"][0]["revision"].as_u64());
        let (told, perhaps) = (known.latest, known.perhaps_latest.take());
        assert!(latest == told || Some(latest) == perhaps, "{told} acknowledged, {perhaps:?} perhaps: {function}");
        let serving = serving.unwrap_or(0);
        let (told, perhaps) = (known.serving, known.perhaps_serving.take());
        assert!(serving == told || Some(serving) == perhaps, "{told} acknowledged, {perhaps:?} perhaps: {function}");
        if serving > 0 {
            let url = format!("{}/v1/functions/{FUNCTION}/work?turns=3", self.data);
            let answer = Answer::of(self.client.post(url).send().await.unwrap()).await;
            assert_eq!(answer.text(), answer_of(serving));
        }
        (known.latest, known.serving) = (latest, serving);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_at_any_instant_keeps_what_it_acknowledged() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let mut known = Acknowledged::default();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let kills = std::env::var("KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    for _ in 0..kills {
        let process = Process::start(&folder, &[]);
        let asking = Asking::of(&process, folder.path());
        asking.check(&mut known).await;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let life = Duration::from_micros(20_000 + random % 480_000);
        // Whatever is asked when the time is over is cut off by the host's end, not by the test's.
        let killed = async {
            tokio::time::sleep(life).await;
            process.signal("KILL");
        };
        tokio::join!(async { assert_eq!(asking.change(&mut known).await, None) }, killed);
        drop(process);
    }
    let process = Process::start(&folder, &[]);
    Asking::of(&process, folder.path()).check(&mut known).await;
    assert!(known.changes >= kills / 2, "too little happened in between: {}", known.changes);
}
