//! Where Redis is and how a connection to it comes about. Owns addresses, credentials and trust; refuses to know what a
//! connection is for.
//!
//! The password is read from its file for every connection: it may be changed there and in Redis without a restart.

use std::{path::PathBuf, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, RedisError,
    TlsCertificates, aio::AsyncPushSender, cluster::ClusterClientBuilder, io::tcp::TcpSettings,
};
use tokio::time::timeout;

use super::{
    CacheError, Config,
    wire::{Fault, Wire},
};

/// Questions on their way to the task that owns the socket; those beyond wait for room, within their own time.
const PIPELINE: usize = 256;
/// In a cluster a question follows keys that have moved, at once: who asks has no time for more.
const REDIRECTIONS: u32 = 2;
const REDIRECTION_MS: u64 = 1;
/// What a file with a password or certificates may hold.
const PASSWORD_BYTES: u64 = 4096;
const CA_BYTES: u64 = 4 << 20;
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
const NO_CERTIFICATES: &str = "cache.redis_ca_file holds no certificates in PEM form";

pub(super) struct Site {
    nodes: Vec<ConnectionInfo>,
    cluster: bool,
    user: Option<String>,
    password_file: Option<PathBuf>,
    ca: Option<TlsCertificates>,
    connect_timeout: Duration,
    /// After that time the client itself stops waiting, whoever asks.
    response_timeout: Duration,
}

impl Site {
    /// Checks the settings and reads the files they name; nothing is connected.
    pub(super) fn new(config: &Config, url: &str) -> Result<Self, CacheError> {
        let cluster = url.contains("+cluster://");
        let ca = match &config.redis_ca_file {
            Some(file) => Some(read(file, CA_BYTES).map_err(|source| unusable("cache.redis_ca_file", source))?),
            None => None,
        };
        if ca.as_ref().is_some_and(|pem| !pem.windows(CERTIFICATE.len()).any(|part| part == CERTIFICATE)) {
            return Err(CacheError::Config(NO_CERTIFICATES.into())); // the client would go on and trust nobody
        }
        let ca = ca.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        if let Some(file) = &config.redis_password_file {
            password(file).map_err(|source| unusable("cache.redis_password_file", source))?;
        }
        if url.starts_with("rediss") {
            // The client takes the process's provider; one that was set before is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Ok(Self {
            nodes: nodes(url, ca.as_ref())?,
            cluster,
            user: config.redis_user.clone(),
            password_file: config.redis_password_file.clone(),
            ca,
            connect_timeout: Duration::from_millis(config.connect_timeout_ms),
            response_timeout: Duration::from_millis(config.write_timeout_ms.max(config.lookup_timeout_ms)),
        })
    }

    /// How long a connection may take to come about.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// A connection through which every key is reached.
    pub(super) async fn connect(&self, push: impl AsyncPushSender) -> Result<Wire, Fault> {
        if self.cluster { self.in_time(self.to_cluster()).await } else { self.connect_one(0, push).await }
    }

    /// A connection to one server; in a cluster to any of those that are configured, another one each time.
    pub(super) async fn connect_one(&self, turn: usize, push: impl AsyncPushSender) -> Result<Wire, Fault> {
        let node = self.nodes[turn % self.nodes.len()].clone();
        self.in_time(async {
            let mut settings = node.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            if let Some(user) = &self.user {
                settings = settings.set_username(user);
            }
            if let Some(password) = self.password().await? {
                settings = settings.set_password(password);
            }
            let node = node.set_redis_settings(settings).set_tcp_settings(tcp());
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(self.connect_timeout))
                .set_response_timeout(Some(self.response_timeout))
                .set_pipeline_buffer_size(PIPELINE)
                .set_push_sender(push);
            let made = Client::open(node)?.get_multiplexed_async_connection_with_config(&config).await;
            Ok(Wire::One(made?))
        })
        .await
    }

    async fn to_cluster(&self) -> Result<Wire, Fault> {
        let mut builder = ClusterClientBuilder::new(self.nodes.clone())
            .use_protocol(ProtocolVersion::RESP3)
            .tcp_settings(tcp())
            .connection_timeout(self.connect_timeout)
            .response_timeout(self.response_timeout)
            .retries(REDIRECTIONS)
            .min_retry_wait(REDIRECTION_MS)
            .max_retry_wait(REDIRECTION_MS);
        if let Some(user) = &self.user {
            builder = builder.username(user);
        }
        if let Some(password) = self.password().await? {
            builder = builder.password(password);
        }
        if let Some(ca) = &self.ca {
            builder = builder.certs(ca.clone());
        }
        Ok(Wire::Cluster(builder.build()?.get_async_connection().await?))
    }

    async fn in_time(&self, made: impl Future<Output = Result<Wire, Fault>>) -> Result<Wire, Fault> {
        timeout(self.connect_timeout, made).await.map_err(|_| Fault::Slow)?
    }

    async fn password(&self) -> Result<Option<String>, Fault> {
        let Some(file) = self.password_file.clone() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || password(&file)).await;
        match read {
            Ok(Ok(password)) => Ok(Some(password)),
            _ => Err(Fault::Gone("the file with its password cannot be read".into())),
        }
    }
}

