//! A table of cases: figures, and which rules speak.

use std::collections::BTreeMap;

use super::*;

fn settings() -> Settings {
    Settings {
        max_batch_size: 32,
        max_batch_elements: Some(4096),
        max_batch_ms: 250.0,
        max_queue_delay_ms: 0.0,
        max_queue_size: 256,
        queue_timeout_ms: 2000.0,
        lanes: 2,
    }
}

/// A model that does well: half busy, six rows at a time, little padding, company that pays.
fn well() -> Figures {
    Figures {
        batches: 128,
        window_ms: 10_000.0,
        rows: 768,
        rows_mean: 6.0,
        rows_most: 12,
        alone_share: 0.1,
        waiting_mean: 6.0,
        waiting_most: 12,
        reasons: BTreeMap::from([("idle", 1.0)]),
        padding_share: 0.1,
        queue_p50_ms: 10.0,
        queue_p95_ms: 60.0,
        instance_mean_ms: 78.0,
        predicted_mean_ms: 75.0,
        further_row_cost: Some(0.4),
        busy_share: 0.5,
        repeated_runs: 0,
        refused: 0,
        tenants: 4,
        top_tenant: Some("a".into()),
        top_tenant_share: 0.4,
    }
}

fn closed(reason: &'static str) -> BTreeMap<&'static str, f64> {
    BTreeMap::from([(reason, 0.6), ("idle", 0.4)])
}

/// Which rules speak of which figures, and a part of what they say.
fn cases() -> [(&'static str, Figures, Settings, &'static str); 20] {
    let delay = Settings { max_queue_delay_ms: 5.0, ..settings() };
    [
        ("fine", well(), settings(), "6.0 rows, callers wait 60 ms (p95) and lanes are busy 50 %"),
        ("no-batches", Figures::default(), settings(), "no batch has run"),
        ("fine few-batches", Figures { batches: 7, ..well() }, settings(), "only 7 batches"),
        ("ran-again", Figures { repeated_runs: 3, ..well() }, settings(), "3 times among the last 128"),
        (
            "saturated",
            Figures { busy_share: 0.99, queue_p95_ms: 800.0, ..well() },
            settings(),
            "wait 800 ms (p95) while the 2 lanes are busy 99 %",
        ),
        // They are busy, but a row waits for no more than the batch before its own.
        ("fine", Figures { busy_share: 0.99, queue_p95_ms: 90.0, ..well() }, settings(), "nothing stands out"),
        ("refused", Figures { refused: 7, ..well() }, settings(), "these are bursts: a larger max_queue_size"),
        (
            "saturated refused",
            Figures { refused: 7, busy_share: 1.0, queue_p95_ms: 2000.0, ..well() },
            settings(),
            "A larger max_queue_size would only let callers wait longer",
        ),
        (
            "slower-than-predicted",
            Figures { predicted_mean_ms: 39.0, ..well() },
            settings(),
            "take 78 ms where the profile says 39 ms (2.0 times as long)",
        ),
        // Microseconds vary; no profile, no word.
        (
            "fine",
            Figures { predicted_mean_ms: 0.02, instance_mean_ms: 0.09, queue_p95_ms: 0.1, ..well() },
            settings(),
            "",
        ),
        ("padding", Figures { padding_share: 0.43, ..well() }, settings(), "43 % of the work is padding"),
        (
            "padding",
            Figures { padding_share: 0.43, ..well() },
            Settings { max_batch_elements: None, ..settings() },
            "or set max_batch_elements, so",
        ),
        (
            "delay",
            Figures { reasons: closed("deadline"), alone_share: 0.7, ..well() },
            delay.clone(),
            "60 % of the batches were closed by max_queue_delay_ms and 70 % had one row",
        ),
        // The delay brought company.
        ("fine", Figures { reasons: closed("deadline"), ..well() }, delay, "nothing stands out"),
        ("no-gain", Figures { further_row_cost: Some(0.98), ..well() }, settings(), "costs 0.98 of a first one"),
        (
            "closed-by-time",
            Figures { reasons: closed("time"), ..well() },
            settings(),
            "60 % of the batches are closed at a predicted 250 ms (max_batch_ms), with 6.0 rows",
        ),
        // Larger batches would gain nothing: no advice to make them larger.
        (
            "no-gain",
            Figures { reasons: closed("time"), further_row_cost: Some(1.0), ..well() },
            settings(),
            "Small batches are right here",
        ),
        ("closed-by-elements", Figures { reasons: closed("elements"), ..well() }, settings(), "beyond 4096 elements"),
        (
            "closed-by-rows",
            Figures { reasons: closed("full"), waiting_mean: 60.0, ..well() },
            settings(),
            "full (max_batch_size = 32), and 60 rows wait when one is formed. | A further row costs 0.40",
        ),
        ("one-tenant", Figures { top_tenant_share: 0.95, ..well() }, settings(), "`a`, brings 95 % of the rows"),
    ]
}

#[test]
fn each_rule_speaks_of_what_it_is_for_and_of_nothing_else() {
    for (codes, figures, settings, part) in cases() {
        let said = advice(&figures, &settings);
        let found: Vec<_> = said.iter().map(|advice| advice.code).collect();
        assert_eq!(found.join(" "), codes, "{figures:?}");
        let text: Vec<_> = said.iter().map(|advice| format!("{} | {}", advice.says, advice.next)).collect();
        let text = text.join(" ").to_lowercase();
        assert!(text.contains(&part.to_lowercase()), "{codes}: {text}");
    }
}

#[test]
fn batches_that_end_for_a_neighbours_sake_are_told() {
    let short = Figures { reasons: closed("neighbour"), rows_mean: 1.2, ..well() };
    let said = advice(&short, &settings());
    assert_eq!((said.len(), said[0].code), (1, "closed-for-neighbours"));
    assert!(said[0].says.starts_with("60 % of the batches ended early, with 1.2 rows"), "{}", said[0].says);
}

#[test]
fn a_model_without_load_is_told_so() {
    let lonely = Figures { waiting_most: 1, rows_most: 1, rows_mean: 1.0, alone_share: 1.0, ..well() };
    let idle = Figures { busy_share: 0.04, ..lonely.clone() };
    let codes = |figures: &Figures| advice(figures, &settings()).iter().map(|it| it.code).collect::<Vec<_>>();
    assert_eq!(codes(&idle), ["never-waits", "idle"]);
    let said = &advice(&idle, &settings())[0];
    assert_eq!(said.says, "Never more than 1 row waits when a batch is formed: batching cannot help here.");
    assert!(said.next.starts_with("Rows meet when more callers"), "{}", said.next);
    // Where lanes are at work, fewer of them would let rows meet.
    let said = &advice(&lonely, &settings())[0];
    assert!(said.next.starts_with("2 lanes take rows as they come."), "{}", said.next);
    // A tenant alone is no news, and one lane cannot become fewer.
    let alone = Figures { tenants: 1, top_tenant_share: 1.0, ..lonely };
    let one = Settings { lanes: 1, ..settings() };
    let said = advice(&alone, &one);
    assert_eq!(said.len(), 1);
    assert!(said[0].next.starts_with("Rows meet"), "{}", said[0].next);
}

#[test]
fn every_advice_is_two_sentences_that_begin_and_end_as_such() {
    let bad = Figures {
        repeated_runs: 1,
        refused: 1,
        busy_share: 1.0,
        queue_p95_ms: 5000.0,
        padding_share: 0.5,
        predicted_mean_ms: 10.0,
        waiting_most: 2,
        top_tenant_share: 1.0,
        reasons: BTreeMap::from([("time", 0.5), ("elements", 0.5)]),
        ..well()
    };
    let said = advice(&bad, &settings());
    assert!(said.len() >= 8, "{said:?}");
    for advice in &said {
        for text in [&advice.says, &advice.next] {
            assert!(text.ends_with('.') && text.starts_with(|letter: char| !letter.is_lowercase()), "{text}");
            assert!(!text.contains("  ") && !text.contains("NaN"), "{text}");
        }
    }
}
