//! `function.toml`, `model.toml` and `tenon.toml`: no text panics, what is refused is told in words, and what is
//! accepted keeps to its bounds and is the same after it was written out again.

use proptest::{prop_assert, prop_assert_eq, test_runner::TestCaseResult};
use tenon_host::{
    config::{Config, Flags},
    engine,
    function::{self, Manifest},
};

use super::{cases, changed, seeds};

const TOKENS: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    "\"",
    "'''",
    "\"\"\"",
    ".",
    ",",
    "#",
    "\n",
    "\0",
    "\u{e9}",
    "\\u0000",
    "true",
    "1979-05-27",
    "inf",
    "rows",
    "seq",
    "INT64",
    "FP32[rows, seq]",
    "BYTES",
    "[limits]\n",
    "[models.a]\n",
    "[[input]]\n",
    "[[output]]\n",
    "[dimensions]\n",
    "[batching]\n",
    "range = [0, 1]\n",
    "shape = []\n",
    "timeout_ms = 1\n",
    "../",
    "a.b.c.d = 1\n",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// The text of a table that means the same: read as TOML and written out. None where a number is larger than a table
/// holds, though not than a setting may be.
fn again(text: &str) -> Option<String> {
    text.parse::<toml::Table>().ok().map(|table| toml::to_string(&table).unwrap())
}

fn function_toml(bytes: &[u8]) -> TestCaseResult {
    let (text, host) = (String::from_utf8_lossy(bytes), function::Config::default());
    match Manifest::read(&text, &host) {
        Err(refused) => prop_assert!(refused.to_string().starts_with("function.toml"), "{refused}"),
        Ok(manifest) => {
            let limits = &manifest.limits;
            prop_assert!(limits.timeout_ms > 0 && limits.timeout_ms <= host.max_timeout_ms);
            prop_assert!(limits.memory_bytes > 0 && limits.memory_bytes <= host.tenant_memory_bytes);
            prop_assert!(limits.body_bytes > 0 && limits.body_bytes <= host.max_body_bytes);
            prop_assert!(limits.cpu_ms > 0 && limits.max_rows > 0 && limits.max_steps > 0);
            prop_assert!(!manifest.component.contains('/') && manifest.models.len() <= 16);
            if let Some(again) = again(&text) {
                let same = Manifest::read(&again, &host);
                prop_assert_eq!(format!("{manifest:?}"), format!("{:?}", same.unwrap()));
            }
        }
    }
    Ok(())
}

fn model_toml(bytes: &[u8]) -> TestCaseResult {
    let text = String::from_utf8_lossy(bytes);
    match engine::signature(&text) {
        Err(refused) => prop_assert!(!refused.is_empty()),
        Ok(signature) => {
            prop_assert!(!signature.inputs.is_empty() && !signature.outputs.is_empty());
            prop_assert!(signature.dimensions.iter().all(|(_, max)| *max > 0));
            if let Some(again) = again(&text) {
                prop_assert_eq!(Ok(signature), engine::signature(&again));
            }
        }
    }
    Ok(())
}

fn tenon_toml(file: &std::path::Path, bytes: &[u8]) -> TestCaseResult {
    let text = String::from_utf8_lossy(bytes);
    let read = |text: &str| {
        std::fs::write(file, text).unwrap();
        Config::load(&Flags { config: Some(file.into()), ..Flags::default() })
    };
    match read(&text) {
        Err(refused) => prop_assert!(!refused.to_string().is_empty()),
        Ok(config) => {
            prop_assert!(config.sandbox.max_instances > 0 && config.http.max_connections > 0);
            prop_assert!(config.limits.tenant_memory_bytes <= config.limits.host_memory_bytes);
            if let Some(again) = again(&text) {
                prop_assert_eq!(format!("{config:?}"), format!("{:?}", read(&again).unwrap()));
            }
        }
    }
    Ok(())
}

#[test]
fn function_tomls() {
    let accepted = seeds("function-toml").into_iter().filter(|seed| {
        function_toml(seed).unwrap();
        Manifest::read(&String::from_utf8_lossy(seed), &function::Config::default()).is_ok()
    });
    assert!(accepted.count() > 1, "a corpus that is refused tests little");
    cases("function-toml", &changed("function-toml", TOKENS), |bytes| function_toml(&bytes));
}

#[test]
fn model_tomls() {
    seeds("model-toml").iter().for_each(|seed| model_toml(seed).unwrap());
    assert!(seeds("model-toml").iter().any(|seed| engine::signature(&String::from_utf8_lossy(seed)).is_ok()));
    cases("model-toml", &changed("model-toml", TOKENS), |bytes| model_toml(&bytes));
}

#[test]
fn tenon_tomls() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenon.toml");
    seeds("tenon-toml").iter().for_each(|seed| tenon_toml(&file, seed).unwrap());
    cases("tenon-toml", &changed("tenon-toml", TOKENS), |bytes| tenon_toml(&file, &bytes));
}
