//! `tenon dev`: a plugin's folder, built, laid out for a host and served, and again whenever a source changes.
//!
//! It owns the order of things: `build` calls cargo, `layout` puts files where a host looks, `watch` tells changes,
//! `host` is the host beside us. The host swaps by itself; a build that fails is shown, and what served goes on serving.

mod build;
mod host;
mod layout;
mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::failure::{Exit, Failure, Stop};
use crate::output;
use crate::serve::ServeFlags;
use crate::target::Name;
use host::{Served, Signals};
use layout::Layout;
use watch::Snapshot;

/// Between two looks at the sources.
const LOOK: Duration = Duration::from_millis(300);
/// Where all that is made for the host lies, below the folder's `target`.
const FUNCTIONS: &str = "target/tenon-dev";
/// The host's data, where no other folder is named: beside the sources it would be watched.
const DATA: &str = "target/tenon-data";

/// Flags of `tenon dev`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tenon dev\n  tenon dev plugins/intent --models ../tenon/models\n  \
    tenon dev --no-serve")]
pub(crate) struct DevFlags {
    /// The plugin's folder: Cargo.toml and function.toml are there
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The tenant to serve it as
    #[arg(long, default_value = "dev")]
    tenant: String,
    /// The function's name [default: the package's]
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// The host's model repository [default: ./models]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// What the host keeps [default: target/tenon-data in the plugin's folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where functions are invoked [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The host's control plane [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR")]
    control_listen: Option<String>,
    /// Start no host: one runs already, with --dev-functions and the folder that is shown
    #[arg(long)]
    no_serve: bool,
    /// Tell what happens as JSON, an object to a line
    #[arg(long)]
    json: bool,
    /// Further arguments for tenon-host, after `--`
    #[arg(last = true, value_name = "HOST ARGS")]
    further: Vec<OsString>,
}

/// What is worked on.
struct Project {
    folder: PathBuf,
    name: Name,
    layout: Layout,
    /// What is never a source.
    ignored: Vec<PathBuf>,
    json: bool,
}

/// Runs the command, until it is interrupted or the host ends.
pub(crate) fn run(flags: &DevFlags) -> Result<(), Stop> {
    let project = Project::open(flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Environment, format!("cannot wait: {error}")))?;
    runtime.block_on(work(&project, flags))
}

async fn work(project: &Project, flags: &DevFlags) -> Result<(), Stop> {
    let mut signals = Signals::new()?;
    let mut served: Option<Served> = None;
    if flags.no_serve {
        project.tell(
            "folder",
            &format!("a host finds it with --dev-functions {}", project.functions().display()),
            json!({}),
        )?;
    }
    loop {
        let seen = Snapshot::of(&project.folder, &project.ignored)?;
        let built = project.build()?;
        if built && served.is_none() && !flags.no_serve {
            served = Some(Served::start(&project.serve_flags(flags))?);
        }
        loop {
            tokio::select! {
                () = signals.asked() => return end(served, &mut signals).await,
                () = sleep(LOOK) => {}
            }
            if let Some(status) = served.as_mut().and_then(Served::ended) {
                return Err(Failure::new(Exit::Environment, format!("the host has ended ({status})"))
                    .hint("it has said why; `tenon doctor` looks further")
                    .into());
            }
            if Snapshot::of(&project.folder, &project.ignored)? != seen {
                break;
            }
        }
    }
}

async fn end(served: Option<Served>, signals: &mut Signals) -> Result<(), Stop> {
    match served {
        Some(served) => Ok(served.stop(signals).await?),
        None => Ok(()),
    }
}

impl Project {
    fn open(flags: &DevFlags) -> Result<Self, Failure> {
        let missing = |what: String| Failure::new(Exit::Usage, what).hint("`tenon new NAME` writes a plugin's project");
        let folder = flags.dir.canonicalize().map_err(|error| missing(format!("{}: {error}", flags.dir.display())))?;
        let package = build::package(&folder).map_err(missing)?;
        let function = flags.function.as_ref().unwrap_or(&package);
        let name = Name::parse(&format!("{}/{function}", flags.tenant));
        let name = name.map_err(|error| Failure::new(Exit::Usage, error))?;
        let absolute = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let ignored = [&flags.data, &flags.models].into_iter().flatten().map(absolute).collect();
        let layout = Layout::new(&folder, &folder.join(FUNCTIONS).join(&name.tenant).join(&name.function));
        Ok(Self { folder, name, layout, ignored, json: flags.json })
    }

    fn functions(&self) -> PathBuf {
        self.folder.join(FUNCTIONS)
    }

    fn serve_flags(&self, flags: &DevFlags) -> ServeFlags {
        ServeFlags {
            listen: flags.listen.clone(),
            control_listen: flags.control_listen.clone(),
            models: flags.models.clone(),
            data: Some(flags.data.clone().unwrap_or_else(|| self.folder.join(DATA))),
            dev_functions: Some(self.functions()),
            further: flags.further.clone(),
            ..ServeFlags::default()
        }
    }

    /// Builds and lays out; false where that did not work, which was said.
    fn build(&self) -> Result<bool, Stop> {
        let began = Instant::now();
        let laid_out = build::component(&self.folder).and_then(|component| self.layout.lay_out(&component));
        let took = began.elapsed();
        let facts = json!({ "function": self.name.to_string(), "took_ms": took.as_millis() as u64 });
        match laid_out {
            Ok(changed) => {
                let what = if changed { "the host takes it over within a second" } else { "nothing has changed" };
                self.tell("built", &format!("{} built in {:.1} s: {what}", self.name, took.as_secs_f64()), facts)?;
                Ok(true)
            }
            Err(why) => {
                self.tell("failed", &format!("{}: {why}; waiting for a change", self.name), facts)?;
                Ok(false)
            }
        }
    }

    fn tell(&self, event: &str, text: &str, mut facts: Value) -> Result<(), Stop> {
        if !self.json {
            output::notice(text);
            return Ok(());
        }
        facts["event"] = event.into();
        facts["text"] = text.into();
        Ok(output::line(&facts.to_string())?)
    }
}

/// A path as it is shown: below the folder where it is.
fn short<'a>(path: &'a Path, folder: &Path) -> std::path::Display<'a> {
    path.strip_prefix(folder).unwrap_or(path).display()
}
