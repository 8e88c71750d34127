//! Each call of `images`: what it gives where all is well, what it says where the plugin is wrong, and what it charges.

use serde_json::{Value, json};

use super::{files, host, run};
use crate::support::TestHost;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_hold_what_the_fit_says() {
    let host = host().await;
    let pixels = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [51, 102, 204]].concat();
    let made = |fit: Value| {
        let mut row = json!({ "image": 0, "tensor": 0, "row": 1, "size": [2, 4] });
        row.as_object_mut().unwrap().extend(fit.as_object().unwrap().clone());
        row
    };
    let program = |datatype: &str, shape: Value, fit: Value| json!([{ "pixels": [2, 2, 3, 0, 12] }, { "tensor": [datatype, shape] }, { "row": made(fit) }, { "read": 0 }]);
    let boxed = json!({ "mode": "letterbox", "bars": [0, 51, 255], "filter": "nearest" });
    let (said, read) = run(&host, program("FP32", json!([2, 3, 4, 2]), boxed.clone()), &pixels).await;
    assert_eq!(said, ["ok", "ok", "1,1,0,-1", "ok"]);
    let read = floats(&read);
    let (before, row) = read.split_at(24);
    assert!(before.iter().all(|value| *value == 0.0), "another row was written");
    let red = [0.0, 0.0, 1.0, 0.0, 0.0, 0.2, 0.0, 0.0];
    let green = [0.2, 0.2, 0.0, 1.0, 0.0, 0.4, 0.2, 0.2];
    let blue = [1.0, 1.0, 0.0, 0.0, 1.0, 0.8, 1.0, 1.0];
    assert_eq!(row, [red, green, blue].concat());
    let mut whole = boxed.clone();
    whole["layout"] = "hwc-bgr".into();
    let (_, read) = run(&host, program("UINT8", json!([2, 4, 2, 3]), whole.clone()), &pixels).await;
    let bar = [255, 51, 0];
    let expected = [bar, bar, [0, 0, 255], [0, 255, 0], [255, 0, 0], [204, 102, 51], bar, bar];
    assert_eq!(read[24..], expected.concat());
    whole["layout"] = "chw-bgr".into();
    whole["normalise"] = json!([[0.5, 0.0, 0.25], [0.25, 1.0, 0.5]]);
    let (_, read) = run(&host, program("FP16", json!([2, 3, 4, 2]), whole.clone()), &pixels).await;
    let halves = read[48..].as_chunks::<2>().0;
    assert_eq!(f32::from(half::f16::from_le_bytes(halves[4])), 1.5, "blue of the third pixel");
    assert_eq!(f32::from(half::f16::from_le_bytes(halves[16 + 2])), 2.0, "red of the first");
    let (_, read) = run(&host, program("BF16", json!([2, 3, 4, 2]), whole), &pixels).await;
    assert_eq!(f32::from(half::bf16::from_le_bytes(read[48..].as_chunks::<2>().0[18])), 2.0);
    // A crop that reaches outside, and one that has nothing of the image.
    for (crop, expected) in [([-1.0, 0.0, 1.0, 4.0], [7, 10]), ([50.0, 50.0, 52.0, 54.0], [7, 7])] {
        let fit = json!({ "crop": crop, "bars": [7, 7, 7], "layout": "hwc", "filter": "nearest" });
        let grey = json!([
            { "pixels": [2, 2, 1, 0, 4] }, { "tensor": ["UINT8", [2, 4, 2, 3]] }, { "row": made(fit) }, { "read": 0 }
        ]);
        let (_, read) = run(&host, grey, &[10, 20, 30, 40]).await;
        assert_eq!([read[24], read[27]], expected, "{crop:?}");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encoded_comes_back() {
    let host = host().await;
    let pixels: Vec<u8> = (0..40 * 30 * 3).map(|at| (at * 7 % 251) as u8).collect();
    for channels in [1_usize, 3] {
        let bytes = &pixels[..1200 * channels];
        for format in ["png", "webp", "jpeg"] {
            let program = json!([{ "pixels": [40, 30, channels, 0, bytes.len()] }, { "encode": [0, format] }]);
            let (said, file) = run(&host, program, bytes).await;
            assert_eq!(said, ["ok", "ok"]);
            // A grey image stays grey where the format knows that.
            if channels == 1 && format == "png" {
                assert_eq!(file[25], 0, "the kind of PNG");
            }
            let again = json!([
                { "bytes": [0, file.len()] }, { "size": 0 }, { "tensor": ["UINT8", [1, 30, 40, 3]] },
                { "row": { "image": 0, "tensor": 0, "size": [40, 30], "layout": "hwc" } }, { "read": 0 },
            ]);
            let (said, read) = run(&host, again, &file).await;
            assert_eq!(said[..2], ["ok", "40x30"]);
            let expected: Vec<u8> =
                bytes.chunks(channels).flat_map(|pixel| [pixel[0], pixel[channels / 2], pixel[channels - 1]]).collect();
            let apart: u32 = read.iter().zip(&expected).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            let most = if format == "jpeg" { 30 * read.len() as u32 } else { 0 };
            assert!(apart <= most, "{format} of {channels} channels: {apart}");
        }
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drawings_are_where_they_should_be() {
    let host = host().await;
    let grey = vec![100; 64 * 48];
    let draw = |calls: &[Value]| {
        let mut program = vec![json!({ "pixels": [64, 48, 1, 0, grey.len()] })];
        program.extend_from_slice(calls);
        program.extend([
            json!({ "tensor": ["UINT8", [1, 48, 64, 3]] }),
            json!({ "row": { "image": 0, "tensor": 0, "size": [64, 48], "layout": "hwc" } }),
            json!({ "read": 0 }),
        ]);
        Value::from(program)
    };
    let boxed = json!({ "box": { "image": 0, "area": [10.0, 20.0, 30.0, 40.5], "colour": [255, 0, 0], "fill": 0.5 } });
    let square = |from: f32, to: f32| json!([[from, from], [to, from], [to, to], [from, to]]);
    let rings = json!({ "rings": {
        "image": 0, "rings": [square(40.0, 46.0), square(42.0, 44.0)], "width": 0.0, "fill": 1.0, "colour": [0, 0, 255]
    } });
    let (said, read) = run(&host, draw(&[boxed, rings]), &grey).await;
    assert!(said[1..].iter().take(2).all(|word| word == "ok"), "{said:?}");
    let pixel = |x: usize, y: usize| &read[(y * 64 + x) * 3..][..3];
    assert_eq!(pixel(5, 5), [100; 3]);
    for (x, y) in [(9, 25), (10, 25), (30, 25), (20, 19), (20, 20), (20, 40)] {
        assert_eq!(pixel(x, y), [255, 0, 0], "the line at {x}, {y}");
    }
    // Half of this pixel is line: the edge lies at 40.5, and the line is two pixels wide.
    assert!(pixel(20, 41)[0].abs_diff(178) <= 1, "{:?}", pixel(20, 41));
    assert!(pixel(20, 30)[0].abs_diff(178) <= 1 && pixel(20, 30)[1] == 50, "the fill: {:?}", pixel(20, 30));
    assert_eq!((pixel(41, 41), pixel(43, 43), pixel(45, 45)), (&[0, 0, 255][..], &[100; 3][..], &[0, 0, 255][..]));
    // A grey pen leaves a grey picture grey.
    let line = json!({ "box": { "image": 0, "area": [1.0, 1.0, 9.0, 9.0], "colour": [9, 9, 9], "label": "x" } });
    let (_, file) =
        run(&host, json!([{ "pixels": [64, 48, 1, 0, grey.len()] }, line, { "encode": [0, "png"] }]), &grey).await;
    assert_eq!(file[25], 0, "the kind of PNG");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_calls_are_told() {
    let host = host().await;
    let row = |more: Value| {
        let mut row = json!({ "image": 0, "tensor": 0, "size": [4, 4] });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "row": row })
    };
    let calls = [
        (json!({ "pixels": [4, 4, 3, 0, 47] }), "invalid-shape"),
        (json!({ "pixels": [4, 4, 2, 0, 32] }), "invalid-shape"),
        (json!({ "pixels": [0, 4, 3, 0, 0] }), "invalid-shape"),
        (json!({ "pixels": [4_294_967_295_u32, 4_294_967_295_u32, 3, 0, 48] }), "invalid-shape"),
        (json!({ "body": [0, 49] }), "out-of-bounds"),
        (json!({ "body": [u64::MAX, 2] }), "out-of-bounds"),
        (json!({ "body": [0, 48] }), "not-an-image"),
        (json!({ "bytes": [0, 0] }), "not-an-image"),
        (row(json!({ "row": 2 })), "out-of-bounds"),
        (row(json!({ "row": u64::MAX })), "out-of-bounds"),
        (row(json!({ "size": [4, 5] })), "invalid-shape"),
        (row(json!({ "size": [0, 0] })), "invalid-shape"),
        (row(json!({ "size": [4_294_967_295_u32, 4_294_967_295_u32] })), "invalid-shape"),
        (row(json!({ "layout": "hwc" })), "invalid-shape"),
        (row(json!({ "tensor": 1 })), "unknown-datatype"),
        (row(json!({ "crop": [1.0, 1.0, 1.0, 2.0] })), "invalid-area"),
        (row(json!({ "crop": [0.0, null, 1.0, 2.0] })), "invalid-area"),
        (row(json!({ "crop": [0.0, 0.0, 1e38, 2.0] })), "invalid-area"),
        (row(json!({ "filter": "bicubic" })), "unknown-option"),
        (row(json!({ "mode": "fill" })), "unknown-option"),
        (row(json!({ "layout": "rgb" })), "unknown-option"),
        (json!({ "encode": [0, "gif"] }), "unknown-option"),
        (json!({ "box": { "image": 0, "area": [null, 0.0, 3.0, 3.0] } }), "ok"),
        (json!({ "box": { "image": 0, "area": [-1e38, -1e38, 1e38, 1e38], "width": 1e38, "fill": 9.0 } }), "ok"),
        (
            json!({ "rings": { "image": 0, "rings": [[], [[1.0, 1.0]], [[1e38, 1e38], [-1e38, 0.0], [0.0, 1.0]]] } }),
            "ok",
        ),
        (
            json!({ "box": { "image": 0, "area": [1.0, 1.0, 2.0, 2.0], "label": "ä\u{0}€".repeat(99), "width": 1e3 } }),
            "ok",
        ),
    ];
    let mut program = vec![
        json!({ "pixels": [4, 4, 3, 0, 48] }),
        json!({ "tensor": ["FP32", [2, 3, 4, 4]] }),
        json!({ "tensor": ["INT64", [2, 3, 4, 4]] }),
    ];
    program.extend(calls.iter().map(|(call, _)| call.clone()));
    let (said, _) = run(&host, program.into(), &[5; 48]).await;
    for ((call, code), said) in calls.iter().zip(&said[3..]) {
        assert_eq!(said, code, "{call}");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_invocation_left_is_empty_and_costs_nothing() {
    let reuse = ("component = \"easel.wasm\"", "component = \"easel.wasm\"\nreuse = {}");
    let host = TestHost::new().functions(&["easel"]).changed_function("easel", &[reuse]).start().await;
    let left = json!([{ "pixels": [4, 4, 3, 0, 48] }, { "leave": 0 }]);
    run(&host, left, &[5; 48]).await;
    assert_eq!(host.metric("tenon_host_memory_bytes{kind=\"images\"}"), 0.0);
    let program = json!([
        { "left": 0 }, { "size": 0 }, { "tensor": ["UINT8", [1, 3, 2, 2]] },
        { "row": { "image": 0, "tensor": 0, "size": [2, 2] } },
        { "box": { "image": 0, "area": [0.0, 0.0, 9.0, 9.0], "fill": 1.0, "label": "x" } },
        { "rings": { "image": 0, "rings": [[[0.0, 0.0], [9.0, 0.0], [9.0, 9.0]]], "fill": 1.0 } },
        { "encode": [0, "png"] }, { "encode": [0, "jpeg"] }, { "encode": [0, "webp"] },
    ]);
    let (said, read) = run(&host, program, &[]).await;
    assert_eq!(said, ["ok", "0x0", "ok", "invalid-area", "ok", "ok", "too-large", "too-large", "too-large"]);
    assert!(read.is_empty(), "a failed call has no effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_is_charged_as_host_calls() {
    let host = host().await;
    let file = files::jpeg(1000, 800, jpeg_encoder::ColorType::Luma, &vec![77; 800_000]);
    let program = json!([{ "body": [0, file.len()] }, { "encode": [0, "png"] }]);
    run(&host, program, &file).await;
    let spent = host.sum("tenon_cpu_seconds_total{function=\"easel\",kind=\"host_call\"");
    assert!(spent > 0.000_5, "{spent} s for 800,000 pixels");
}
