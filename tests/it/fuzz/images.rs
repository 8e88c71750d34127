//! Images from callers, and what plugins do with them: files of the corpus with some changes, written into rows by any
//! fit, drawn on with any numbers, and encoded. No call may fault, and each says a word of the contract.

use proptest::{prelude::*, test_runner::TestCaseResult};
use serde_json::{Value, json};

use super::{cases, changed, seeds};
use crate::{images, support::TestHost};

const TOKENS: &[&str] =
    &["\0\0\0\0", "\u{1}\0\0", "IHDR", "IDAT", "acTL", "fdAT", "VP8X", "VP8L", "ALPH", "ANMF", "EXIF", "\u{7f}"];
/// What a call may say beside numbers.
const WORDS: [&str; 6] = ["ok", "not-an-image", "too-large", "memory", "invalid-area", "absent"];

/// A coordinate: mostly within small images, and sometimes none at all.
fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (-20.0_f32..60.0).prop_map(|number| json!(number)),
        2 => (-20_i32..60).prop_map(|number| json!(number as f32)),
        1 => any::<f32>().prop_map(|number| json!(number.is_finite().then_some(number))),
        1 => prop::sample::select(vec![json!(null), json!(3e38), json!(-3e38), json!(1e-30), json!(40_000.5)]),
    ]
}

fn area() -> impl Strategy<Value = Value> {
    prop::collection::vec(number(), 4).prop_map(Value::from)
}

fn row() -> impl Strategy<Value = Value> {
    let filters = ["nearest", "bilinear", "triangle-antialias", "bicubic-antialias", "lanczos3-antialias"];
    let modes = ["stretch", "letterbox", "cover"];
    let size = (1_u32..40, 1_u32..40);
    let choices = (prop::sample::select(filters.to_vec()), prop::sample::select(modes.to_vec()));
    (size, choices, area(), any::<bool>()).prop_map(|((width, height), (filter, mode), area, whole)| {
        let mut row = json!({
            "image": 0, "tensor": 0, "size": [width, height], "filter": filter, "mode": mode, "layout": "hwc"
        });
        if !whole {
            row["crop"] = area;
        }
        json!([{ "tensor": ["UINT8", [1, height, width, 3]] }, { "row": row }])
    })
}

fn drawing() -> impl Strategy<Value = Value> {
    let finite = || number().prop_map(|number| if number.is_null() { json!(-1.0) } else { number });
    let point = prop::collection::vec(finite(), 2).prop_map(Value::from);
    let ring = prop::collection::vec(point, 0..9).prop_map(Value::from);
    let rings = prop::collection::vec(ring, 0..4).prop_map(Value::from);
    let pen = (finite(), finite(), prop::sample::select(vec!["", "a label", "\u{e9}\n"]));
    (area(), rings, pen, any::<bool>()).prop_map(|(area, rings, (width, fill, label), boxed)| {
        let mut draw = json!({ "image": 0, "width": width, "fill": fill, "label": label });
        let kind = if boxed { "area" } else { "rings" };
        draw[kind] = if boxed { area } else { rings };
        json!([{ if boxed { "box" } else { "rings" }: draw }])
    })
}

#[test]
fn changed_files_with_any_fits_and_drawings() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let host = runtime.block_on(TestHost::new().functions(&["easel"]).start());
    for seed in seeds("images") {
        let program = json!([{ "body": [0, seed.len()] }, { "encode": [0, "png"] }]);
        let (said, _) = runtime.block_on(images::run(&host, program, &seed));
        assert_eq!(said, ["ok", "ok"], "a file of the corpus is whole");
    }
    let decoded = std::cell::Cell::new(0_u32);
    let all = std::cell::Cell::new(0_u32);
    let property = |(file, row, drawing, format): (Vec<u8>, Value, Value, &str)| -> TestCaseResult {
        let mut program = vec![json!({ "body": [0, file.len()] })];
        program.extend(row.as_array().unwrap().clone());
        program.extend(drawing.as_array().unwrap().clone());
        program.push(json!({ "encode": [0, format] }));
        let program = Value::from(program);
        let answer = runtime.block_on(host.call("easel", images::body(&program, &file)));
        prop_assert_eq!(answer.status, 200, "{}: {}", program, answer.text());
        let said = images::said(&answer);
        let known =
            |word: &String| WORDS.contains(&&word[..]) || word.split(',').all(|part| part.parse::<f32>().is_ok());
        prop_assert!(said.iter().all(known), "{}: {:?}", program, said);
        all.set(all.get() + 1);
        decoded.set(decoded.get() + u32::from(said[0] == "ok"));
        Ok(())
    };
    let formats = prop::sample::select(vec!["png", "jpeg", "webp"]);
    cases("images", &(changed("images", TOKENS), row(), drawing(), formats), property);
    assert!(decoded.get() * 10 > all.get(), "only {} of {} files were decoded", decoded.get(), all.get());
    runtime.block_on(host.all_back_to_zero());
}
