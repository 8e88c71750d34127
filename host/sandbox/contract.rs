//! What a plugin may import and export, and why a component is refused: names, numbers and sentences.
//!
//! It is compiled twice, into the host, whose compiler refuses by it, and into the command line, whose `tenon inspect`
//! says the same before anything is deployed; so it names nothing but `thiserror`. A test of the command line holds it
//! against `wit/`, one of the host's holds the two verdicts against each other.

/// The contract's version, as exports and imports are named.
pub(crate) const VERSION: &str = "1.0.0";
/// The contract's package.
pub(crate) const PACKAGE: &str = "tenon:plugin/";
/// What begins like this is the contract's, also where the contract does not know it.
pub(crate) const NAMESPACE: &str = "tenon:";

/// The interfaces that a plugin may export, and the function of each.
pub(crate) const STAGES: [(&str, &str); 4] = [
    ("validation", "validate"),
    ("caching", "policy"),
    ("preprocessing", "preprocess"),
    ("postprocessing", "postprocess"),
];

/// Interfaces of the contract that this host links.
pub(crate) const OFFERED: [&str; 10] =
    ["types", "request", "response", "tensors", "text", "images", "logging", "config", "steps", "policies"];

/// Versions of WASI that are linked: any of 0.2, as its packages promise.
const WASI_VERSION: &str = "0.2.";
/// WASI that works: clocks and random numbers, nothing behind the rest.
const WASI_LINKED: [(&str, &[&str]); 4] = [
    ("wasi:io/", &["error", "poll", "streams"]),
    ("wasi:clocks/", &["monotonic-clock", "wall-clock"]),
    ("wasi:random/", &["random", "insecure", "insecure-seed"]),
    (
        "wasi:cli/",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
];
/// WASI that is linked over nothing, for language runtimes that import it: every call refuses.
const WASI_REFUSING: [(&str, &[&str]); 2] = [
    ("wasi:filesystem/", &["types", "preopens"]),
    (
        "wasi:sockets/",
        &["network", "instance-network", "ip-name-lookup", "tcp", "tcp-create-socket", "udp", "udp-create-socket"],
    ),
];

/// Core modules in a component: the guest's own, and those that adapt WASI for it.
pub(crate) const CORE_INSTANCES_PER_COMPONENT: u32 = 20;
/// Memories per component: the pool's slots have one.
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 1;
/// Tables per component; interpreters in WebAssembly have up to four.
pub(crate) const TABLES_PER_COMPONENT: u32 = 8;
/// Elements of a table at its beginning.
pub(crate) const TABLE_ELEMENTS: usize = 40_000;

/// What an import meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It works.
    Linked,
    /// It is linked, and every call refuses.
    Refuses,
}

/// What an import of this name meets; none if the host does not offer it.
pub(crate) fn offer(name: &str) -> Option<Offer> {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    if let Some(own) = interface.strip_prefix(PACKAGE) {
        return (OFFERED.contains(&own) && fits(version, VERSION)).then_some(Offer::Linked);
    }
    let listed = |list: &[(&str, &[&str])]| {
        let mut packages = list.iter();
        packages.any(|(package, names)| interface.strip_prefix(package).is_some_and(|name| names.contains(&name)))
    };
    if !version.starts_with(WASI_VERSION) {
        None
    } else if listed(&WASI_LINKED) {
        Some(Offer::Linked)
    } else {
        listed(&WASI_REFUSING).then_some(Offer::Refuses)
    }
}

/// The full name of an exported interface of this very version.
#[cfg(test)]
pub(crate) fn export_name(interface: &str) -> String {
    format!("{PACKAGE}{interface}@{VERSION}")
}

/// The name under which a component exports a stage, which may be that of an earlier version of the contract.
pub(crate) fn export_of<'a>(stage: &str, exports: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    exports.into_iter().find(|name| stage_of(name) == Some(stage))
}

