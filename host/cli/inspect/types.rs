//! Whether a component's imports and exports have the types of the contract: `wit/` as text, a component's own types as
//! text, and the question answered by the rules of WebAssembly itself (a component that wants the world is given the
//! component, and validated).
//!
//! It owns the contract's files and knows no names of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::panic;

use wit_component::WitPrinter;
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{InterfaceId, PackageId, Resolve, SourceMap, WorldId, WorldItem};

use super::contract::{PACKAGE, VERSION};

/// The contract, as it was when this program was built.
const WIT: [(&str, &str); 15] = [
    ("caching", include_str!("../../../wit/caching.wit")),
    ("config", include_str!("../../../wit/config.wit")),
    ("images", include_str!("../../../wit/images.wit")),
    ("logging", include_str!("../../../wit/logging.wit")),
    ("policies", include_str!("../../../wit/policies.wit")),
    ("postprocessing", include_str!("../../../wit/postprocessing.wit")),
    ("preprocessing", include_str!("../../../wit/preprocessing.wit")),
    ("request", include_str!("../../../wit/request.wit")),
    ("response", include_str!("../../../wit/response.wit")),
    ("steps", include_str!("../../../wit/steps.wit")),
    ("tensors", include_str!("../../../wit/tensors.wit")),
    ("text", include_str!("../../../wit/text.wit")),
    ("types", include_str!("../../../wit/types.wit")),
    ("validation", include_str!("../../../wit/validation.wit")),
    ("worlds", include_str!("../../../wit/worlds.wit")),
];
/// The world that is made for one component: what it imports, and the stages that it exports.
const WORLD: &str = "inspected";

/// A component's imports and exports as WIT.
pub(super) struct Types {
    resolve: Resolve,
    world: WorldId,
}

impl Types {
    /// Reads them out of a component that validates; none where it holds what WIT cannot say.
    pub(super) fn of(component: &[u8]) -> Option<Self> {
        // Components are hostile until the opposite is known, and this is much code: a fault in it is an answer, too.
        match quietly(|| decode(component))?.ok()? {
            DecodedWasm::Component(resolve, world) => Some(Self { resolve, world }),
            DecodedWasm::WitPackage(..) => None,
        }
    }

    /// Functions by the import that they belong to.
    pub(super) fn imported(&self) -> BTreeMap<String, Vec<String>> {
        let named = self.named(self.resolve.worlds[self.world].imports.values()).map(|(id, name)| {
            let functions = self.resolve.interfaces[id].functions.values();
            (name, functions.map(|function| plain(&function.name)).collect())
        });
        named.collect()
    }

    /// Whether all of it can be said in a world of our own: a type that is imported by itself cannot.
    pub(super) fn are_comparable(&self) -> bool {
        let mut imports = self.resolve.worlds[self.world].imports.values();
        !imports.any(|item| matches!(item, WorldItem::Type { .. }))
    }

    /// How the component differs from the contract; none if it fits. `stages` are the interfaces that it exports.
    pub(super) fn difference(&self, component: &[u8], stages: &[&str]) -> Option<String> {
        let fits = quietly(|| {
            let (resolve, world) = self.wanted(stages)?;
            wit_component::targets(&resolve, world, component).map_err(|error| format!("{error:#}"))
        });
        match fits {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(format!("it differs from contract {VERSION}: {error}")),
            None => Some("its types could not be compared".to_owned()),
        }
    }

