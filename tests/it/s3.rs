//! Hosts whose registry is an S3-compatible store: both follow what either is told, and both go on with what they have
//! while it is away. The store is moto's, from PyPI.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
};

use tenon_host::{boot, config::Config};

use crate::{
    deploying::{answer_of, stamped},
    programs::{Running, python},
    support::{Served, client, eventually},
};

const FUNCTION: &str = "shop/stamp";

/// Starts a store with a bucket; where it listens.
async fn store() -> Option<(Running, String)> {
    let mut command = python("moto", "'moto[server]==5.2.1'")?;
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| Some(line.split_once("Running on http://")?.1.trim().to_owned())).unwrap();
    // The server stops when nobody reads what it says.
    std::thread::spawn(move || lines.for_each(drop));
    let made = client().build().unwrap().put(format!("http://{address}/tenon")).send().await.unwrap();
    assert_eq!(made.status(), 200);
    Some((Running(child), address))
}

async fn host(address: &str, name: &str) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.engine.data = folder.path().join("data");
    config.engine.models = folder.path().join("models");
    std::fs::create_dir_all(&config.engine.models).unwrap();
    config.http.listen.set_port(0);
    config.http.control_listen.set_port(0);
    config.sandbox.max_instances = 64;
    config.registry.url = Some("s3://tenon/eu".into());
    config.registry.poll_ms = 100;
    config.registry.host_name = Some(name.into());
    config.registry.s3.endpoint = Some(format!("http://{address}"));
    config.registry.s3.region = Some("us-east-1".into());
    config.registry.s3.allow_http = true;
    config.registry.s3.access_key_file = Some(key(folder.path()));
    let host = boot::start(config).await.unwrap();
    let (base, control) = (host.data_url(), host.control_url());
    Served { host, client: client().build().unwrap(), base, control, folder }
}

fn key(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("key");
    std::fs::write(&file, "AKIATEST\nnot a secret\n").unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_share_a_store_and_outlive_it() {
    let Some((store, address)) = store().await else { return };
    let (one, two) = (host(&address, "one").await, host(&address, "two").await);
    one.deployed(FUNCTION, "?promote=true", &stamped(1), 1).await;
    eventually("the other serves it", async || two.stamp(FUNCTION).await.text() == answer_of(1)).await;
    two.deployed(FUNCTION, "?promote=true", &stamped(2), 2).await;
    eventually("the first follows", async || one.stamp(FUNCTION).await.text() == answer_of(2)).await;
    // At the same time: both are kept, under different numbers.
    let (content, other) = (stamped(3), stamped(4));
    let (a, b) = tokio::join!(one.deploys(FUNCTION, "", &content), two.deploys(FUNCTION, "", &other));
    let mut numbers = [&a, &b].map(|told| told["revision"].as_u64().unwrap_or_else(|| panic!("{told}")));
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 4]);
    drop(store);
    eventually("the loss is told", async || {
        one.control("/health").await.json()["registry"]["trouble"].as_str().is_some()
    })
    .await;
    for host in [&one, &two] {
        assert_eq!(host.stamp(FUNCTION).await.text(), answer_of(2), "the last state serves");
    }
}
