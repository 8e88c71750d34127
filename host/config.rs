//! Configuration: `tenon.toml`, overridden by `TENON_…` variables, overridden by flags. Owns the order and the errors;
//! every room owns its own section, its defaults and its rules.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Parser;
use serde::Deserialize;

use crate::{cache, engine, function, http, nearest::nearest_hint, registry, sandbox, telemetry, tenant::Standing};

/// The largest configuration file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// Read where no `--config` is given and the file is there.
const DEFAULT_FILE: &str = "tenon.toml";
/// Variables `TENON_<SECTION>__<KEY>` set single keys.
const PREFIX: &str = "TENON_";
const SEPARATOR: &str = "__";
/// Variables that are flags, or somebody else's (the command line's, the tests').
const KNOWN: [&str; 14] = [
    "CA",
    "CONFIG",
    "LISTEN",
    "CONTROL_LISTEN",
    "MODELS",
    "DATA",
    "DEV_FUNCTIONS",
    "LOG",
    "LIBTORCH",
    "HOST",
    "CONTROL",
    "ADMIN_TOKEN",
    "KEY",
    "TEST_ALL",
];

/// The command line of `tenon-host`. Each flag has a variable of the same name with `TENON_`.
#[derive(Debug, Default, Parser)]
#[command(name = "tenon-host", version, about = "The Tenon host: models, batches, sandboxed plugins")]
pub struct Flags {
    /// Configuration file [default: tenon.toml, where it is there]
    #[arg(long, value_name = "FILE", env = "TENON_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address of the data plane [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", env = "TENON_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Address of the control plane [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR", env = "TENON_CONTROL_LISTEN")]
    pub control_listen: Option<SocketAddr>,
    /// Folder of the model repository [default: ./models]
    #[arg(long, value_name = "DIR", env = "TENON_MODELS")]
    pub models: Option<PathBuf>,
    /// Folder for what the host keeps: token, profiles [default: ./data]
    #[arg(long, value_name = "DIR", env = "TENON_DATA")]
    pub data: Option<PathBuf>,
    /// Folder of functions, `<tenant>/<function>/function.toml`, loaded again when they change
    #[arg(long, value_name = "DIR", env = "TENON_DEV_FUNCTIONS")]
    pub dev_functions: Option<PathBuf>,
    /// Take over from the host that serves from the same data folder, once this one is ready
    #[arg(long)]
    pub handover: bool,
    /// Check the configuration and stop
    #[arg(long)]
    pub check: bool,
}

/// Everything that can be set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Both planes.
    pub http: http::Config,
    /// Models and lanes.
    pub engine: engine::Config,
    /// Instances and host calls.
    pub sandbox: sandbox::Config,
    /// What invocations, tenants and the host may hold.
    pub limits: function::Config,
    /// What inferences without a function may use.
    pub oip: function::oip::Config,
    /// Metrics, traces and logs.
    pub telemetry: telemetry::Config,
    /// Threads.
    pub threads: Threads,
    /// Tenants that stand otherwise among others than by default.
    pub tenants: BTreeMap<String, Standing>,
    /// Folder of functions for development.
    pub dev_functions: Option<PathBuf>,
    /// What is deployed, and where that is kept.
    pub registry: registry::Config,
    /// What is asked of callers.
    pub auth: function::AuthConfig,
    /// What is remembered, and where.
    pub cache: cache::Config,
    /// When a revision leaves traffic by itself.
    pub quarantine: function::Quarantine,
    /// Paths that lead to functions.
    #[serde(rename = "route")]
    pub routes: Vec<http::Route>,
}

/// Sizes of the sets of threads; 0 stands for "from the number of cores".
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Threads {
    /// Connections, HTTP, timers, and guests that need no more than a millisecond.
    pub reactor: usize,
    /// Guests, with their host calls, that need more.
    pub guests: usize,
    /// How far these stand back behind all other threads: their niceness, 0 to 19.
    pub guests_niceness: u8,
}

impl Default for Threads {
    fn default() -> Self {
        Self { reactor: 0, guests: 0, guests_niceness: 10 }
    }
}

impl Threads {
    fn cores() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// Reactor threads in force: one for each core, because short guests run there.
    pub fn reactor(&self) -> usize {
        if self.reactor == 0 { Self::cores() } else { self.reactor }
    }