    /// A world that imports what the component imports and exports the stages that it exports: the contract's own
    /// interfaces as the contract has them, all others as the component has them. The contract goes by the version that
    /// the component knows it by, which may be an earlier one.
    fn wanted(&self, stages: &[&str]) -> Result<(Resolve, WorldId), String> {
        let mut world = format!("package {WORLD}:{WORLD};\nworld {WORLD} {{\n");
        let mut versions = BTreeSet::new();
        let mut foreign: Vec<PackageId> = Vec::new();
        let known = &self.resolve.worlds[self.world];
        for (id, name) in self.named(known.imports.values()) {
            world.push_str(&format!("  import {name};\n"));
            if let Some((_, version)) = own(&name) {
                versions.insert(version.to_owned());
            } else if let Some(package) = self.resolve.interfaces[id].package
                && !foreign.contains(&package)
            {
                foreign.push(package);
            }
        }
        for (_, name) in self.named(known.exports.values()) {
            if let Some((interface, version)) = own(&name)
                && stages.contains(&interface)
            {
                world.push_str(&format!("  export {name};\n"));
                versions.insert(version.to_owned());
            }
        }
        world.push_str("}\n");
        for version in versions {
            world.push_str(&format!("package {}@{version} {{\n", PACKAGE.trim_end_matches('/')));
            // Each file begins with the package's name.
            WIT.iter().for_each(|(_, text)| world.push_str(text.split_once('\n').map_or("", |(_, rest)| rest)));
            world.push_str("}\n");
        }
        for package in foreign {
            let mut printer = WitPrinter::default();
            printer.print_package(&self.resolve, package, false).map_err(|error| format!("{error:#}"))?;
            world.push_str(&String::from(printer.output));
        }
        let mut files = SourceMap::new();
        files.push_str("inspected.wit", world);
        let mut resolve = Resolve::default();
        let group = files.parse().map_err(|(files, error)| error.render(&files))?;
        let package = resolve.push_group(group).map_err(|error| error.to_string())?;
        let world = resolve.select_world(&[package], Some(WORLD)).map_err(|error| format!("{error:#}"))?;
        Ok((resolve, world))
    }

    /// Interfaces that have a name.
    fn named<'a>(&self, items: impl Iterator<Item = &'a WorldItem>) -> impl Iterator<Item = (InterfaceId, String)> {
        items.filter_map(|item| match item {
            WorldItem::Interface { id, .. } => Some((*id, self.resolve.id_of(*id)?)),
            _ => None,
        })
    }
}

/// An interface of the contract's, without its package, and the version.
fn own(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

/// `[method]tensor.write` as `tensor.write`.
fn plain(name: &str) -> String {
    name.rsplit(']').next().unwrap_or(name).to_owned()
}

/// None if it panics; nothing is printed.
fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(panic::AssertUnwindSafe(work)).ok();
    panic::set_hook(hook);
    result
}

#[cfg(test)]
mod tests {
    use super::super::contract::{OFFERED, STAGES, export_name};
    use super::*;

    fn contract() -> (Resolve, PackageId) {
        let mut files = SourceMap::new();
        WIT.iter().for_each(|(name, text)| files.push_str(&format!("{name}.wit"), *text));
        let mut resolve = Resolve::default();
        let package = resolve.push_group(files.parse().map_err(|(_, error)| error).unwrap()).unwrap();
        (resolve, package)
    }

    /// `contract.rs` has by name what `wit/` has by type; the two may not part.
    #[test]
    fn what_is_offered_is_what_the_contract_says() {
        let (resolve, package) = contract();
        let names = |world: &str| {
            let world = &resolve.worlds[resolve.select_world(&[package], Some(world)).unwrap()];
            let interfaces = |items: Vec<&WorldItem>| {
                let ids = items.into_iter().filter_map(|item| match item {
                    WorldItem::Interface { id, .. } => Some(*id),
                    _ => None,
                });
                let mut names: Vec<_> = ids.map(|id| resolve.id_of(id).unwrap()).collect();
                names.sort();
                names
            };
            (interfaces(world.imports.values().collect()), interfaces(world.exports.values().collect()))
        };
        let mut offered: Vec<_> = OFFERED.iter().map(|name| export_name(name)).collect();
        offered.sort();
        assert_eq!(names("imports").0, offered, "the imports of world `imports`");
        let mut stages: Vec<_> = STAGES.iter().map(|(name, _)| export_name(name)).collect();
        stages.sort();
        assert_eq!(names("plugin").1, stages, "the exports of world `plugin`");
        for (interface, function) in STAGES {
            let id = resolve.packages[package].interfaces[interface];
            assert!(resolve.interfaces[id].functions.contains_key(function), "{interface}.{function}");
        }
    }

    #[test]
    fn every_file_of_the_contract_is_here() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files.filter_map(|name| name.strip_suffix(".wit").map(str::to_owned)).collect();
        files.sort();
        assert_eq!(files, WIT.map(|(name, _)| name));
    }
}
