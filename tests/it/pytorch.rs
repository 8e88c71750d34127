//! docs/training.md is true: the script on the page traces a PyTorch module as it stands, and a host serves what comes
//! out by the `model.toml` on the page. PyTorch is what `setup/pytorch.py` sets up; without it the test says that it is
//! skipped.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{
    programs,
    support::{Answer, TestHost},
};

const SIDE: usize = 8;
const PLANES: usize = 3;
const ROWS: usize = 3;

/// The text of a block of the page, by the file that its first line names.
fn block(file: &str) -> String {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/training.md");
    let page = std::fs::read_to_string(page).unwrap();
    let begin = format!("\n# {file}\n");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("docs/training.md has no block {file}"));
    let (text, _) = rest.split_once("\n```").unwrap();
    text.to_owned()
}

/// Runs the script; false if there is no PyTorch and need not be.
fn export(script: &Path, models: &Path) -> bool {
    let Some(mut python) = programs::pytorch() else { return false };
    let output = python.arg(script).arg(models).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// What the module on the page answers for a row's picture: means of 27 neighbours, zeros beyond the edges.
fn smoothed(row: &[f32]) -> Vec<f32> {
    let near = |at: usize| at.saturating_sub(1)..(at + 2).min(SIDE);
    let mean = |y: usize, x: usize| {
        let plane = |plane: usize| near(y).flat_map(move |y| near(x).map(move |x| (plane * SIDE + y) * SIDE + x));
        (0..PLANES).flat_map(plane).map(|pixel| row[pixel]).sum::<f32>() / 27.0
    };
    (0..SIDE * SIDE).map(|pixel| mean(pixel / SIDE, pixel % SIDE)).collect()
}

fn numbers(output: &Value) -> Vec<f32> {
    output["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traced_module_is_served_as_the_page_says() {
    let test = TestHost::new();
    let models = test.folder().join("models");
    let script = test.folder().join("export.py");
    std::fs::write(&script, block("export.py")).unwrap();
    if !export(&script, &models) {
        return;
    }
    std::fs::write(models.join("brightness/model.toml"), block("brightness/model.toml")).unwrap();
    let host = test.start().await;
    let size = PLANES * SIDE * SIDE;
    let data: Vec<f32> = (0..ROWS * size).map(|index| index as f32 / (ROWS * size) as f32).collect();
    let body = json!({ "inputs": [
        { "name": "image", "shape": [ROWS, PLANES, SIDE, SIDE], "datatype": "FP32", "data": data },
    ] });
    let request = host.client.post(format!("{}/v2/models/brightness/infer", host.base)).body(body.to_string());
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let [means, pixels] = &answer["outputs"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!((&means["name"], &pixels["name"]), (&json!("mean"), &json!("smooth")));
    assert_eq!((&means["shape"], &pixels["shape"]), (&json!([ROWS, 4]), &json!([ROWS, SIDE, SIDE])));
    assert_eq!(pixels["datatype"], "UINT8");
    for row in 0..ROWS {
        let expected = smoothed(&data[row * size..][..size]);
        let mean = expected.iter().sum::<f32>() / expected.len() as f32;
        assert!(numbers(means)[row * 4..][..4].iter().all(|value| (value - mean).abs() < 1e-4), "row {row}");
        for (told, expected) in numbers(pixels)[row * expected.len()..].iter().zip(&expected) {
            assert!((told - expected * 255.0).abs() <= 0.51, "row {row}: {told} for {}", expected * 255.0);
        }
    }
}
