//! `image.encode`: pixels as a file at the end of an answer. Every byte is charged before it is written.

use std::io::{self, Write};

use png::{BitDepth, Compression, Filter};
use wasmtime::{Result, component::Resource};

use super::{Image, Outcome, open::DECODER_BYTES, picture::Picture};
use crate::{
    account::{ChargedBytes, Kind, OverLimit},
    sandbox::{
        host_calls::{failure, memory, response::Draft},
        store::Guest,
    },
};

const JPEG_QUALITY: u8 = 90;
/// Bytes that these encoders take for each of the picture beside what they write, measured and rounded up.
const PNG_WORKING: u64 = 3;
/// The same for each pixel, however many channels it has.
const WEBP_PIXEL_WORKING: u64 = 8;
/// And of each column: rows of blocks.
const JPEG_COLUMN_WORKING: u64 = 24;
/// Encoding a pixel takes as long as other work on so many.
const PIXELS_PER_PIXEL: u64 = 8;

#[derive(Clone, Copy)]
enum Format {
    Jpeg,
    Png,
    WebP,
}

impl Format {
    /// The longest side.
    fn longest(self) -> u32 {
        match self {
            Self::Jpeg => 65_535,
            Self::Png => u32::MAX,
            Self::WebP => 16_384,
        }
    }

    fn working_bytes(self, picture: &Picture) -> u64 {
        let (size, width) = (picture.pixels.len() as u64, u64::from(picture.width));
        DECODER_BYTES
            + match self {
                Self::Jpeg => JPEG_COLUMN_WORKING * width,
                Self::Png => PNG_WORKING * size,
                Self::WebP => WEBP_PIXEL_WORKING * width * u64::from(picture.height),
            }
    }
}

/// The end of an answer's body, to which an encoder writes.
struct Sink<'a> {
    body: &'a mut ChargedBytes,
    over: Option<OverLimit>,
}

impl Write for Sink<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self.body.extend(piece, usize::MAX) {
            Ok(()) => Ok(piece.len()),
            Err(over) => {
                self.over = Some(over);
                Err(io::ErrorKind::QuotaExceeded.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Guest {
    pub(super) async fn encode_into(
        &mut self,
        image: Resource<Image>,
        format: &str,
        into: Resource<Draft>,
    ) -> Result<Outcome<()>> {
        let picture = self.table.get(&image)?.picture.clone();
        self.table.get(&into)?;
        let format = match format {
            "jpeg" => Format::Jpeg,
            "png" => Format::Png,
            "webp" => Format::WebP,
            _ => return Ok(Err(failure("unknown-option", "the format is one of jpeg, png, webp"))),
        };
        if picture.width.max(picture.height) > format.longest() {
            let detail = format!("a side has at most {} pixels in this format", format.longest());
            return Ok(Err(failure("too-large", detail)));
        }
        let _working = match self.limits.charge(Kind::Images, format.working_bytes(&picture)) {
            Ok(working) => working,
            Err(holder) => return Ok(Err(memory(holder))),
        };
        let pixels = u64::from(picture.width) * u64::from(picture.height);
        let work = self.begin(pixels * PIXELS_PER_PIXEL).await;
        let encoded = match self.table.get_mut(&into)?.body_mut() {
            Some(body) => encode(&picture, format, body),
            // Only while it grows.
            None => Ok(Ok(())),
        };
        self.end(work).await;
        Ok(match encoded {
            Ok(outcome) => outcome,
            Err(over) => Err(memory(self.limits.refuse(over))),
        })
    }
}

/// Writes the picture, or leaves the body as it was.
fn encode(picture: &Picture, format: Format, body: &mut ChargedBytes) -> std::result::Result<Outcome<()>, OverLimit> {
    let before = body.len();
    let mut sink = Sink { body, over: None };
    let written = write(picture, format, &mut sink);
    let over = sink.over.take();
    let Err(error) = written else { return Ok(Ok(())) };
    body.truncate(before);
    match over {
        Some(over) => Err(over),
        None => Ok(Err(failure("too-large", format!("the format cannot hold this image: {error}")))),
    }
}

/// An encoder's error as text; what went wrong with the sink stands there.
type Failed = Box<dyn std::error::Error + Send + Sync>;

fn write(picture: &Picture, format: Format, sink: &mut Sink<'_>) -> std::result::Result<(), Failed> {
    let Picture { width, height, channels, ref pixels } = *picture;
    let grey = channels == 1;
    match format {
        Format::Jpeg => {
            let colours = if grey { jpeg_encoder::ColorType::Luma } else { jpeg_encoder::ColorType::Rgb };
            // Longer sides were refused.
            let (width, height) = (width as u16, height as u16);
            jpeg_encoder::Encoder::new(sink, JPEG_QUALITY).encode(pixels, width, height, colours)?;
        }
        Format::Png => {
            let mut encoder = png::Encoder::new(sink, width, height);
            encoder.set_color(if grey { png::ColorType::Grayscale } else { png::ColorType::Rgb });
            encoder.set_depth(BitDepth::Eight);
            encoder.set_compression(Compression::Fast);
            encoder.set_filter(Filter::Adaptive);
            let mut writer = encoder.write_header()?;
            writer.write_image_data(pixels)?;
            // Dropped, it would end the file without saying whether that went well.
            writer.finish()?;
        }
        Format::WebP => {
            let colours = if grey { image_webp::ColorType::L8 } else { image_webp::ColorType::Rgb8 };
            image_webp::WebPEncoder::new(sink).encode(pixels, width, height, colours)?;
        }
    }
    Ok(())
}
