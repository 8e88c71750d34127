//! Image files of every kind that is read, made by the encoders that the host has, and by hand where they make none.

use serde_json::json;

use super::{host, run};

/// Red in the left half, blue in the right, and a white line at the top: every turn of it is another picture.
fn pixels(width: usize, height: usize) -> Vec<u8> {
    let pixel = |at: usize| match (at % width, at / width) {
        (_, line) if line < height / 4 => [255, 255, 255],
        (column, _) if column < width / 2 => [255, 0, 0],
        _ => [0, 0, 255],
    };
    (0..width * height).flat_map(pixel).collect()
}

pub(super) fn png(width: u32, height: u32, kind: (png::ColorType, png::BitDepth), bytes: &[u8]) -> Vec<u8> {
    png_with(width, height, kind, bytes, |_| ())
}

fn png_with(
    width: u32,
    height: u32,
    (colours, depth): (png::ColorType, png::BitDepth),
    bytes: &[u8],
    with: impl FnOnce(&mut png::Encoder<'_, &mut Vec<u8>>),
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colours);
    encoder.set_depth(depth);
    with(&mut encoder);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(bytes).unwrap();
    writer.finish().unwrap();
    file
}

pub(super) fn jpeg(width: u16, height: u16, colours: jpeg_encoder::ColorType, bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    jpeg_encoder::Encoder::new(&mut file, 100).encode(bytes, width, height, colours).unwrap();
    file
}

pub(super) fn webp(width: u32, height: u32, bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    image_webp::WebPEncoder::new(&mut file).encode(bytes, width, height, image_webp::ColorType::Rgb8).unwrap();
    file
}

/// EXIF that says nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    [&b"II*\0\x08\0\0\0\x01\0"[..], &entry, &[0; 4]].concat()
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = (content.len() as u32).to_le_bytes();
    [&name[..], &size, content, &[0][..content.len() % 2]].concat()
}

/// A WebP of several chunks, the first of which says what follows.
fn extended(width: u32, height: u32, flags: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let three = |number: u32| number.to_le_bytes()[..3].to_vec();
    let head = [vec![flags, 0, 0, 0], three(width - 1), three(height - 1)].concat();
    let content = [b"WEBP".to_vec(), chunk(b"VP8X", &head), chunks.concat()].concat();
    chunk(b"RIFF", &content)
}

/// Decodes a file and gives its size, and the colours of some of its pixels by their place.
async fn decoded(host: &crate::support::Served, file: &[u8], places: &[(usize, usize)]) -> (String, Vec<[u8; 3]>) {
    let program = json!([{ "body": [0, file.len()] }, { "size": 0 }]);
    let (said, _) = run(host, program, file).await;
    assert_eq!(said[0], "ok", "{said:?}");
    let (width, height) = said[1].split_once('x').unwrap();
    let size = [width.parse::<usize>().unwrap(), height.parse::<usize>().unwrap()];
    let program = json!([
        { "body": [0, file.len()] },
        { "tensor": ["UINT8", [1, size[1], size[0], 3]] },
        { "row": { "image": 0, "tensor": 0, "size": size, "layout": "hwc" } },
        { "read": 0 },
    ]);
    let (_, read) = run(host, program, file).await;
    let pixel = |(x, y): &(usize, usize)| read[(y * size[0] + x) * 3..][..3].try_into().unwrap();
    (said[1].clone(), places.iter().map(pixel).collect())
}

fn near(found: &[[u8; 3]], expected: &[[u8; 3]], name: &str) {
    let apart = found.as_flattened().iter().zip(expected.as_flattened()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(found.len() == expected.len() && apart <= Some(3), "{name}: {found:?} is not {expected:?}");
}

const WHITE: [u8; 3] = [255; 3];
const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];

