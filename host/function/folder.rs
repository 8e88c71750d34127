//! Functions from a folder, `<tenant>/<function>/function.toml` and its component, for development: loaded at start,
//! loaded again when they change. A change that is refused leaves the last good revision serving.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{DeployError, Deployer, Functions, Manifest, deployer, manifest::is_name};

/// The largest `function.toml` that is read.
const MAX_MANIFEST_BYTES: u64 = 256 << 10;
/// The largest component that is read; the sandbox's own limit is usually lower.
const MAX_COMPONENT_BYTES: u64 = 1 << 30;
/// Functions that one folder may hold.
const MAX_FUNCTIONS: usize = 1024;
/// An editor may take `function.toml` away for a moment while it saves; a function is gone when two looks miss it.
const LOOKS_UNTIL_GONE: u32 = 2;
/// How often the folder is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

type Name = (String, String);
/// What tells that a file is another one: when it was written and how long it is.
type Print = Vec<(SystemTime, u64)>;

/// A folder of functions and what was last seen there.
pub struct Folder {
    path: PathBuf,
    deployer: Arc<Deployer>,
    functions: Arc<Functions>,
    seen: BTreeMap<Name, Seen>,
}

struct Seen {
    print: Print,
    digest: String,
    number: u64,
    /// How many looks in a row did not find it.
    missed: u32,
    /// Where it was refused for a model: what number the models' changes had then.
    refused_at: Option<u64>,
}

impl Folder {
    /// Nothing is read before [`Folder::look`].
    pub fn new(path: PathBuf, deployer: Arc<Deployer>, functions: Arc<Functions>) -> Self {
        Self { path, deployer, functions, seen: BTreeMap::new() }
    }

    /// Looks at the folder once and deploys what is new. Blocks while components compile. The error is the folder's own;
    /// what is wrong with a function is in its status and in the log.
    pub fn look(&mut self) -> Result<(), DeployError> {
        let found = self.scan()?;
        for (name, seen) in self.seen.iter_mut().filter(|(name, _)| !found.contains_key(*name)) {
            seen.missed = seen.missed.saturating_add(1);
            if seen.missed == LOOKS_UNTIL_GONE {
                // What was seen stays: the number goes on if the function comes back.
                seen.print.clear();
                seen.digest.clear();
                self.functions.remove(&name.0, &name.1);
                tracing::info!(tenant = name.0, function = name.1, "function removed");
            }
        }
        for (name, print) in found {
            if let Some(seen) = self.seen.get_mut(&name) {
                seen.missed = 0;
            }
            let changes = self.deployer.model_changes();
            let is_new = |seen: &Seen| seen.print != print || seen.refused_at.is_some_and(|at| at != changes);
            if self.seen.get(&name).is_none_or(is_new) {
                self.load(name, print);
            }
        }
        Ok(())
    }

    /// The functions that are there, with the prints of their files.
    fn scan(&self) -> Result<BTreeMap<Name, Print>, DeployError> {
        let mut found = BTreeMap::new();
        for tenant in folders(&self.path)? {
            for function in folders(&self.path.join(&tenant))? {
                let place = self.path.join(&tenant).join(&function);
                let manifest = place.join("function.toml");
                if found.len() >= MAX_FUNCTIONS || !manifest.is_file() {
                    continue;
                }
                let print = fs::read_dir(&place).map_err(|error| unreadable(&place, error))?;
                // All files of the folder: the component's name stands in a file that may be broken at present.
                let files = print.filter_map(|entry| fs::metadata(entry.ok()?.path()).ok());
                let mut print: Print = files.filter_map(|meta| Some((meta.modified().ok()?, meta.len()))).collect();
                print.sort();
                found.insert((tenant.clone(), function), print);
            }
        }
        Ok(found)
    }

    /// Deploys one function, or notes why not.
    fn load(&mut self, name: Name, print: Print) {
        let before = self.seen.get(&name).map_or((0, String::new()), |seen| (seen.number, seen.digest.clone()));
        let (tenant, function) = (name.0.clone(), name.1.clone());
        // Before it is tried: a change while it is tried is one that it may have missed.
        let changes = self.deployer.model_changes();
        let mut refused_at = None;
        let (number, digest) = match self.deploy(&name, &before) {
            Ok(Some((number, digest))) => {
                tracing::info!(tenant, function, revision = number, "function ready");
                (number, digest)
            }
            Ok(None) => before,
            Err(error) => {
                tracing::warn!(tenant, function, "function refused: {error}");
                self.functions.refuse(&tenant, &function, &error.to_string());
                refused_at = matches!(error, DeployError::Model { .. }).then_some(changes);
                before
            }
        };
        self.seen.insert(name, Seen { print, digest, number, missed: 0, refused_at });
    }

    /// The new revision's number and digest, or none if the content is what it was.
    fn deploy(&self, name: &Name, before: &(u64, String)) -> Result<Option<(u64, String)>, DeployError> {
        let place = self.path.join(&name.0).join(&name.1);
        let manifest = read(&place.join("function.toml"), MAX_MANIFEST_BYTES)?;
        let manifest = String::from_utf8(manifest)
            .map_err(|_| DeployError::File { file: "function.toml".into(), reason: "is not UTF-8".into() })?;
        let component = Manifest::read(&manifest, self.deployer.config())?.component;
        let component = read(&place.join(component), MAX_COMPONENT_BYTES)?;
        let digest = deployer::digest(&manifest, &component);
        if digest == before.1 {
            return Ok(None);
        }
        let number = before.0 + 1;
        let snapshot = self.deployer.deploy((&name.0, &name.1, number), &manifest, &component)?;
        self.deployer.publish(&self.functions, snapshot)?;
        Ok(Some((number, digest)))
    }
}

/// Names of the folders in `path` that can be names of tenants or functions; others are passed over.
fn folders(path: &Path) -> Result<Vec<String>, DeployError> {
    let entries = fs::read_dir(path).map_err(|error| unreadable(path, error))?;
    let names = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        (entry.path().is_dir() && is_name(&name)).then_some(name)
    });
    Ok(names.collect())
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, DeployError> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| unreadable(path, error))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    if bytes.len() as u64 > limit {
        return Err(DeployError::File {
            file: path.display().to_string(),
            reason: format!("has more than {limit} bytes"),
        });
    }
    Ok(bytes)
}

/// Tells the file's name and not where the host keeps it: callers may read this.
fn unreadable(path: &Path, error: std::io::Error) -> DeployError {
    let file = path.file_name().unwrap_or(path.as_os_str());
    DeployError::File { file: file.display().to_string(), reason: error.to_string() }
}
