//! The names that sentences are made of: lists of real cell types, markers and tissues, and what stands between them.
//! Owns which of them training never sees, and plurals. Knows nothing of tokens. Why the lists are text files: they are
//! read and changed by people who know cells, not Rust.

use std::collections::HashMap;

use anyhow::{Context, ensure};

/// What a name is the name of; the order is that of the model's labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Cell,
    Marker,
    Tissue,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Cell, Kind::Marker, Kind::Tissue];

    /// As it stands in labels and answers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Cell => "CELL",
            Kind::Marker => "MARKER",
            Kind::Tissue => "TISSUE",
        }
    }

    fn list(self) -> &'static str {
        match self {
            Kind::Cell => include_str!("text/cells.txt"),
            Kind::Marker => include_str!("text/markers.txt"),
            Kind::Tissue => include_str!("text/tissues.txt"),
        }
    }
}

/// Of so many names, the last one is kept out of training.
const KEPT_OUT_OF: usize = 5;

/// Names of all kinds, and filler by section.
pub(super) struct Names {
    pub(super) lists: [Vec<&'static str>; 3],
    filler: HashMap<&'static str, Vec<&'static str>>,
}

impl Names {
    /// Those that training sees.
    pub(super) fn seen() -> anyhow::Result<Self> {
        Self::choose(|index| index % KEPT_OUT_OF != KEPT_OUT_OF - 1)
    }

    /// Those that it does not.
    pub(super) fn unseen() -> anyhow::Result<Self> {
        Self::choose(|index| index % KEPT_OUT_OF == KEPT_OUT_OF - 1)
    }

    fn choose(wanted: impl Fn(usize) -> bool) -> anyhow::Result<Self> {
        let lists = Kind::ALL.map(|kind| {
            let names = lines(kind.list()).enumerate();
            names.filter(|(index, _)| wanted(*index)).map(|(_, name)| name).collect()
        });
        Ok(Self { lists, filler: sections(include_str!("text/filler.txt"))? })
    }

    pub(super) fn of(&self, kind: Kind) -> &[&'static str] {
        &self.lists[kind as usize]
    }

    /// What may stand at `{section}`; an error names the one that is not there.
    pub(super) fn filler(&self, section: &str) -> anyhow::Result<&[&'static str]> {
        self.filler.get(section).map(Vec::as_slice).with_context(|| format!("no filler [{section}]"))
    }
}

/// Lines that say something.
pub(super) fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn sections(text: &'static str) -> anyhow::Result<HashMap<&'static str, Vec<&'static str>>> {
    let mut sections: HashMap<_, Vec<_>> = HashMap::new();
    let mut current = None;
    for line in lines(text) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => current = Some(name),
            None => sections.entry(current.context("filler before a section")?).or_default().push(line),
        }
    }
    ensure!(!sections.is_empty(), "no filler");
    Ok(sections)
}

/// More than one of it: `Tregs`, `interstitial cells of Cajal`, `microglia`.
pub(super) fn plural(name: &str) -> String {
    if let Some((head, rest)) = name.split_once(" of ") {
        return format!("{} of {rest}", plural(head));
    }
    let unchanged = ["glia"];
    if unchanged.iter().any(|end| name.ends_with(end)) {
        return name.to_owned();
    }
    match name.strip_suffix("gonium") {
        Some(stem) => format!("{stem}gonia"),
        None => format!("{name}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_fifth_is_kept_out_and_nothing_is_in_both() {
        let (seen, unseen) = (Names::seen().unwrap(), Names::unseen().unwrap());
        for kind in Kind::ALL {
            let lower = |name: &&str| name.to_lowercase();
            let (a, b): (HashSet<_>, HashSet<_>) =
                (seen.of(kind).iter().map(lower).collect(), unseen.of(kind).iter().map(lower).collect());
            assert!(b.len() >= 25, "{}: {}", kind.name(), b.len());
            assert!(a.len() > 3 * b.len(), "{}", kind.name());
            assert_eq!(a.intersection(&b).collect::<Vec<_>>(), Vec::<&String>::new());
        }
    }

    #[test]
    fn no_name_is_filler() {
        let names = [Names::seen().unwrap(), Names::unseen().unwrap()];
        let all: HashSet<_> = names.iter().flat_map(|names| names.lists.iter().flatten()).collect();
        for section in ["drug", "disease", "method", "species", "process"] {
            assert!(names[0].filler(section).unwrap().iter().all(|word| !all.contains(word)), "{section}");
        }
        assert!(names[0].filler("nonsense").is_err());
    }

    #[test]
    fn plurals() {
        for (one, many) in [
            ("Treg", "Tregs"),
            ("interstitial cell of Cajal", "interstitial cells of Cajal"),
            ("microglia", "microglia"),
            ("spermatogonium", "spermatogonia"),
        ] {
            assert_eq!(plural(one), many);
        }
    }
}