/// Questions are small and waited for: none is held back to be sent together with the next.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn nodes(url: &str, ca: Option<&TlsCertificates>) -> Result<Vec<ConnectionInfo>, CacheError> {
    let scheme = if url.starts_with("rediss") { "rediss" } else { "redis" };
    // The message does not repeat the address, nor what the client says about it: both may be seen by others.
    let wrong = |_: RedisError| CacheError::Config("cache.redis_url is not an address of Redis".into());
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    if rest.contains('#') {
        return Err(CacheError::Config("cache.redis_url must have no part after #".into()));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let node = |node: &str| {
        let plain = format!("{scheme}://{node}{path}").as_str().into_connection_info().map_err(wrong)?;
        match ca {
            // Not looked at before there is a connection, were it not for this.
            Some(ca) => {
                let bad = |_| CacheError::Config(NO_CERTIFICATES.into());
                Client::build_with_tls(plain, ca.clone())
                    .map(|client| client.get_connection_info().clone())
                    .map_err(bad)
            }
            None => Ok(plain),
        }
    };
    authority.split(',').map(node).collect()
}

fn unusable(setting: &'static str, source: std::io::Error) -> CacheError {
    CacheError::File { setting, source }
}

fn read(file: &std::path::Path, most_bytes: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(most_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        return Err(std::io::Error::other(format!("it has more than {most_bytes} bytes")));
    }
    Ok(bytes)
}

fn password(file: &std::path::Path) -> std::io::Result<String> {
    let text = String::from_utf8(read(file, PASSWORD_BYTES)?).map_err(|_| std::io::Error::other("it is not text"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(std::io::Error::other("it is empty"));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(config: &Config, url: &str) -> Result<Site, String> {
        Site::new(config, url).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses() {
        let config = Config::default();
        let one = site(&config, "redis://cache:7000/2").unwrap();
        assert_eq!((one.nodes.len(), one.cluster), (1, false));
        assert_eq!(one.nodes[0].addr().to_string(), "cache:7000");
        assert_eq!(one.nodes[0].redis_settings().db(), 2);
        let many = site(&config, "redis+cluster://a:1,b:2").unwrap();
        assert_eq!((many.nodes.len(), many.cluster), (2, true));
        assert_eq!(many.nodes[1].addr().to_string(), "b:2");
        let error = site(&config, "redis://cache:secret:seven").err().unwrap();
        assert_eq!(error, "cache.redis_url is not an address of Redis");
        assert!(site(&config, "rediss://cache#insecure").is_err(), "trust is not switched off in an address");
    }

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        for (text, wanted) in [("secret\n", Some("secret")), (" s p ", Some(" s p ")), ("\n", None)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(password(&file).ok().as_deref(), wanted, "{text:?}");
        }
        std::fs::write(&file, "x".repeat(5000)).unwrap();
        let config = Config { redis_password_file: Some(file.clone()), ..Config::default() };
        let error = site(&config, "redis://cache").err().unwrap();
        assert_eq!(error, "the file that cache.redis_password_file names cannot be used");
        let config = Config { redis_ca_file: Some(file), ..Config::default() };
        assert_eq!(site(&config, "rediss://cache").err().unwrap(), NO_CERTIFICATES);
    }
}
