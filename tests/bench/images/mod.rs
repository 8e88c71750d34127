//! From a JPEG of 640 x 480 to a row of a tensor (decoded, letterboxed to 320 x 320, FP32 in planes): by host calls of a
//! plugin (a bare one, and the detector's first stage), by a plugin with decoders of its own (that of `detector-guest`),
//! and by the same crates without a plugin; all in process, in turns. And by Pillow and NumPy, where they are installed.

use std::{
    hint::black_box,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use tenon_host::{
    invocation::{Request, Step},
    sandbox::{Config, Plugin, Sandbox},
    tensor::HeapStaging,
};
use zune_jpeg::{JpegDecoder, zune_core::bytestream::ZCursor};

use crate::{instance::assignment, made, median};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const SIDE: usize = 320;
/// Rows of the letterbox that hold image, and those before them.
const INSIDE: usize = SIDE * HEIGHT / WIDTH;
const BEFORE: usize = (SIDE - INSIDE) / 2;
const BARS: u8 = 114;
/// Pictures of a turn, and turns; each side takes one after the other.
const PICTURES: u32 = 20;
const TURNS: usize = 41;

/// Times of both, and what Pillow takes.
pub(crate) fn measure() {
    let sandbox = Sandbox::new(Config::default(), Arc::new(HeapStaging)).expect("the sandbox starts");
    let plugin = |file: &str| {
        let component = std::fs::read(made(file)).expect("it is laid out");
        Arc::new(sandbox.compile(&component).expect("it is a plugin"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    let jpeg = picture();
    let program = format!(
        r#"[{{"body":[0,{}]}},{{"tensor":["FP32",[1,3,{SIDE},{SIDE}]]}},{{"row":{{"image":0,"tensor":0,"size":[{SIDE},{SIDE}],"mode":"letterbox"}}}}]"#,
        jpeg.len()
    );
    let body: bytes::Bytes = [program.as_bytes(), b"\n", &jpeg].concat().into();
    let photograph = bytes::Bytes::from(jpeg.clone());
    let sides = [
        ("host calls of a plugin, with its instance", plugin(".tenon/test-functions/test/easel/easel.wasm"), body),
        (
            "the detector's first stage, by host calls",
            plugin(".tenon/services/functions/demo/detector/detector.wasm"),
            photograph.clone(),
        ),
        (
            "the same with all of it in the guest",
            plugin(".tenon/services/functions/demo/detector-guest/detector-guest.wasm"),
            photograph,
        ),
    ];
    let turns: Vec<(f64, [f64; 3])> = (0..TURNS)
        .map(|_| {
            let native = each(|| drop(black_box(native(black_box(&jpeg)))));
            (native, sides.each_ref().map(|(_, plugin, body)| each(|| runtime.block_on(guest(plugin, body)))))
        })
        .collect();
    println!("JPEG of {} bytes, {WIDTH} x {HEIGHT}, to a row of FP32[1, 3, {SIDE}, {SIDE}]:", jpeg.len());
    println!("  the same crates without a plugin: {:.3} ms", median(turns.iter().map(|(native, _)| *native)));
    let of = |side: usize| median(turns.iter().map(|(_, times)| times[side]));
    for (side, (name, ..)) in sides.iter().enumerate() {
        let ratio = median(turns.iter().map(|(native, times)| times[side] / native));
        println!("  {name}: {:.3} ms, {ratio:.2}x of that", of(side));
    }
    if let Some(pillow) = pillow(&jpeg) {
        println!("  Pillow and NumPy: {pillow:.3} ms; host calls take {:.2}x of that", of(0) / pillow);
    }
}

/// Milliseconds of one of some.
fn each(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..PICTURES).for_each(|_| work());
    Duration::as_secs_f64(&start.elapsed()) * 1e3 / f64::from(PICTURES)
}

/// Colours that change slowly, some noise, and edges: about as large as a photograph.
fn picture() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let channel = |x: usize, y: usize, channel: usize, noise: u8| {
        let slow = ((x * (channel + 2)) as f64 / 47.0).sin() + ((y * (4 - channel)) as f64 / 31.0).cos();
        let edge = if (x / 80 + y / 60).is_multiple_of(3) { 40.0 } else { 0.0 };
        (110.0 + 40.0 * slow + edge + f64::from(noise)).clamp(0.0, 255.0) as u8
    };
    let mut pixels = Vec::with_capacity(WIDTH * HEIGHT * 3);
    for at in 0..WIDTH * HEIGHT {
        let noise = random.u8(0..24);
        pixels.extend((0..3).map(|number| channel(at % WIDTH, at / WIDTH, number, noise)));
    }
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 80);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder.encode(&pixels, WIDTH as u16, HEIGHT as u16, jpeg_encoder::ColorType::Rgb).expect("it can be encoded");
    file
}

/// As one would write it.
fn native(jpeg: &[u8]) -> Vec<f32> {
    let pixels = JpegDecoder::new(ZCursor::new(jpeg)).decode().expect("it is whole");
    let source = ImageRef::new(WIDTH as u32, HEIGHT as u32, &pixels, PixelType::U8x3).expect("it is that large");
    let mut scaled = Image::new(SIDE as u32, INSIDE as u32, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut scaled, &options).expect("both are of one kind");
    let mut row = vec![f32::from(BARS) / 255.0; 3 * SIDE * SIDE];
    for (channel, plane) in row.chunks_exact_mut(SIDE * SIDE).enumerate() {
        let inside = &mut plane[BEFORE * SIDE..][..INSIDE * SIDE];
        for (value, pixel) in inside.iter_mut().zip(scaled.buffer().as_chunks::<3>().0) {
            *value = f32::from(pixel[channel]) / 255.0;
        }
    }
    row
}

/// A first stage. What it answers at once is what its calls said.
async fn guest(plugin: &Arc<Plugin>, body: &bytes::Bytes) {
    let headers = vec![("content-type".to_owned(), "image/jpeg".to_owned())];
    let request = Request { method: "POST".into(), headers, body: body.clone(), ..Request::default() };
    let mut running = plugin.start(assignment(request)).await.expect("a slot is free");
    let step = running.preprocess().await.expect("it does not trap").expect("it accepts");
    if let Step::Respond(response) = step {
        let (_, said) = &response.headers[0];
        assert_eq!(said, "ok ok 2,2,0,-80");
    }
}

/// Milliseconds that `pillow.py` tells; none where it cannot run.
fn pillow(jpeg: &[u8]) -> Option<f64> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join(".tenon/python");
    if !folder.join("PIL").is_dir() {
        println!("  Pillow is not installed: python3 -m pip install --target .tenon/python pillow numpy");
        return None;
    }
    let file = std::env::temp_dir().join(format!("tenon-bench-{}.jpg", std::process::id()));
    std::fs::write(&file, jpeg).expect("there is room");
    let script = root.join("tests/bench/images/pillow.py");
    let output = Command::new("python3").env("PYTHONPATH", folder).arg(script).arg(&file).output();
    let output = output.expect("python3 runs");
    std::fs::remove_file(&file).expect("it was written");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text").trim().parse().ok()
}
