//! The nearest known key, for whoever mistyped one. Vocabulary: configuration, functions and models all read TOML and
//! all answer an unknown key alike. Knows nothing of what the keys are for.

/// How alike two names must be (Jaro-Winkler, 1 is equal) before one is offered for the other.
const CLOSE_ENOUGH: f64 = 0.7;

/// `hint: did you mean …?` for an error of serde about an unknown field, where a known one is near.
pub fn nearest_hint(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else { return String::new() };
    let mut names = rest.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else { return String::new() };
    let near = names.map(|known| (strsim::jaro_winkler(unknown, known), known));
    match near.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((closeness, known)) if closeness > CLOSE_ENOUGH => format!("\nhint: did you mean `{known}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::nearest_hint;

    #[test]
    fn only_a_near_name_is_offered() {
        let near = "unknown field `max_instance`, expected one of `max_handles`, `max_instances`";
        assert_eq!(nearest_hint(near), "\nhint: did you mean `max_instances`?");
        assert_eq!(nearest_hint("unknown field `zzz`, expected one of `limits`, `http`"), "");
        assert_eq!(nearest_hint("unknown field `x`, there are no fields"), "");
        assert_eq!(nearest_hint("invalid type"), "");
    }
}