#[tokio::test(flavor = "multi_thread")]
async fn all_three_formats_are_turned_upright() {
    let host = host().await;
    let plain = pixels(16, 8);
    for orientation in 1..=8 {
        let exif = exif(orientation);
        let mut jpeg = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, 100);
        encoder.add_app_segment(1, [b"Exif\0\0", &exif[..]].concat()).unwrap();
        encoder.encode(&plain, 16, 8, jpeg_encoder::ColorType::Rgb).unwrap();
        let kind = (png::ColorType::Rgb, png::BitDepth::Eight);
        let mut with_exif = Vec::new();
        let mut info = png::Info::with_size(16, 8);
        info.exif_metadata = Some(exif.clone().into());
        (info.color_type, info.bit_depth) = kind;
        let encoder = png::Encoder::with_info(&mut with_exif, info).unwrap();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&plain).unwrap();
        writer.finish().unwrap();
        let still = webp(16, 8, &plain)[12..].to_vec();
        let webp = extended(16, 8, 0b1000, &[still, chunk(b"EXIF", &exif)]);
        // Where the line at the top, the red and the blue half come to lie.
        let (size, places) = match orientation {
            1 => ("16x8", [(8, 0), (2, 6), (13, 6)]),
            2 => ("16x8", [(8, 0), (13, 6), (2, 6)]),
            3 => ("16x8", [(8, 7), (13, 1), (2, 1)]),
            4 => ("16x8", [(8, 7), (2, 1), (13, 1)]),
            5 => ("8x16", [(0, 8), (6, 2), (6, 13)]),
            6 => ("8x16", [(7, 8), (1, 2), (1, 13)]),
            7 => ("8x16", [(7, 8), (1, 13), (1, 2)]),
            _ => ("8x16", [(0, 8), (6, 13), (6, 2)]),
        };
        for (name, file) in [("jpeg", jpeg), ("png", with_exif), ("webp", webp)] {
            let (found, colours) = decoded(&host, &file, &places).await;
            assert_eq!(found, size, "{name} {orientation}");
            near(&colours, &[WHITE, RED, BLUE], &format!("{name} {orientation}"));
        }
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_of_png() {
    use png::{BitDepth::*, ColorType::*};
    let host = host().await;
    let wide = |values: &[u16]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
    let kinds = [
        ("grey", png(2, 1, (Grayscale, Eight), &[7, 200]), [[7; 3], [200; 3]]),
        ("one bit", png(2, 1, (Grayscale, One), &[0b0100_0000]), [[0; 3], [255; 3]]),
        ("four bits", png(2, 1, (Grayscale, Four), &[0x3f]), [[51; 3], [255; 3]]),
        ("grey and alpha", png(2, 1, (GrayscaleAlpha, Eight), &[10, 255, 10, 0]), [[10; 3], [255; 3]]),
        ("alpha", png(2, 1, (Rgba, Eight), &[9, 8, 7, 255, 0, 0, 255, 51]), [[9, 8, 7], [204, 204, 255]]),
        ("wide", png(2, 1, (Rgb, Sixteen), &wide(&[0, 129, 32_896, 65_535, 257, 128])), [[0, 1, 128], [255, 1, 0]]),
        ("wide grey", png(2, 1, (Grayscale, Sixteen), &wide(&[65_535, 514])), [[255; 3], [2; 3]]),
        ("wide alpha", png(2, 1, (Rgba, Sixteen), &wide(&[0, 0, 0, 0, 257, 514, 771, 65_535])), [[255; 3], [1, 2, 3]]),
        (
            "wide grey and alpha",
            png(2, 1, (GrayscaleAlpha, Sixteen), &wide(&[257, 65_535, 257, 0])),
            [[1; 3], [255; 3]],
        ),
    ];
    for (name, file, expected) in kinds {
        let (size, colours) = decoded(&host, &file, &[(0, 0), (1, 0)]).await;
        assert_eq!((&size[..], &colours[..]), ("2x1", &expected[..]), "{name}");
    }
    let palette = png_with(4, 1, (Indexed, Two), &[0b0001_1011], |encoder| {
        encoder.set_palette(vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        encoder.set_trns(vec![255, 255, 0]);
    });
    let (_, colours) = decoded(&host, &palette, &[(0, 0), (1, 0), (2, 0), (3, 0)]).await;
    assert_eq!(colours, [[1, 2, 3], [4, 5, 6], WHITE, [10, 11, 12]]);
    // Of an animation, the still image.
    let mut animated = Vec::new();
    let mut encoder = png::Encoder::new(&mut animated, 1, 1);
    encoder.set_color(Rgb);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&RED).unwrap();
    writer.write_image_data(&BLUE).unwrap();
    writer.finish().unwrap();
    assert_eq!(decoded(&host, &animated, &[(0, 0)]).await.1, [RED]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_of_jpeg_and_webp() {
    use jpeg_encoder::ColorType::*;
    let host = host().await;
    let of = |pixel: &[u8]| pixel.repeat(64);
    for (name, file, expected) in [
        ("grey", jpeg(8, 8, Luma, &of(&[90])), [90; 3]),
        ("colours", jpeg(8, 8, Rgb, &of(&[200, 30, 60])), [200, 30, 60]),
        // A quarter of black over half of cyan.
        ("cmyk", jpeg(8, 8, Cmyk, &of(&[128, 0, 0, 64])), [95, 191, 191]),
        ("ycck", jpeg(8, 8, CmykAsYcck, &of(&[128, 0, 0, 64])), [95, 191, 191]),
    ] {
        near(&decoded(&host, &file, &[(4, 4)]).await.1, &[expected], name);
    }
    let mut progressive = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut progressive, 95);
    encoder.set_progressive(true);
    encoder.encode(&pixels(64, 64), 64, 64, Rgb).unwrap();
    near(&decoded(&host, &progressive, &[(20, 2), (8, 50), (56, 50)]).await.1, &[WHITE, RED, BLUE], "progressive");
    // Of an animation, the first frame: here it covers only a part of what is transparent.
    let frame = |colour: [u8; 3]| {
        let place = [0; 6];
        let size = [7, 0, 0, 7, 0, 0];
        let still = webp(8, 8, &of(&colour))[12..].to_vec();
        chunk(b"ANMF", &[&place[..], &size, &[40, 0, 0, 0], &still].concat())
    };
    let animated = extended(16, 8, 0b1_0010, &[chunk(b"ANIM", &[0, 0, 0, 0, 0, 0]), frame(RED), frame(BLUE)]);
    let (size, colours) = decoded(&host, &animated, &[(4, 4), (12, 4)]).await;
    assert_eq!(size, "16x8");
    near(&colours, &[RED, WHITE], "animated");
    host.all_back_to_zero().await;
}
