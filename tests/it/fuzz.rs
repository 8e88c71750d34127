//! Fuzzing: texts and bytes from outside, made by changing good ones and by putting together what looks good. No case
//! may panic, and what is accepted must mean what it says. Good and once troublesome inputs lie in `tests/corpus` and are
//! tried first, and cases that failed are kept beside them (`regressions`). 2,000 cases each here; as many as
//! `PROPTEST_CASES` says, 100,000 in `make soak`.

mod images;
mod oip;
mod requests;
mod tensors;
mod texts;

use std::path::{Path, PathBuf};

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, FileFailurePersistence, TestCaseResult, TestRunner},
};

/// Cases of each target where nobody asks for more.
const CASES: u32 = 2000;
/// Changes to one input.
const MAX_EDITS: usize = 6;
/// The longest stretch that one change takes or repeats.
const MAX_STRETCH: usize = 48;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target)
}

/// Every file of a target's corpus, in order of name.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus of {target} is empty");
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Tries a property on as many cases as are asked for.
#[allow(clippy::print_stdout, reason = "`make soak` shows how far it is")]
fn cases<S: Strategy>(target: &'static str, strategy: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok());
    // The path is wanted as text that lives as long as the process.
    let kept = corpus("regressions").join(format!("{target}.txt")).into_os_string().into_string().unwrap().leak();
    let config = Config {
        cases: wanted.unwrap_or(CASES),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..Config::default()
    };
    let cases = config.cases;
    if let Err(failed) = TestRunner::new(config).run(strategy, property) {
        panic!("{target}: {failed}");
    }
    println!("{target}: {cases} cases");
}

/// One change to an input.
#[derive(Clone, Debug)]
enum Edit {
    Delete(Index, usize),
    Repeat(Index, usize),
    Insert(Index, &'static str),
    /// A number becomes another one.
    Number(Index, &'static str),
    Byte(Index, u8),
}

const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "65536",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "-9223372036854775809",
    "1e400",
    "nan",
    "0x7f",
];

fn edit(tokens: &'static [&'static str]) -> impl Strategy<Value = Edit> {
    let (at, stretch) = (any::<Index>(), 1..MAX_STRETCH);
    prop_oneof![
        (any::<Index>(), stretch.clone()).prop_map(|(at, length)| Edit::Delete(at, length)),
        (any::<Index>(), stretch).prop_map(|(at, length)| Edit::Repeat(at, length)),
        (any::<Index>(), prop::sample::select(tokens)).prop_map(|(at, token)| Edit::Insert(at, token)),
        (any::<Index>(), prop::sample::select(&NUMBERS[..])).prop_map(|(at, number)| Edit::Number(at, number)),
        (at, any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
    ]
}

impl Edit {
    fn apply(&self, input: &mut Vec<u8>) {
        let place = |at: &Index| at.index(input.len() + 1);
        match self {
            Self::Delete(at, length) => {
                let start = place(at);
                input.drain(start..(start + length).min(input.len()));
            }
            Self::Repeat(at, length) => {
                let start = place(at);
                let stretch = input[start..(start + length).min(input.len())].to_vec();
                input.splice(start..start, stretch);
            }
            Self::Insert(at, token) => {
                let start = place(at);
                input.splice(start..start, token.bytes());
            }
            Self::Number(at, number) => {
                let digits: Vec<_> = (0..input.len()).filter(|at| input[*at].is_ascii_digit()).collect();
                let Some(start) = digits.get(at.index(digits.len().max(1))).copied() else { return };
                let end = (start..input.len()).find(|at| !input[*at].is_ascii_digit()).unwrap_or(input.len());
                input.splice(start..end, number.bytes());
            }
            Self::Byte(at, byte) => {
                if let Some(place) = at.index(input.len() + 1).checked_sub(1) {
                    input[place] = *byte;
                }
            }
        }
    }
}

/// A seed of the target with some changes.
fn changed(target: &str, tokens: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let edits = prop::collection::vec(edit(tokens), 0..=MAX_EDITS);
    (prop::sample::select(seeds(target)), edits).prop_map(|(mut input, edits)| {
        edits.iter().for_each(|edit| edit.apply(&mut input));
        input
    })
}
