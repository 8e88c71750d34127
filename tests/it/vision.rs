//! The services that look at pictures, in a whole host with their trained models: every kind of picture that callers send,
//! right and wrong; answers held against each other and, where Python has them, against OpenCV and COCO's tools.

use std::{io::Write, os::unix::fs::symlink, path::PathBuf, process::Stdio};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    programs,
    support::{Answer, Served, TestHost, made},
};

const PYTHON: &str = "opencv-python-headless==5.0.0.93 pycocotools==2.0.11";
const MODELS: [&str; 5] = ["detector", "classifier", "cells-hrnet", "cells-resunet", "cells-unet"];
/// Two decoders and two resizers are not the same to the last bit.
const PIXELS: f64 = 1.5;
const SURE: f64 = 0.05;

/// A host with these functions of the services, and all models of pictures.
async fn host(functions: &[&str]) -> Served {
    let test = TestHost::new();
    for model in MODELS {
        symlink(made(&format!(".tenon/services/models/{model}")), test.folder().join("models").join(model)).unwrap();
    }
    for function in functions {
        test.place("demo", function, &made(&format!(".tenon/services/functions/demo/{function}")));
    }
    test.start().await
}

fn picture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vision/pictures");
    std::fs::read(folder.join(name)).unwrap()
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(made(&format!(".tenon/services/samples/{name}"))).unwrap()
}

async fn ask(host: &Served, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = host.client.post(format!("{}/v1/functions/demo/{path}", host.base)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.unwrap()).await
}

