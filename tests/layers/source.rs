//! Rust source as far as `layers` must read it: words and signs without comments and texts, and from those every path
//! that is named, resolved against the module it stands in.
//!
//! Knows nothing of rooms. Not a parser: it finds paths in every place where one can stand (`use` trees, expressions,
//! types, attributes, macros), and cannot see what a macro makes up.

/// A path as the file names it, made absolute: `["crate", "engine", "Model"]` or `["axum", "Router"]`.
pub type Path = Vec<String>;

/// Words and signs of a source, in order. A lifetime keeps its tick, so that it is no word.
pub fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        if let Some(taken) = blank(rest).or_else(|| text(rest)) {
            at += taken;
            continue;
        }
        // `r#engine` is `engine`.
        let raw = if starts(rest, "r#") { 2 } else { 0 };
        let length = word(&rest[raw..]);
        tokens.push(rest[raw..raw + length].iter().collect());
        at += raw + length;
    }
    tokens
}

/// The length of a word, lifetime or sign.
fn word(rest: &[char]) -> usize {
    let sign = if starts(rest, "::") { 2 } else { usize::from(!is_word(rest[0])) };
    let named = sign == 0 || rest[0] == '\'';
    sign + if named { rest[sign..].iter().take_while(|c| is_word(**c)).count() } else { 0 }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn starts(rest: &[char], text: &str) -> bool {
    text.chars().enumerate().all(|(index, c)| rest.get(index) == Some(&c))
}

/// The length of a space or comment.
fn blank(rest: &[char]) -> Option<usize> {
    if rest[0].is_whitespace() {
        return Some(1);
    }
    if starts(rest, "//") {
        return Some(rest.iter().take_while(|c| **c != '\n').count());
    }
    if !starts(rest, "/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            inner if starts(inner, "/*") => (depth, at) = (depth + 1, at + 2),
            inner if starts(inner, "*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// The length of a string, raw string, byte string or character.
fn text(rest: &[char]) -> Option<usize> {
    let prefix = rest.iter().take_while(|c| ['b', 'c', 'r'].contains(c)).count();
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    let open = prefix + hashes;
    let raw = prefix > 0 && rest[prefix - 1] == 'r';
    match rest.get(open) {
        Some('"') if prefix <= 2 && raw => {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = (open + 1..rest.len()).find(|at| starts(&rest[*at..], &end)).unwrap_or(rest.len());
            Some((body + end.len()).min(rest.len()))
        }
        Some('"') if prefix <= 1 && hashes == 0 => Some(quoted(rest, open, '"')),
        // A tick that closes after one character is a character, else a lifetime.
        Some('\'') if prefix <= 1 && hashes == 0 => match (rest.get(open + 1), rest.get(open + 2)) {
            (Some('\\'), _) | (_, Some('\'')) => Some(quoted(rest, open, '\'')),
            _ => None,
        },
        _ => None,
    }
}

fn quoted(rest: &[char], open: usize, close: char) -> usize {
    let mut at = open + 1;
    while at < rest.len() && rest[at] != close {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Every path named in `source`, the text of the module `module` (`["engine", "queue"]`), with `crate`, `self` and
/// `super` resolved. `krate` is another name for `crate`, which a binary has for its library.
pub fn paths(source: &str, module: &[&str], krate: &str) -> Vec<Path> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    // The modules that are open, and for each brace whether it opened one.
    let mut modules: Vec<String> = module.iter().map(|name| (*name).to_owned()).collect();
    let mut braces = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).map_or("", |before| &tokens[before][..]);
        match &tokens[at][..] {
            "{" => {
                let opens = at >= 2 && tokens[at - 2] == "mod";
                if opens {
                    modules.push(tokens[at - 1].clone());
                }
                braces.push(opens);
            }
            "}" if braces.pop() == Some(true) => drop(modules.pop()),
            // `+ use<'a>` of a return type captures lifetimes and names no path.
            "use" if tokens.get(at + 1).is_some_and(|next| next != "<") => {
                let mut tree = Vec::new();
                at = use_tree(&tokens, at + 1, &[], &mut tree);
                found.extend(tree.into_iter().map(|path| absolute(path, &modules, krate)));
                continue;
            }
            "extern" if tokens.get(at + 1).is_some_and(|next| next == "crate") => {
                found.push(vec![tokens[at + 2].clone()]);
                at += 3;
                continue;
            }
            word if word.starts_with(is_word)
                && before != "::"
                && tokens.get(at + 1).is_some_and(|next| next == "::") =>
            {
                let mut path = vec![word.to_owned()];
                while tokens.get(at + 1).is_some_and(|next| next == "::")
                    && tokens.get(at + 2).is_some_and(|next| next.starts_with(is_word))
                {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                found.push(absolute(path, &modules, krate));
            }
            // `::axum::Router` names a crate whatever modules there are.
            "::" if !before.starts_with(is_word)
                && before != ">"
                && tokens.get(at + 1).is_some_and(|t| t.starts_with(is_word)) =>
            {
                found.push(vec![tokens[at + 1].clone()]);
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads one branch of a `use` tree from `at` on; returns where it ends.
fn use_tree(tokens: &[String], mut at: usize, stem: &[String], found: &mut Vec<Path>) -> usize {
    let mut path = stem.to_vec();
    while let Some(token) = tokens.get(at) {
        match &token[..] {
            "::" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|next| next != "}") {
                    at = use_tree(tokens, at, &path, found);
                    at += usize::from(tokens.get(at).is_some_and(|next| next == ","));
                }
                return at + 1;
            }
            "as" => at += 1,
            "," | ";" | "}" => break,
            word => path.push(word.to_owned()),
        }
        at += 1;
    }
    found.push(path);
    at
}

/// `crate::…` for what is in this crate; anything else is left as it stands.
fn absolute(path: Path, modules: &[String], krate: &str) -> Path {
    let mut place = modules.to_vec();
    let mut rest = &path[..];
    match rest.first().map(String::as_str) {
        Some("crate") => (place, rest) = (Vec::new(), &rest[1..]),
        Some(name) if name == krate => (place, rest) = (Vec::new(), &rest[1..]),
        Some("self" | "super") => {}
        _ => return path,
    }
    while let Some((first, others)) = rest.split_first() {
        match &first[..] {
            "super" => drop(place.pop()),
            "self" => {}
            _ => break,
        }
        rest = others;
    }
    std::iter::once("crate".to_owned()).chain(place).chain(rest.iter().cloned()).collect()
}
