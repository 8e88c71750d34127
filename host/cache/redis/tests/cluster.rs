//! Three servers that share the keys: soak tests, as a cluster takes long to come about.

use std::process::Command;

use super::*;

/// Set by `make soak`.
const SOAK: &str = "REDIS_CLUSTER";

struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    async fn start() -> Option<Self> {
        let mut servers = vec![];
        for _ in 0..3 {
            let args = ["--port", "{port}", "--cluster-enabled", "yes", "--cluster-config-file", "{dir}/nodes"];
            let args =
                [&args[..], &["--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"]].concat();
            servers.push(Server::with(&args).await?);
        }
        let nodes = servers.iter().map(|server| format!("127.0.0.1:{}", server.port));
        let args = ["--cluster", "create"].map(String::from).into_iter().chain(nodes);
        let made = Command::new("redis-cli").args(args).arg("--cluster-yes").output().unwrap();
        assert!(made.status.success(), "{made:?}");
        for server in &servers {
            until("the cluster is up", || async {
                let info = server.run("CLUSTER INFO").await;
                format!("{info:?}").contains("cluster_state:ok")
            })
            .await;
        }
        Some(Self { servers })
    }

    fn config(&self) -> Config {
        let nodes: Vec<String> = self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        Config { redis_url: Some(format!("redis+cluster://{}", nodes.join(","))), ..config(0) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_three() {
    if std::env::var_os(SOAK).is_none() {
        return;
    }
    let Some(mut cluster) = Cluster::start().await else { return };
    let (a, b) = (Host::start(&cluster.config()).await, Host::start(&cluster.config()).await);
    let names: Vec<String> = (0..60).map(|name| name.to_string()).collect();
    for name in &names {
        a.hits(name).await;
    }
    let keys: Vec<Key> = names.iter().map(|name| key(name)).chain([key("none")]).collect();
    let found = b.remote.get_many(&keys).await;
    let wanted = names.iter().map(|name| Some(Bytes::from(name.clone()))).chain([None]);
    assert_eq!(found, wanted.collect::<Vec<_>>());
    for (tag, from, to) in [("a", &a, &b), ("b", &b, &a)] {
        from.remote.invalidate(0, &[scope(tag)]).await.unwrap();
        to.hears(scope(tag)).await;
    }
    // One of them dies: its keys are misses, and no call waits longer than it may.
    cluster.servers[2].kill();
    let longest = a.asks("0", Duration::from_secs(3)).await;
    say("a node died: longest call", longest);
    assert!(longest <= LOOKUP + NOISE, "{longest:?}");
    let others = || async {
        let mut hits = 0;
        for name in &names {
            hits += usize::from(a.get(key(name)).await.is_some());
        }
        hits > 20
    };
    until("the others' keys are found", others).await;
    cluster.servers[2].restart().await;
    let start = Instant::now();
    until("all keys are there again", || async {
        for name in &names {
            a.remote.put(key(name), name.clone().into(), HOUR);
        }
        a.remote.get_many(&keys[..60]).await.iter().all(Option::is_some)
    })
    .await;
    say("the node is back: all hits after", start.elapsed());
    b.remote.invalidate(0, &[scope("after")]).await;
    a.hears(scope("after")).await;
}
