//! What is marked is what was put there, and the same seed writes the same.

use std::collections::HashSet;

use super::*;

const MANY: usize = 3000;

fn written(from: Source, seed: u64) -> Vec<Marked> {
    let mut author = Author::new(from, seed).unwrap();
    (0..MANY).map(|_| author.sentence().unwrap()).collect()
}

#[test]
fn the_same_seed_writes_the_same_and_another_does_not() {
    assert_eq!(written(Source::Training, 1), written(Source::Training, 1));
    assert_ne!(written(Source::Training, 1), written(Source::Training, 2));
}

#[test]
fn marks_are_names_of_their_kind_in_order() {
    for from in [Source::UnseenTemplates, Source::UnseenNames] {
        let names = if from == Source::UnseenNames { Names::unseen().unwrap() } else { Names::seen().unwrap() };
        for sentence in written(from, 3) {
            let mut last = 0;
            for mark in &sentence.marks {
                assert!(last <= mark.start && mark.start < mark.end, "{sentence:?}");
                last = mark.end;
                let text = sentence.text[mark.start..mark.end].to_lowercase();
                let is = |name: &&str| {
                    let name = name.to_lowercase();
                    text == name || text == plural(&name)
                };
                let hyphens = ["t-cell", "b-cell", "nk-cell"].iter().any(|part| text.contains(part));
                let short = mark.kind == Kind::Cell && text.len() <= 4;
                assert!(hyphens || short || names.of(mark.kind).iter().any(is), "{text} in {sentence:?}");
            }
        }
    }
}

#[test]
fn nothing_of_the_notation_is_left_and_every_template_is_used() {
    for from in [Source::Training, Source::UnseenTemplates, Source::UnseenNames] {
        let mut author = Author::new(from, 5).unwrap();
        for template in author.templates.clone() {
            let mut sentence = Marked::default();
            author.fill(template, &mut sentence).unwrap();
            assert!(!sentence.text.contains(['{', '}', '[', ']', '|']), "{}", sentence.text);
            assert_eq!(template.matches(['{']).count() > 0, sentence.text != template, "{template}");
        }
    }
}

#[test]
fn unseen_templates_are_unseen() {
    let seen: HashSet<_> = lines(SEEN).collect();
    assert!(lines(UNSEEN).count() >= 60);
    assert!(lines(UNSEEN).all(|template| !seen.contains(template)));
}

#[test]
fn some_sentences_have_nothing_to_find() {
    let plain = written(Source::Training, 7).iter().filter(|sentence| sentence.marks.is_empty()).count();
    assert!((MANY / 10..MANY / 2).contains(&plain), "{plain}");
}

#[test]
fn appended_marks_move_along() {
    let mut text = Marked { text: "A Treg.".into(), marks: vec![Mark { start: 2, end: 6, kind: Kind::Cell }] };
    text.append(&text.clone());
    assert_eq!(text.text, "A Treg. A Treg.");
    assert_eq!(&text.text[text.marks[1].start..text.marks[1].end], "Treg");
}
