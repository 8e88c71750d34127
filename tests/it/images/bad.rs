//! Images that are none, are damaged, or would be too much: an answer of the contract each time, and nothing stays behind.

use serde_json::json;

use super::{body, files, host, run, said};
use crate::support::{Answer, TestHost};

fn good() -> Vec<(&'static str, Vec<u8>)> {
    let pixels: Vec<u8> = (0..48 * 32 * 3_usize).map(|at| (at * at % 253) as u8).collect();
    let kind = (png::ColorType::Rgb, png::BitDepth::Eight);
    vec![
        ("jpeg", files::jpeg(48, 32, jpeg_encoder::ColorType::Rgb, &pixels)),
        ("png", files::png(48, 32, kind, &pixels)),
        ("webp", files::webp(48, 32, &pixels)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_is_refused() {
    let host = host().await;
    for (format, file) in good() {
        let parts: Vec<usize> = (0..40).map(|part| file.len() * part / 40).collect();
        let program = parts.iter().map(|length| json!({ "body": [0, length] })).collect::<Vec<_>>();
        let (said, _) = run(&host, program.into(), &file).await;
        for (length, said) in parts.iter().zip(said) {
            assert_eq!(said, "not-an-image", "{length} of {} bytes of {format}", file.len());
        }
        // What follows an image is nobody's business.
        let more = [&file[..], &[0; 100]].concat();
        let (said, _) = run(&host, json!([{ "body": [0, more.len()] }, { "size": 0 }]), &more).await;
        assert_eq!(said, ["ok", "48x32"], "{format}");
    }
    host.all_back_to_zero().await;
}

/// A head that claims so many pixels, and nothing behind it.
fn claims(width: u32, height: u32) -> Vec<(&'static str, Vec<u8>)> {
    let mut png = files::png(1, 1, (png::ColorType::Rgb, png::BitDepth::Eight), &[0; 3]);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    let mut jpeg = files::jpeg(8, 8, jpeg_encoder::ColorType::Rgb, &[0; 192]);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&(height as u16).to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&(width as u16).to_be_bytes());
    vec![("png", png), ("jpeg", jpeg)]
}

/// The checksum of PNG's chunks.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

/// Files that would keep a decoder busy for minutes, or have it call itself until the stack ends.
fn made_to_harm() -> Vec<(&'static str, Vec<u8>)> {
    let part = |name: &[u8], content: &[u8]| [name, &(content.len() as u32).to_le_bytes(), content].concat();
    // A whole picture of one pixel, and frames that begin within one another.
    let pixel = part(b"VP8L", &[0x2f, 0, 0, 0, 0, 7, 16, 17, 17, 136, 136, 254, 7, 0]);
    let frames = [&b"ANMF\xff\xff\xff\xff"[..], &[0; 16]].concat().repeat(40_000);
    let nested = part(b"RIFF", &[b"WEBP", &pixel[..], &frames].concat());
    let jpeg = files::jpeg(8, 8, jpeg_encoder::ColorType::Rgb, &[0; 192]);
    let (head, rest) = jpeg.split_at(2);
    let segment =
        |marker: u8, content: &[u8]| [&[0xff, marker], &(content.len() as u16 + 2).to_be_bytes()[..], content].concat();
    let metadata = segment(0xe1, &[&b"http://ns.adobe.com/xmp/extension/\0"[..], &[b'g'; 32], &[1; 8]].concat());
    let scan = rest.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let (tables, scan) = rest.split_at(scan);
    let scan = &scan[..scan.len() - 2];
    vec![
        ("frames in frames", nested),
        ("metadata in pieces", [head, &metadata.repeat(50_000), rest].concat()),
        ("scans", [head, tables, &scan.repeat(10_000), &[0xff, 0xd9]].concat()),
        ("a second head", [head, &[0xff, 0], rest].concat()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_to_harm_does_none() {
    let host = host().await;
    for (what, file) in made_to_harm() {
        let begun = std::time::Instant::now();
        let (said, _) = run(&host, json!([{ "body": [0, file.len()] }]), &file).await;
        assert_eq!(said, ["not-an-image"], "{what}");
        assert!(begun.elapsed().as_millis() < 2000, "{what}: {:?}", begun.elapsed());
    }
    // As many points as are drawn, crossing one another, and one more.
    let rings = |points: usize| (0..points).map(|at| [at % 64 * 4, at % 2 * 256]).collect::<Vec<_>>();
    let program = |points| {
        json!([
            { "pixels": [256, 256, 1, 0, 65_536] },
            { "rings": { "image": 0, "rings": [rings(points)], "width": 0, "fill": 1 } },
        ])
    };
    assert_eq!(run(&host, program(16_383), &[0; 65_536]).await.0, ["ok", "ok"]);
    let refused = host.call("easel", body(&program(16_384), &[0; 65_536])).await;
    refused.is_problem(502, "plugin-contract");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_by_their_heads() {
    let host = host().await;
    for (format, file) in claims(20_000, 20_000) {
        let program = json!([{ "body": [0, file.len()] }, { "bytes": [0, file.len()] }]);
        let begun = std::time::Instant::now();
        let (said, _) = run(&host, program, &file).await;
        assert_eq!(said, ["too-large", "too-large"], "{format}");
        assert!(begun.elapsed().as_millis() < 2000, "{format}: {:?}", begun.elapsed());
    }
    // Fewer pixels than the limit, and more memory than the function has.
    for (format, file) in claims(7000, 7000) {
        let (said, _) = run(&host, json!([{ "body": [0, file.len()] }]), &file).await;
        assert_eq!(said, ["memory"], "{format}");
    }
    for (format, file) in claims(0, 7) {
        let (said, _) = run(&host, json!([{ "body": [0, file.len()] }]), &file).await;
        assert_eq!(said, ["not-an-image"], "{format}");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_the_hosts_settings() {
    let test = TestHost::new().functions(&["easel"]).config(|config| {
        (config.sandbox.max_image_bytes, config.sandbox.max_image_pixels) = (200, 16);
    });
    let host = test.start().await;
    let kind = (png::ColorType::Grayscale, png::BitDepth::Eight);
    let small = files::png(4, 4, kind, &[0; 16]);
    let (said, _) = run(&host, json!([{ "body": [0, small.len()] }]), &small).await;
    assert_eq!(said, ["ok"]);
    let wide = files::png(17, 1, kind, &[0; 17]);
    let program = json!([{ "body": [0, wide.len()] }, { "pixels": [17, 1, 1, 0, 17] }]);
    assert_eq!(run(&host, program, &wide).await.0, ["too-large", "too-large"]);
    let long = [small, vec![0; 200]].concat();
    assert_eq!(run(&host, json!([{ "body": [0, long.len()] }]), &long).await.0, ["too-large"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_one_pixel_is_one() {
    let host = host().await;
    let kind = (png::ColorType::Rgb, png::BitDepth::Eight);
    let files = [
        files::png(1, 1, kind, &[9, 8, 7]),
        files::jpeg(1, 1, jpeg_encoder::ColorType::Rgb, &[9, 8, 7]),
        files::webp(1, 1, &[9, 8, 7]),
    ];
    for file in files {
        let filters = ["nearest", "bilinear", "triangle-antialias", "bicubic-antialias", "lanczos3-antialias"];
        let rows = (0..).zip(filters).map(|(row, filter)| {
            json!({ "row": { "image": 0, "tensor": 0, "row": row, "size": [3, 2], "filter": filter, "layout": "hwc" } })
        });
        let mut program = vec![json!({ "body": [0, file.len()] }), json!({ "tensor": ["UINT8", [5, 2, 3, 3]] })];
        program.extend(rows);
        program.push(json!({ "read": 0 }));
        let (_, read) = run(&host, program.into(), &file).await;
        assert!(
            read.as_chunks::<3>().0.iter().all(|pixel| pixel[0].abs_diff(9) < 4 && pixel[2].abs_diff(7) < 4),
            "{read:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_work_ends_at_the_deadline_and_at_the_limit_of_processor_time() {
    let more = ("cpu_ms = 60000", "cpu_ms = 60000\nmemory_bytes = 536870912");
    let less = ("cpu_ms = 60000", "cpu_ms = 100\nmemory_bytes = 536870912");
    let file = files::jpeg(6000, 6000, jpeg_encoder::ColorType::Luma, &vec![128; 36_000_000]);
    let program = json!([{ "body": [0, file.len()] }, { "encode": [0, "png"] }, { "encode": [0, "webp"] }]);
    let host = TestHost::new().functions(&["easel"]).changed_function("easel", &[more]).start().await;
    let request = host.client.post(format!("{}/v1/functions/test/easel", host.base)).body(body(&program, &file));
    let begun = std::time::Instant::now();
    let answer = Answer::of(request.header("x-tenon-timeout-ms", 60).send().await.unwrap()).await;
    answer.is_problem(504, "deadline-exceeded");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    host.all_back_to_zero().await;
    let host = TestHost::new().functions(&["easel"]).changed_function("easel", &[less]).start().await;
    let answer = host.call("easel", body(&program, &file)).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (504, Some("plugin-deadline")), "{}", answer.text());
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_a_call_and_not_the_host() {
    let host = TestHost::new().functions(&["easel"]);
    let host = host.changed_function("easel", &[("cpu_ms = 60000", "cpu_ms = 60000\nmemory_bytes = 8388608")]);
    let host = host.start().await;
    let pixels = vec![90; 1_000_000];
    let mut program = vec![json!({ "pixels": [1000, 1000, 1, 0, pixels.len()] })];
    program.extend((0..12).map(|_| json!({ "pixels": [1000, 1000, 1, 0, pixels.len()] })));
    let answer = host.call("easel", body(&program.into(), &pixels)).await;
    // The guest's own memory holds the bytes, too: one or the other is refused.
    let ended = answer.status == 502 || said(&answer).iter().any(|word| word == "memory");
    assert!(ended, "{} {}", answer.status, answer.text());
    host.all_back_to_zero().await;
}