    /// Guest threads in force: one for each core.
    pub fn guests(&self) -> usize {
        if self.guests == 0 { Self::cores() } else { self.guests }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ConfigError {
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}: {reason}", path.display())]
    Syntax { path: PathBuf, reason: String },
    #[error("configuration: {0}")]
    Value(String),
}

impl Config {
    /// File, then variables and flags (clap has merged those two).
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let mut config = match &flags.config {
            Some(path) => Self::read(path)?,
            None if Path::new(DEFAULT_FILE).is_file() => Self::read(Path::new(DEFAULT_FILE))?,
            None => Self::parse("", Path::new(DEFAULT_FILE))?,
        };
        let set = |target: &mut PathBuf, flag: &Option<PathBuf>| {
            if let Some(value) = flag {
                target.clone_from(value);
            }
        };
        set(&mut config.engine.models, &flags.models);
        set(&mut config.engine.data, &flags.data);
        config.http.listen = flags.listen.unwrap_or(config.http.listen);
        config.http.control_listen = flags.control_listen.unwrap_or(config.http.control_listen);
        config.dev_functions = flags.dev_functions.clone().or(config.dev_functions);
        let variable = |name: &str| std::env::var(name).ok();
        config.telemetry = config.telemetry.with_environment(variable).map_err(ConfigError::Value)?;
        config.validate()?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |reason: String| ConfigError::Unreadable { path: path.into(), reason };
        let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(unreadable(format!("it has {size} bytes, at most {MAX_BYTES} are read")));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?, path)
    }

    /// The file's text is checked by itself, so that errors tell its lines; then again with the variables put over it.
    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error, path: PathBuf| {
            let hint = nearest_hint(error.message());
            ConfigError::Syntax { path, reason: format!("{}{hint}", error.to_string().trim_end()) }
        };
        let config = toml::from_str::<Self>(text).map_err(|error| syntax(error, path.into()))?;
        let mut table = text.parse::<toml::Table>().map_err(|error| syntax(error, path.into()))?;
        let mut config = config;
        for (name, value) in std::env::vars_os() {
            // What is not ours may be anything, not even text.
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)).map(str::to_owned) else { continue };
            if KNOWN.contains(&&name[PREFIX.len()..]) {
                continue;
            }
            let Some(value) = value.to_str().filter(|_| name.contains(SEPARATOR)) else {
                let form = "a section, two underscores and a key, as in TENON_SANDBOX__MAX_INSTANCES";
                return Err(ConfigError::Value(format!(
                    "{name} is no variable of Tenon's, or no text; expected {form}"
                )));
            };
            put(&mut table, &name, value).map_err(ConfigError::Value)?;
            // One at a time, so that an error names the variable that made it.
            config = table.clone().try_into().map_err(|error| syntax(error, name.into()))?;
        }
        Ok(config)
    }

    /// Every room's rules.
    fn validate(&self) -> Result<(), ConfigError> {
        let rooms = [
            self.http.validate(),
            self.engine.validate().map_err(|error| error.to_string()),
            self.sandbox.validate(),
            self.limits.validate(),
            self.oip.validate(),
            self.telemetry.validate(),
            self.registry.validate().map_err(|error| format!("registry.{error}")),
            self.auth.validate(),
            self.quarantine.validate(),
            self.cache.validate(),
            self.auth.suits(self.http.listen),
            http::Mapped::new(&self.routes).map(drop),
        ];
        rooms.into_iter().collect::<Result<(), String>>().map_err(ConfigError::Value)?;
        for (tenant, standing) in &self.tenants {
            standing.validate().map_err(|error| ConfigError::Value(format!("tenants.{tenant}.{error}")))?;
        }
        const MAX_THREADS: usize = 1024;
        if self.threads.reactor > MAX_THREADS || self.threads.guests > MAX_THREADS {
            return Err(ConfigError::Value(format!("threads.reactor and threads.guests are at most {MAX_THREADS}")));
        }
        const MAX_NICENESS: u8 = 19;
        if self.threads.guests_niceness > MAX_NICENESS {
            let found = self.threads.guests_niceness;
            return Err(ConfigError::Value(format!(
                "threads.guests_niceness must be 0 to {MAX_NICENESS}, not {found}"
            )));
        }
        Ok(())
    }
}

/// Puts `TENON_SANDBOX__MAX_INSTANCES=3` into the table as `sandbox.max_instances`. A value that reads as TOML is that;
/// anything else is text.
fn put(table: &mut toml::Table, name: &str, value: &str) -> Result<(), String> {
    let keys: Vec<_> = name[PREFIX.len()..].split(SEPARATOR).map(str::to_lowercase).collect();
    let Some((last, sections)) = keys.split_last() else { return Ok(()) };
    let mut place = table;
    for section in sections {
        let inner = place.entry(section.clone()).or_insert_with(|| toml::Table::new().into());
        place = inner.as_table_mut().ok_or_else(|| format!("{name}: `{section}` is not a section"))?;
    }
    let read = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut read| read.remove("value"));
    place.insert(last.clone(), read.unwrap_or_else(|| value.into()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let error = toml::from_str::<Config>("[sandbox]\nmax_instance = 3").unwrap_err();
        assert_eq!(nearest_hint(error.message()), "\nhint: did you mean `max_instances`?");
    }

    #[test]
    fn a_variable_sets_a_single_key() {
        let mut table = "[sandbox]\nmax_texts = 1".parse().unwrap();
        put(&mut table, "TENON_SANDBOX__MAX_INSTANCES", "3").unwrap();
        put(&mut table, "TENON_HTTP__LISTEN", "127.0.0.1:5").unwrap();
        let config: Config = table.clone().try_into().unwrap();
        assert_eq!((config.sandbox.max_instances, config.sandbox.max_texts, config.http.listen.port()), (3, 1, 5));
        assert!(put(&mut table, "TENON_SANDBOX__MAX_TEXTS__X", "3").unwrap_err().contains("max_texts"));
    }

    #[test]
    fn flags_override_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tenon.toml");
        std::fs::write(&file, "[http]\nlisten = \"127.0.0.1:1\"\ncontrol_listen = \"127.0.0.1:2\"\n").unwrap();
        let flags = Flags { config: Some(file.clone()), listen: "127.0.0.1:3".parse().ok(), ..Flags::default() };
        let config = Config::load(&flags).unwrap();
        assert_eq!((config.http.listen.port(), config.http.control_listen.port()), (3, 2));
        std::fs::write(&file, "[sandbox]\nmax_instances = 0\n").unwrap();
        assert!(Config::load(&flags).unwrap_err().to_string().contains("sandbox.max_instances"));
        std::fs::write(&file, "[http]\nlisten = 3\n").unwrap();
        assert!(Config::load(&flags).unwrap_err().to_string().contains("line 2"));
        assert!(Config::load(&Flags { config: Some("nowhere.toml".into()), ..Flags::default() }).is_err());
    }
}
