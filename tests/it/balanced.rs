//! Three hosts on one registry behind Debian's HAProxy, one of which is killed under load: where a proxy may send a request
//! twice, no caller notices.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use tempfile::TempDir;

use crate::{
    deploying::{answer_of, form, stamped},
    process::Process,
    programs::{Running, program},
    support::{Answer, client, eventually},
};

const FUNCTION: &str = "shop/stamp";
const CALLERS: u64 = 8;

/// A proxy before these addresses, told of a host that is gone by its health, by the connection it cannot make and by the one
/// that ends before there is an answer. Callers only read, so what was sent to such a host is sent to another.
fn balancer(haproxy: &mut std::process::Command, folder: &TempDir, port: u16, hosts: &[String]) -> Running {
    let servers: String =
        (0..).zip(hosts).map(|(id, host)| format!("  server h{id} {host} check inter 200ms fall 1\n")).collect();
    let text = format!(
        "global\n  maxconn 256\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 10s\n  timeout server 10s\n  \
         retries 3\n  option redispatch 1\nfrontend callers\n  bind 127.0.0.1:{port}\n  default_backend hosts\n\
         backend hosts\n  balance roundrobin\n  retry-on conn-failure empty-response\n  option httpchk GET /health/ready\n{servers}"
    );
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    Running(haproxy.arg("-db").arg("-f").arg(&file).spawn().unwrap())
}

/// What the function answers there; `None` where nobody does.
async fn ask(client: reqwest::Client, base: String) -> Option<Answer> {
    let sent = client.post(format!("{base}/v1/functions/{FUNCTION}/work?turns=3")).send().await;
    Some(Answer::of(sent.ok()?).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_fails_nothing_that_may_be_sent_again() {
    let Some(mut haproxy) = program("haproxy", "haproxy") else { return };
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    for host in ["one", "two", "three"] {
        let data = folder.path().join(host);
        std::fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(folder.path().join("registry"), data.join("registry")).unwrap();
    }
    std::fs::create_dir(folder.path().join("registry")).unwrap();
    let mut hosts: Vec<_> = ["one", "two", "three"].map(|host| Process::start(&folder, &["--data", host])).into();
    let token = std::fs::read_to_string(folder.path().join("one/admin-token")).unwrap().trim().to_owned();
    let client = client().build().unwrap();
    let url = format!("{}/admin/v1/functions/{FUNCTION}/revisions?promote=true", hosts[0].control.trim());
    let sent = client.post(url).bearer_auth(&token).body(form(&stamped(1), None));
    let sent = sent.header("content-type", "multipart/form-data; boundary=----tenon-test-boundary").send().await;
    assert_eq!(sent.unwrap().status(), 202);
    let ask = |base: String| ask(client.clone(), base);
    for host in &hosts {
        let base = host.data.trim().to_owned();
        eventually("all serve it", async || ask(base.clone()).await.is_some_and(|answer| answer.status == 200)).await;
    }
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addresses: Vec<_> =
        hosts.iter().map(|host| host.data.trim().trim_start_matches("http://").to_owned()).collect();
    let _proxy = balancer(&mut haproxy, &folder, port, &addresses);
    let base = format!("http://127.0.0.1:{port}");
    eventually("the proxy answers", async || ask(base.clone()).await.is_some_and(|answer| answer.status == 200)).await;
    let wrong = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (done, asked, failed) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let callers = (0..CALLERS).map(|_| {
        let (done, asked, failed, base, client) =
            (done.clone(), asked.clone(), failed.clone(), base.clone(), client.clone());
        let wrong = wrong.clone();
        tokio::spawn(async move {
            while !done.load(SeqCst) {
                match self::ask(client.clone(), base.clone()).await {
                    Some(answer) if answer.status == 200 => assert_eq!(answer.text(), answer_of(1)),
                    other => {
                        failed.fetch_add(1, SeqCst);
                        wrong.lock().unwrap().push(other.map(|answer| (answer.status, answer.text())));
                    }
                }
                asked.fetch_add(1, SeqCst);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    eventually("callers are served", async || asked.load(SeqCst) > 200).await;
    assert_eq!(failed.load(SeqCst), 0);
    let killed = hosts.remove(1);
    killed.signal("KILL");
    drop(killed);
    let before = asked.load(SeqCst);
    eventually("callers go on", async || asked.load(SeqCst) > before + 400).await;
    done.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(failed.load(SeqCst), 0, "of {}: {:?}", asked.load(SeqCst), wrong.lock().unwrap());
    let left: BTreeSet<_> = hosts.iter().map(|host| host.data.clone()).collect();
    assert_eq!(left.len(), 2);
}
