//! A page's blocks of code as what a reader does with them.
//!
//! Owns the rules of such a page: a block of Rust or TOML names its file in its first line, a block of `sh` is
//! commands, and a block of `text` or `json` right after it is their answer. Refuses to run anything.

/// Something that the reader does.
#[derive(Debug, PartialEq)]
pub(crate) enum Part<'a> {
    /// Writes a file, or puts the text in the place of the item that begins so.
    File { path: &'a str, in_place_of: Option<&'a str>, text: String },
    /// Types commands, and perhaps compares what they say.
    Commands { text: &'a str, answer: Option<&'a str> },
}

/// All parts in order, with the numbers of their first lines.
pub(crate) fn parts(page: &str) -> Vec<(usize, Part<'_>)> {
    let mut parts: Vec<(usize, Part<'_>)> = Vec::new();
    let (mut rest, mut line) = (page, 1);
    while let Some(fence) = rest.find("```") {
        line += rest[..fence].matches('\n').count();
        let (language, after) = rest[fence + 3..].split_once('\n').expect("a block has lines");
        let (text, after) = after.split_at(after.find("```").unwrap_or_else(|| panic!("line {line}: no end")));
        match (language, parts.last_mut()) {
            ("rust" | "toml", _) => parts.push((line + 1, file(text, line + 1))),
            ("sh", _) => parts.push((line + 1, Part::Commands { text, answer: None })),
            // Right below: nothing but the end of the block above stands between.
            ("text" | "json", Some((_, Part::Commands { answer: answer @ None, .. }))) if fence == 1 => {
                *answer = Some(text);
            }
            _ => panic!("line {line}: a block of `{language}` here is neither a file, nor commands, nor their answer"),
        }
        line += 1 + text.matches('\n').count();
        rest = &after[3..];
    }
    parts
}

fn file(text: &str, line: usize) -> Part<'_> {
    let (first, below) = text.split_once('\n').unwrap_or((text, ""));
    let name = first.strip_prefix("// ").or_else(|| first.strip_prefix("# "));
    let name = name.unwrap_or_else(|| panic!("line {line}: the first line of a file's block is its name in a comment"));
    match name.split_once(", in place of ") {
        Some((path, item)) => Part::File { path, in_place_of: Some(item.trim_matches('`')), text: below.to_owned() },
        None => Part::File { path: name, in_place_of: None, text: text.to_owned() },
    }
}

/// `text` with another item in the place of the one that begins with `start` and ends at the first `}` of a line.
pub(crate) fn replaced(text: &str, start: &str, item: &str) -> String {
    const END: &str = "\n}\n";
    let from = text.find(&format!("\n{start}")).unwrap_or_else(|| panic!("no item begins with `{start}`")) + 1;
    let to = from + text[from..].find(END).unwrap_or_else(|| panic!("`{start}` has no end")) + END.len();
    [&text[..from], item, &text[to..]].concat()
}

/// Whether an answer is the one on the page, but for spaces and what is never the same twice: ids, digests, times.
pub(crate) fn same(page: &str, said: &str) -> bool {
    bare(page) == bare(said)
}

fn bare(text: &str) -> String {
    let in_word = |letter: char| letter.is_ascii_alphanumeric() || "-.:".contains(letter);
    let mut bare = String::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let length =
            if in_word(first) { rest.find(|letter| !in_word(letter)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (word, after) = rest.split_at(length);
        bare.push_str(if is_passing(word) { "_" } else { word.trim() });
        rest = after;
    }
    bare
}

fn is_passing(word: &str) -> bool {
    const ID: usize = 36;
    const DIGEST: usize = 12;
    let hex = |allowed: &str| word.chars().all(|letter| letter.is_ascii_hexdigit() || allowed.contains(letter));
    let seconds = |word: &str| word.strip_suffix('s').is_some_and(|number| number.parse::<f64>().is_ok());
    word.len() == ID && hex("-") || word.len() == DIGEST && hex("") || seconds(word)
}

#[test]
fn parts_of_a_page() {
    let page = "Text.\n```toml\n# a/b.toml\nx = 1\n```\nThen:\n\n```sh\nls\n```\n```text\nb.toml\n```\n\n\
                ```sh\nrm x\n```\n\
                ```rust\n// c.rs, in place of `impl X`\nimpl X {}\n```\n";
    let file = Part::File { path: "a/b.toml", in_place_of: None, text: "# a/b.toml\nx = 1\n".to_owned() };
    let part = Part::File { path: "c.rs", in_place_of: Some("impl X"), text: "impl X {}\n".to_owned() };
    let ls = Part::Commands { text: "ls\n", answer: Some("b.toml\n") };
    let rm = Part::Commands { text: "rm x\n", answer: None };
    assert_eq!(parts(page), [(3, file), (9, ls), (16, rm), (19, part)]);
}

#[test]
#[should_panic(expected = "line 5: a block of `json` here is neither")]
fn an_answer_stands_right_below_its_commands() {
    parts("```sh\nls\n```\nText.\n```json\n{}\n```\n");
}

#[test]
fn an_item_is_replaced_and_nothing_else() {
    let text = "use x;\n\nimpl A for X {\n    fn a() {\n    }\n}\n\nimpl B for X {\n}\n";
    assert_eq!(replaced(text, "impl A", "impl A for X {}\n"), "use x;\n\nimpl A for X {}\n\nimpl B for X {\n}\n");
}

#[test]
fn answers_are_the_same_but_for_what_passes() {
    const ID: &str = "01a1fa45-f433-7120-9e00-6d6f282c0952";
    const OTHER: &str = "11b1fa45-f433-7120-9e00-6d6f282c0953";
    assert!(same(&format!("request id {ID}\n"), &format!("  request  id {OTHER}")));
    assert!(same("ready  4a11e88e70a1  a, b; finished in 0.00s", "ready 4a11e88e70a2 a, b;\nfinished in 0.12s"));
    for (page, said) in
        [("{\"score\":0.44}", "{\"score\":0.45}"), ("revision 1", "revision 2"), ("a b", "a"), ("", "a")]
    {
        assert!(!same(page, said), "{page} and {said}");
    }
}