/// A form with these files.
fn form(files: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for file in files {
        body.extend_from_slice(b"--b\r\ncontent-disposition: form-data; name=\"image\"; filename=\"x\"\r\n\r\n");
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    body
}

const FORM: [(&str, &str); 1] = [("content-type", "multipart/form-data; boundary=b")];

fn list(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["images"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_every_kind() {
    let host = host(&["detector", "detector-guest", "segmentation"]).await;
    let kinds = [
        ("plain.jpg", (48, 32)),
        ("progressive.jpg", (48, 32)),
        ("cmyk.jpg", (48, 32)),
        ("grey.jpg", (48, 32)),
        ("turned.jpg", (32, 48)),
        ("plain.png", (48, 32)),
        ("palette.png", (48, 32)),
        ("transparent.png", (48, 32)),
        ("sixteen.png", (48, 32)),
        ("one.png", (1, 1)),
        ("animated.png", (48, 32)),
        ("animated.webp", (48, 32)),
        ("plain.webp", (48, 32)),
        ("lossless.webp", (48, 32)),
    ];
    for (name, size) in kinds {
        for path in ["detector/detect", "detector-guest/detect", "segmentation/segment"] {
            let answer = ask(&host, path, &[], picture(name)).await;
            assert_eq!(answer.status, 200, "{path} {name}: {}", answer.text());
            let answer = answer.json();
            assert_eq!((&answer["width"], &answer["height"]), (&json!(size.0), &json!(size.1)), "{path} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_are_none() {
    let host = host(&["detector", "detector-guest", "segmentation", "pipeline", "both"]).await;
    let whole = picture("plain.jpg");
    let cases = [
        (whole[..whole.len() / 2].to_vec(), 415, "not-an-image"),
        (picture("plain.png")[..60].to_vec(), 415, "not-an-image"),
        (picture("plain.webp")[..40].to_vec(), 415, "not-an-image"),
        (picture("huge.png"), 413, "too-large"),
        (picture("animated.gif"), 415, "not-an-image"),
        (b"\xff\xd8\xff".to_vec(), 415, "not-an-image"),
        (Vec::new(), 400, "empty-body"),
        (b"hello".to_vec(), 415, "not-an-image"),
        (br#"{"image": "!!!"}"#.to_vec(), 422, "invalid-base64"),
        (b"{".to_vec(), 400, "invalid-json"),
    ];
    for path in ["detector", "segmentation", "pipeline", "both"] {
        for (body, status, code) in &cases {
            ask(&host, path, &[], body.clone()).await.is_problem(*status, code);
        }
        let pointed = ask(&host, path, &[], br#"{"image": 7}"#.to_vec()).await.is_problem(422, "invalid-image");
        assert_eq!(pointed["pointer"], "/image");
        ask(&host, path, &FORM, b"--b\r\n".to_vec()).await.is_problem(400, "invalid-form");
        ask(&host, &format!("{path}?nonsense=1"), &[], whole.clone()).await.is_problem(400, "unknown-parameter");
        let large = ask(&host, path, &[], vec![0; 52_428_801]).await;
        large.is_problem(413, "body-too-large");
    }
    // In the guest a JPEG that is cut off is decoded as far as it goes by some decoders: told or answered, never a trap.
    for (body, ..) in cases {
        let answer = ask(&host, "detector-guest", &[], body).await;
        assert!(answer.status < 500, "{}", answer.text());
    }
    let outcomes = |function: &str, outcome: &str| {
        host.sum(&format!("tenon_invocations_total{{function=\"{function}\",outcome=\"{outcome}\""))
    };
    for function in ["detector", "detector-guest", "segmentation", "pipeline", "both"] {
        assert!(outcomes(function, "caller") > 0.0, "{function} was asked");
        assert_eq!(outcomes(function, "function"), 0.0, "{function} is never at fault");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_pictures_and_one_that_is_none() {
    let host = host(&["detector", "segmentation"]).await;
    let files: [&[u8]; 3] = [&picture("plain.jpg"), b"GIF89a", &picture("turned.jpg")];
    for path in ["detector/detect", "segmentation"] {
        let images = list(&ask(&host, path, &FORM, form(&files)).await);
        assert_eq!((images.len(), &images[0]["width"], &images[2]["width"]), (3, &json!(48), &json!(32)), "{path}");
        assert_eq!(images[1]["error"]["code"], "not-an-image");
        let texts: Vec<String> = files.iter().map(|file| STANDARD.encode(file)).collect();
        let same = list(&ask(&host, path, &[], json!({ "images": texts }).to_string().into_bytes()).await);
        assert_eq!(same[0], images[0], "as base64 it is the same picture");
        assert_eq!(same[1]["error"]["pointer"], "/images/1");
    }
    ask(&host, "detector/detect/annotated", &FORM, form(&files)).await.is_problem(422, "several-images");
    let second = ask(&host, "detector/detect/annotated?index=2&format=png", &FORM, form(&files)).await;
    assert_eq!((second.status, second.header("content-type")), (200, "image/png"));
    assert!(second.body.starts_with(b"\x89PNG"));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_by_the_host_and_by_the_guest_alone() {
    let host = host(&["detector", "detector-guest"]).await;
    let scene = sample("scene-1.jpg");
    let mut found = Vec::new();
    for path in ["detector/detect", "detector-guest/detect"] {
        let answer = ask(&host, path, &[("content-type", "image/jpeg")], scene.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        found.push(answer.json()["detections"].as_array().unwrap().clone());
        let picture = ask(&host, &format!("{path}/annotated"), &[], scene.clone()).await;
        assert_eq!((picture.status, picture.header("content-type")), (200, "image/jpeg"));
        assert!(picture.body.starts_with(b"\xff\xd8") && picture.body != scene);
    }
    assert!(!found[0].is_empty(), "the sample has objects");
    assert_eq!(found[0].len(), found[1].len());
    for (one, other) in found[0].iter().zip(&found[1]) {
        let apart = |pointer: &str| {
            let number = |value: &Value| value.pointer(pointer).unwrap().as_f64().unwrap();
            (number(one) - number(other)).abs()
        };
        assert_eq!(one["class"], other["class"]);
        assert!(["/box/x1", "/box/y1", "/box/x2", "/box/y2"].into_iter().all(|side| apart(side) < PIXELS));
        assert!(apart("/confidence") < SURE);
    }
    let classes = found[0][0]["class"].as_str().unwrap();
    let only = ask(&host, &format!("detector?classes={classes}&confidence=0.3"), &[], scene).await.json();
    let only = only["detections"].as_array().unwrap();
    assert!(!only.is_empty() && only.iter().all(|one| one["class"] == classes));
}

/// What OpenCV and COCO's tools say of an answer with polygons and run lengths; none where they are missing.
fn reference(answer: &[u8]) -> Option<Value> {
    let mut python = programs::python("cv2", PYTHON)?;
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/vision_reference.py");
    let mut running = python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(answer).unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn outlines_and_masks_say_the_same_for_each_model() {
    let host = host(&["segmentation"]).await;
    for (name, models) in [("cells-1.png", &["unet", "resunet", "hrnet"][..]), ("cells-large.png", &["unet"])] {
        for model in models {
            let path = format!("segmentation/segment?model={model}&mask=rle");
            let answer = ask(&host, &path, &[], sample(name)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let told = answer.json();
            assert_eq!(told["model"], *model);
            assert!(told["count"].as_u64().unwrap() > 0, "{name} {model}: the sample has cells");
            let mask = ask(&host, &format!("segmentation/mask?model={model}"), &[], sample(name)).await;
            assert_eq!((mask.status, mask.header("content-type")), (200, "image/png"));
            assert_eq!(mask.header("x-count"), told["count"].to_string());
            if let Some(reference) = reference(&answer.body) {
                assert!(reference["iou"].as_f64().unwrap() >= 0.99, "{reference}");
                assert_eq!((&reference["found"], &reference["area"]), (&told["count"], &told["area"]));
            }
        }
    }
    let picture = ask(&host, "segmentation/annotated", &[], sample("cells-1.png")).await;
    assert_eq!((picture.status, picture.header("content-type")), (200, "image/jpeg"));
    ask(&host, "segmentation?model=nobody", &[], sample("cells-1.png")).await.is_problem(400, "invalid-parameter");
    ask(&host, "segmentation?scale=8", &[], sample("cells-large.png")).await.is_problem(413, "too-many-tiles");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_one_after_another_and_two_at_once() {
    let host = host(&["pipeline", "both"]).await;
    let answer = ask(&host, "pipeline", &[], sample("scene-1.jpg")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let objects = answer.json()["objects"].as_array().unwrap().clone();
    let agreed = objects.iter().filter(|object| object["agreed"] == true).count();
    assert!(!objects.is_empty() && agreed * 2 > objects.len(), "{agreed} of {}", objects.len());
    assert!(host.batches("detector") > 0.0 && host.batches("classifier") > 0.0);
    let answer = ask(&host, "both", &[], sample("cells-1.png")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert!(answer["agreement"].as_f64().unwrap() > 0.5, "{answer}");
    assert!(answer["models"]["hrnet"]["count"].is_u64() && answer["models"]["unet"]["count"].is_u64());
    assert!(host.batches("cells-hrnet") > 0.0 && host.batches("cells-unet") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_picture_again_costs_no_model() {
    let host = host(&["detector"]).await;
    let first = ask(&host, "detector/detect", &[], picture("plain.jpg")).await;
    let again = ask(&host, "detector/detect", &[], picture("plain.jpg")).await;
    assert_eq!((first.header("x-tenon-cache"), again.header("x-tenon-cache")), ("miss", "hit"));
    assert_eq!(first.body, again.body);
    let other = ask(&host, "detector/detect?confidence=0.9", &[], picture("plain.jpg")).await;
    assert_eq!(other.header("x-tenon-cache"), "miss");
}
