//! A component's file as far as it can be read without running it: sizes, imports, exports, who made it.
//!
//! What is foreign is read under a bound and validated before anything else looks at it. Nothing here knows what Tenon
//! offers; `verdict` compares.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Serialize;
use wasmparser::{
    ComponentTypeRef, CustomSectionReader, Encoding, Instance, KnownCustom, MemoryType, Parser, Payload, TypeBounds,
    Validator, WasmFeatures, component_types::ComponentEntityType, types::Types,
};

use super::contract;
use crate::failure::{Exit, Failure};

/// How every file of WebAssembly begins.
const MAGIC: &[u8] = b"\0asm";
const PAGE_BYTES: u64 = 1 << 16;
/// Producers that are shown; a component may name any number.
const PRODUCERS_MAX: usize = 64;
/// Linear memory ends here without `memory64`, whatever a component states.
const WASM32_BYTES: u64 = 4 << 30;

/// What a component consists of.
#[derive(Debug, Default, Serialize)]
pub(super) struct Sizes {
    pub(super) file_bytes: u64,
    /// Code of all core modules.
    pub(super) code_bytes: u64,
    /// Data that fills memory at the start.
    pub(super) data_bytes: u64,
    /// Names, debug information, producers.
    pub(super) custom_bytes: u64,
    pub(super) core_modules: u64,
    pub(super) core_instances: u64,
    pub(super) memories: u64,
    /// Memory at the start, and the most that it states for itself; none where it states nothing.
    pub(super) memory_bytes: u64,
    pub(super) memory_max_bytes: Option<u64>,
    pub(super) tables: u64,
    /// Of the largest table at the start.
    pub(super) table_elements: u64,
}

/// A component that validates.
#[derive(Default)]
pub(super) struct Component {
    pub(super) sizes: Sizes,
    /// Names of imports; whether each is a type alone, which needs nobody to offer it.
    pub(super) imports: Vec<(String, bool)>,
    pub(super) exports: Vec<String>,
    /// `language`, `processed-by`, `sdk`: what made it, with versions.
    pub(super) producers: BTreeMap<String, Vec<String>>,
    /// What the validator has found out.
    types: Option<Types>,
}

/// What stands in an exported interface under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exported {
    Function,
    /// Something else.
    Other,
    Missing,
}

/// A file's bytes, or only its size where that is over the limit.
pub(super) enum Bytes {
    Whole(Vec<u8>),
    TooLarge(u64),
}

