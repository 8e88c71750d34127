//! docs/training.md is true: the scripts on the page trace and compile a PyTorch module as they stand, and a host serves what
//! comes out by the `model.toml` on the page. PyTorch is what `setup/pytorch.py` sets up; without it the tests say that they are
//! skipped.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    programs,
    support::{Answer, Served, TestHost, rewrite},
};

const SIDE: usize = 8;
const PLANES: usize = 3;

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

/// A row for each, from 0 to 1 and with another beginning for each caller.
fn pictures(rows: usize, caller: usize) -> Vec<f32> {
    let size = rows * PLANES * SIDE * SIDE;
    (0..size).map(|index| ((index + caller * 17) % size) as f32 / size as f32).collect()
}

async fn ask(host: &Served, model: &str, data: &[f32]) -> Value {
    let rows = data.len() / (PLANES * SIDE * SIDE);
    let body = json!({ "inputs": [
        { "name": "image", "shape": [rows, PLANES, SIDE, SIDE], "datatype": "FP32", "data": data },
    ] });
    let request = host.client.post(format!("{}/v2/models/{model}/infer", host.base)).body(body.to_string());
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, 200, "{model}, {rows} rows: {}", answer.text());
    answer.json()
}

/// Whether an answer is what the module on the page makes of these pictures.
fn hold(answer: &Value, data: &[f32]) {
    let [means, pixels] = &answer["outputs"].as_array().unwrap()[..] else { panic!("{answer}") };
    let (size, rows) = (PLANES * SIDE * SIDE, data.len() / (PLANES * SIDE * SIDE));
    assert_eq!((&means["name"], &pixels["name"]), (&json!("mean"), &json!("smooth")));
    assert_eq!((&means["shape"], &pixels["shape"]), (&json!([rows, 4]), &json!([rows, SIDE, SIDE])));
    assert_eq!(pixels["datatype"], "UINT8");
    let (means, pixels) = (numbers(means), numbers(pixels));
    for row in 0..rows {
        let expected = smoothed(&data[row * size..][..size]);
        let mean = expected.iter().sum::<f32>() / expected.len() as f32;
        assert!(means[row * 4..][..4].iter().all(|value| (value - mean).abs() < 1e-4), "row {row}");
        for (told, expected) in pixels[row * expected.len()..].iter().zip(&expected) {
            assert!((told - expected * 255.0).abs() <= 0.51, "row {row}: {told} for {}", expected * 255.0);
        }
    }
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
    let data = pictures(3, 0);
    hold(&ask(&host, "brightness", &data).await, &data);
}

/// A model of its own with one file of the page's, and the page's model.toml with changes.
fn place(models: &Path, name: &str, file: (&str, &[u8]), changes: &[(&str, &str)]) {
    let folder = models.join(name);
    std::fs::create_dir_all(folder.join("1")).unwrap();
    std::fs::write(folder.join("1").join(file.0), file.1).unwrap();
    let aoti = "[model]\nformat = \"aoti\"\n\n";
    std::fs::write(folder.join("model.toml"), format!("{aoti}{}", block("brightness/model.toml"))).unwrap();
    rewrite(&folder.join("model.toml"), changes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiled_module_answers_in_batches_and_one_that_does_not_fit_is_refused_in_words() {
    let test = TestHost::new();
    let (made, models) = (test.folder().join("made"), test.folder().join("models"));
    let script = test.folder().join("export.py");
    std::fs::write(&script, block("export.py") + "\n" + &block("compile.py, behind export.py")).unwrap();
    if !export(&script, &made) {
        return;
    }
    let [traced, compiled] =
        ["model.pt", "model.pt2"].map(|file| std::fs::read(made.join("brightness/1").join(file)).unwrap());
    let package = ("model.pt2", &compiled[..]);
    place(&models, "compiled", package, &[]);
    // Less than what 32 rows take: libtorch's allocator refuses within the package, and batches are smaller.
    place(&models, "tight", package, &[("[instances]", "[memory]\nlane_bytes = 40960\n\n[instances]")]);
    place(&models, "cut", ("model.pt2", &compiled[..compiled.len() / 2]), &[]);
    place(&models, "narrow", package, &[("max_batch_size = 32", "max_batch_size = 64")]);
    place(&models, "other", package, &[("3, 8, 8]", "3, 9, 9]")]);
    place(&models, "typed", package, &[("\"FP32\"\nshape = [\"rows\", 3", "\"FP64\"\nshape = [\"rows\", 3")]);
    place(&models, "rounded", package, &[("\"aoti\"", "\"aoti\"\nprecision = \"bf16\"")]);
    place(&models, "traced", ("model.pt", &traced), &[]);
    let host = test.start().await;
    for rows in [1, 2, 5, 32, 70] {
        let data = pictures(rows, rows);
        hold(&ask(&host, "compiled", &data).await, &data);
        hold(&ask(&host, "tight", &data).await, &data);
    }
    let callers = (0..24).map(|caller| {
        let host = &host;
        async move {
            let data = pictures(1 + caller % 5, caller);
            hold(&ask(host, "compiled", &data).await, &data);
        }
    });
    join_all(callers).await;
    let listed = host.client.get(format!("{}/v1/models", host.base)).send().await.unwrap();
    let listed = Answer::of(listed).await.json();
    let of =
        |name: &str| listed["models"].as_array().unwrap().iter().find(|model| model["name"] == name).unwrap().clone();
    assert!(of("tight")["safe_batch_size"].as_u64().unwrap() < 32, "{}", of("tight"));
    let listed = of("compiled");
    assert_eq!((&listed["platform"], &listed["state"]), (&json!("pytorch_aoti"), &json!("ready")));
    assert!(listed["weight_bytes"].as_u64().unwrap() >= compiled.len() as u64, "{listed}");
    let refused = [
        ("cut", "model.pt2: it cannot be read: invalid Zip archive"),
        ("narrow", "dim value is too large at 0, expected to be <= 32, but got: 64"),
        ("other", "unmatched dim value at 2, expected: 8, but got: 9"),
        ("typed", "unmatched dtype, expected: 6(at::kFloat)"),
        ("rounded", "model.precision: a package has the weights that it was compiled with"),
        ("traced", "model.format: is `aoti`, but version 1 has model.pt, which is `torchscript`"),
    ];
    for (model, why) in refused {
        let order =
            host.client.post(format!("{}/admin/v1/models/{model}/load", host.control)).bearer_auth(host.token());
        let said = Answer::of(order.send().await.unwrap()).await;
        assert!(said.status != 200 && said.text().contains(why), "{model}: {}", said.text());
    }
    let data = pictures(2, 3);
    hold(&ask(&host, "compiled", &data).await, &data);
}