/// Whether an export looks like a stage and is none: taken for absent it would switch validation off.
pub(crate) fn is_unknown_export(name: &str) -> bool {
    name.starts_with(NAMESPACE) && stage_of(name).is_none()
}

/// The stage that an export of this name is.
fn stage_of(name: &str) -> Option<&'static str> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
    let stage = STAGES.iter().find(|(stage, _)| *stage == interface)?.0;
    fits(version, VERSION).then_some(stage)
}

/// Whether what was built against one version of the contract runs on a host of another: the same, or a release of the same
/// major version that is no newer in what it may use. Patches change no types. A pre-release promises nothing.
fn fits(theirs: &str, ours: &str) -> bool {
    let release = |version: &str| -> Option<[u32; 3]> {
        let numbers: Vec<u32> = version.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        numbers.try_into().ok()
    };
    let known = || {
        let ([major, minor, _], [our_major, our_minor, _]) = (release(theirs)?, release(ours)?);
        Some(major == our_major && minor <= our_minor)
    };
    theirs == ours || known().unwrap_or(false)
}

/// Whether exactly one of the two turns requests into tensors: the plugin or, passing them through, the host.
pub(crate) fn one_preprocessing(exported: bool, passthrough: bool) -> Result<(), Refusal> {
    match (exported, passthrough) {
        (false, false) => Err(Refusal::NoPreprocessing),
        (true, true) => Err(Refusal::TwoPreprocessings),
        _ => Ok(()),
    }
}

/// Why a component may not be deployed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum Refusal {
    #[error("the component has {size} bytes, at most {limit} are allowed")]
    TooLarge { size: u64, limit: u64 },
    #[error("this is not a WebAssembly component: {0}")]
    NotAComponent(String),
    #[error("the component imports what Tenon does not offer: {}", .0.join(", "))]
    ForeignImports(Vec<String>),
    #[error(
        "the component exports {} under a name that contract {VERSION} does not know; a plugin is built against `wit/`",
        .0.join(", ")
    )]
    UnknownExports(Vec<String>),
    #[error("{0}")]
    DiffersFromContract(String),
    #[error("the component exports no `preprocessing`, and function.toml does not say `passthrough = \"oip\"`")]
    NoPreprocessing,
    #[error("the component exports `preprocessing`, which would never run: function.toml says `passthrough`")]
    TwoPreprocessings,
}

impl Refusal {
    /// A name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::NotAComponent(_) => "not-a-component",
            Self::ForeignImports(_) => "foreign-imports",
            Self::UnknownExports(_) => "unknown-exports",
            Self::DiffersFromContract(_) => "differs-from-contract",
            Self::NoPreprocessing => "no-preprocessing",
            Self::TwoPreprocessings => "two-preprocessings",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_built_earlier_runs_on() {
        for theirs in ["1.0.0", "1.0.7", "1.2.0", "1.3.9"] {
            assert!(fits(theirs, "1.3.0"), "{theirs}");
        }
        for theirs in ["1.4.0", "2.0.0", "0.3.0", "1.3", "1.3.0.1", "1.3.0-rc.1", "1.-3.0", "", "x"] {
            assert!(!fits(theirs, "1.3.0"), "{theirs}");
        }
        assert!(fits("1.4.0-rc.2", "1.4.0-rc.2"));
        assert!(!fits("1.4.0-rc.1", "1.4.0-rc.2"));
        assert!(!fits("1.4.0-rc.2", "1.4.0"));
    }

    #[test]
    fn stages_go_by_their_names_whichever_release_they_are_of() {
        let here = export_name("validation");
        assert_eq!(export_of("validation", [&here[..], "other:thing/validation@1.0.0"]), Some(&here[..]));
        assert_eq!(export_of("caching", [&here[..]]), None);
        assert!(is_unknown_export("tenon:plugin/validation@99.0.0"));
        assert!(is_unknown_export("tenon:plugin/validation"));
        assert!(!is_unknown_export(&here));
        assert!(!is_unknown_export("somebody:else/validation@1.0.0"));
    }
}
