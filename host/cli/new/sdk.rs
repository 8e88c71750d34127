//! The SDK's sources and the contract, as they were when this program was built: a plugin's project needs no checkout.
//!
//! A list by hand, because a build script would hide what is shipped; a test holds it against the repository.

macro_rules! files {
    ($($file:literal),* $(,)?) => { &[$(($file, include_str!(concat!("../../../plugins/sdk/", $file)))),*] };
}

/// Paths below the SDK's folder, and what is there.
pub(super) const FILES: &[(&str, &str)] = files![
    "Cargo.toml",
    "src/bindings.rs",
    "src/images.rs",
    "src/json.rs",
    "src/lib.rs",
    "src/native/fit.rs",
    "src/native/http.rs",
    "src/native/images.rs",
    "src/native/mod.rs",
    "src/native/policy.rs",
    "src/native/steps.rs",
    "src/native/tensor.rs",
    "src/native/text.rs",
    "src/refusal.rs",
    "src/response.rs",
    "src/settings.rs",
    "src/stage.rs",
    "src/step.rs",
    "src/tensor.rs",
    "wit/README.md",
    "wit/caching.wit",
    "wit/config.wit",
    "wit/images.wit",
    "wit/logging.wit",
    "wit/policies.wit",
    "wit/postprocessing.wit",
    "wit/preprocessing.wit",
    "wit/request.wit",
    "wit/response.wit",
    "wit/steps.wit",
    "wit/tensors.wit",
    "wit/text.wit",
    "wit/types.wit",
    "wit/validation.wit",
    "wit/worlds.wit",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// All files below a folder, links followed.
    fn below(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(root, &path, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn nothing_of_the_repositorys_sdk_is_missing_or_older() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sdk");
        let mut there = BTreeSet::new();
        below(&sdk, &sdk, &mut there);
        let here: BTreeSet<_> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(here, there, "put the list in new/sdk.rs right");
        for (path, text) in FILES {
            assert_eq!(*text, fs::read_to_string(sdk.join(path)).unwrap(), "{path}");
        }
    }
}
