//! Whether a host would take a component, in the host's order and words, and what each import meets there.
//!
//! Names and sentences are `contract`'s, which the host is built with, too; types are compared by `types`. What only a
//! host knows (its models, a limit that is set otherwise) is not judged here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::component::{Bytes, Component, Exported, Sizes};
use super::contract::{
    self, CORE_INSTANCES_PER_COMPONENT, MEMORIES_PER_COMPONENT, Offer, Refusal, STAGES, TABLE_ELEMENTS,
    TABLES_PER_COMPONENT, offer,
};
use super::types::Types;

/// What a host that is set up by nobody allows. A test of the host's holds these against its own.
#[derive(Debug, Serialize)]
pub(super) struct Limits {
    pub(super) component_bytes: u64,
    pub(super) memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { component_bytes: 64 << 20, memory_bytes: 512 << 20 }
    }
}

/// An import, and what it meets.
#[derive(Debug, Serialize)]
pub(super) struct Import {
    pub(super) name: String,
    /// `linked`, `refuses` (it is linked, and every call fails), `not-offered` or `type`.
    pub(super) offer: &'static str,
    /// What is used of it.
    pub(super) functions: Vec<String>,
}

/// What is known of a component.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// None where the bytes are no component.
    pub(super) sizes: Option<Sizes>,
    pub(super) stages: Vec<&'static str>,
    pub(super) imports: Vec<Import>,
    pub(super) exports: Vec<String>,
    pub(super) producers: BTreeMap<String, Vec<String>>,
    pub(super) refusal: Option<Refusal>,
    /// The types could not be read: only a host can tell whether they fit.
    pub(super) uncertain: bool,
}

/// Judges what was read of a file; `passthrough` is what `function.toml` says.
pub(super) fn judge(bytes: &Bytes, limits: &Limits, passthrough: bool) -> Verdict {
    let refused = |refusal| Verdict { refusal: Some(refusal), ..Verdict::default() };
    let bytes = match bytes {
        Bytes::TooLarge(size) => return refused(Refusal::TooLarge { size: *size, limit: limits.component_bytes }),
        Bytes::Whole(bytes) => bytes,
    };
    let component = match Component::read(bytes) {
        Ok(component) => component,
        Err(why) => return refused(Refusal::NotAComponent(why)),
    };
    let types = Types::of(bytes);
    let functions = types.as_ref().map(Types::imported).unwrap_or_default();
    let refusal = refusal(&component, types.as_ref(), bytes, limits);
    let exported = |stage: &str| component.stage(stage).is_some();
    let refusal = refusal.or_else(|| contract::one_preprocessing(exported("preprocessing"), passthrough).err());
    Verdict {
        stages: STAGES.iter().filter(|(name, _)| exported(name)).map(|(_, function)| *function).collect(),
        imports: component.imports.iter().map(|import| met(import, &functions)).collect(),
        uncertain: refusal.is_none() && !types.is_some_and(|types| types.are_comparable()),
        refusal,
        exports: component.exports,
        producers: component.producers,
        sizes: Some(component.sizes),
    }
}

fn met((name, is_type): &(String, bool), functions: &BTreeMap<String, Vec<String>>) -> Import {
    let offer = match offer(name) {
        _ if *is_type => "type",
        Some(Offer::Linked) => "linked",
        Some(Offer::Refuses) => "refuses",
        None => "not-offered",
    };
    Import { name: name.clone(), offer, functions: functions.get(name).cloned().unwrap_or_default() }
}

/// The first thing that the host would refuse, in its order, but for who makes tensors.
fn refusal(component: &Component, types: Option<&Types>, bytes: &[u8], limits: &Limits) -> Option<Refusal> {
    if let Some(why) = over_the_pool(&component.sizes, limits) {
        return Some(Refusal::NotAComponent(why));
    }
    let quoted = |name: &String| format!("`{name}`");
    let foreign = component.imports.iter().filter(|(name, is_type)| !is_type && offer(name).is_none());
    let foreign: Vec<_> = foreign.map(|(name, _)| quoted(name)).collect();
    if !foreign.is_empty() {
        return Some(Refusal::ForeignImports(foreign));
    }
    let unknown = component.exports.iter().filter(|name| contract::is_unknown_export(name));
    let unknown: Vec<_> = unknown.map(quoted).collect();
    if !unknown.is_empty() {
        return Some(Refusal::UnknownExports(unknown));
    }
    let found = |(stage, function)| Some((stage, component.stage(stage)?, function));
    let stages: Vec<_> = STAGES.into_iter().filter_map(found).collect();
    let odd = stages.iter().find_map(|(_, name, function)| odd(component, name, function));
    let stages: Vec<_> = stages.into_iter().map(|(stage, ..)| stage).collect();
    let comparable = types.filter(|types| types.are_comparable());
    let difference = odd.or_else(|| comparable.and_then(|types| types.difference(bytes, &stages)));
    difference.map(Refusal::DiffersFromContract)
}

/// What is wrong with a stage that WIT has no word for.
fn odd(component: &Component, name: &str, function: &str) -> Option<String> {
    match component.exported(name, function) {
        Some(Exported::Function) => None,
        Some(Exported::Missing) => Some(format!("`{name}` is exported without `{function}`")),
        Some(Exported::Other) => Some(format!("`{name}` exports `{function}`, but not as a function")),
        None => Some(format!("`{name}` is exported, but not as an interface")),
    }
}

/// What no slot of the host's pool has room for.
fn over_the_pool(sizes: &Sizes, limits: &Limits) -> Option<String> {
    let bounds = [
        ("instances of core modules", sizes.core_instances, u64::from(CORE_INSTANCES_PER_COMPONENT)),
        ("memories", sizes.memories, u64::from(MEMORIES_PER_COMPONENT)),
        ("tables", sizes.tables, u64::from(TABLES_PER_COMPONENT)),
        ("elements in a table", sizes.table_elements, TABLE_ELEMENTS as u64),
        ("bytes of memory at the start", sizes.memory_bytes, limits.memory_bytes),
    ];
    let over = bounds.into_iter().find(|(_, found, most)| found > most);
    over.map(|(what, found, most)| format!("it has {found} {what}, a host has room for {most}"))
}