/// Reads a file, not more of it than the limit.
pub(super) fn read(path: &Path, limit: u64) -> Result<Bytes, Failure> {
    let unreadable = |error: io::Error| {
        Failure::new(Exit::Usage, format!("cannot read {}: {error}", path.display()))
            .hint("give a component, such as target/wasm32-wasip2/release/words.wasm")
    };
    let file = File::open(path).map_err(unreadable)?;
    let known = file.metadata().map_err(unreadable)?.len();
    if known > limit {
        return Ok(Bytes::TooLarge(known));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    // A pipe has no length beforehand.
    if bytes.len() as u64 > limit { Ok(Bytes::TooLarge(bytes.len() as u64)) } else { Ok(Bytes::Whole(bytes)) }
}

impl Component {
    /// Validates and reads; the text says why these bytes are no component.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("it is empty".to_owned());
        }
        if !bytes.starts_with(MAGIC) {
            return Err("it does not begin as WebAssembly does".to_owned());
        }
        match Parser::new(0).parse_all(bytes).next() {
            Some(Ok(Payload::Version { encoding: Encoding::Component, .. })) => {}
            Some(Ok(_)) => return Err("it is a core module; build with `--target wasm32-wasip2`".to_owned()),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("it ends early".to_owned()),
        }
        let types = Validator::new_with_features(features()).validate_all(bytes).map_err(|error| error.to_string())?;
        let mut component = Self { types: Some(types), ..Self::default() };
        component.sizes.file_bytes = bytes.len() as u64;
        // Sections of nested modules and components come in between; only those of depth 0 are the component's own.
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| error.to_string())?;
            match &payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ => {}
            }
            component.see(&payload, depth == 0).map_err(|error| error.to_string())?;
        }
        Ok(component)
    }

    /// The name under which a stage is exported; none if it is not.
    pub(super) fn stage(&self, stage: &str) -> Option<&str> {
        contract::export_of(stage, self.exports.iter().map(String::as_str))
    }

    /// What an exported interface holds under a name; none if the export is not an interface.
    pub(super) fn exported(&self, interface: &str, name: &str) -> Option<Exported> {
        let types = self.types.as_ref()?;
        let ComponentEntityType::Instance(id) = types.as_ref().component_item_for_export(interface)?.ty else {
            return None;
        };
        Some(match types[id].exports.get(name).map(|item| item.ty) {
            None => Exported::Missing,
            Some(ComponentEntityType::Func(_)) => Exported::Function,
            Some(_) => Exported::Other,
        })
    }

    fn see(&mut self, payload: &Payload<'_>, own: bool) -> Result<(), wasmparser::BinaryReaderError> {
        let sizes = &mut self.sizes;
        match payload {
            Payload::ModuleSection { .. } => sizes.core_modules += 1,
            Payload::CodeSectionStart { size, .. } => sizes.code_bytes += u64::from(*size),
            Payload::DataSection(section) => sizes.data_bytes += section.range().len() as u64,
            Payload::CustomSection(section) => {
                sizes.custom_bytes += section.data().len() as u64;
                add_producers(&mut self.producers, section);
            }
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    sizes.core_instances += u64::from(matches!(instance?, Instance::Instantiate { .. }));
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    sizes.add_memory(&memory?);
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    sizes.tables += 1;
                    sizes.table_elements = sizes.table_elements.max(table?.ty.initial);
                }
            }
            Payload::ComponentImportSection(section) if own => {
                for import in section.clone() {
                    let import = import?;
                    // A resource has an owner, who would have to be there.
                    let is_type = matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_)));
                    self.imports.push((import.name.name.to_owned(), is_type));
                }
            }
            Payload::ComponentExportSection(section) if own => {
                for export in section.clone() {
                    self.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Sizes {
    fn add_memory(&mut self, memory: &MemoryType) {
        let bytes = |pages: u64| pages.saturating_mul(PAGE_BYTES);
        let most = memory.maximum.map(bytes).filter(|most| *most < WASM32_BYTES);
        // Of all together, as at the start: one that states nothing leaves the sum open.
        self.memory_max_bytes = match self.memories {
            0 => most,
            _ => self.memory_max_bytes.zip(most).map(|(before, most)| before.saturating_add(most)),
        };
        self.memories += 1;
        self.memory_bytes = self.memory_bytes.saturating_add(bytes(memory.initial));
    }
}

/// What wasmtime's release validates with, as the host has it set up: no shared memory, no garbage collection, no
/// exceptions, no asynchrony of the component model's own.
fn features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL;
    let absent = [WasmFeatures::GC_TYPES, WasmFeatures::EXCEPTIONS, WasmFeatures::THREADS, WasmFeatures::CM_ASYNC];
    absent.into_iter().for_each(|feature| features.set(feature, false));
    features
}

/// Adds what one module or component names; a producers section that cannot be read is nobody's fault.
fn add_producers(all: &mut BTreeMap<String, Vec<String>>, section: &CustomSectionReader<'_>) {
    let KnownCustom::Producers(fields) = section.as_known() else { return };
    for field in fields.into_iter().flatten() {
        for value in field.values.into_iter().flatten() {
            let made_with = format!("{} {}", value.name, value.version).trim().to_owned();
            let known = all.entry(field.name.to_owned()).or_default();
            if !known.contains(&made_with) && known.len() < PRODUCERS_MAX {
                known.push(made_with);
            }
        }
        if all.len() > PRODUCERS_MAX {
            return;
        }
    }
}
