//! Runs a program of calls of `images` that the body brings: its first line, a JSON list; what follows are the files and
//! pixels that it speaks of, by offset and length. The answer's body is what was read and encoded, one after the other;
//! its header `said` has a word for each call: `ok`, numbers, or the code of the failure.
//!
//! | call | |
//! |---|---|
//! | `{"body": [offset, length]}`, `{"bytes": [offset, length]}` | decodes it in the host, or through the guest |
//! | `{"pixels": [width, height, channels, offset, length]}` | an image of these pixels |
//! | `{"size": image}` | `widthxheight` |
//! | `{"tensor": [datatype, shape]}` | a tensor |
//! | `{"row": {"image", "tensor", "row", "size", …}}` | writes a row, and says the mapping |
//! | `{"read": tensor}` | its bytes |
//! | `{"box": {"image", "area", …}}`, `{"rings": {"image", "rings", …}}` | draws |
//! | `{"encode": [image, format]}` | a file |
//! | `{"drop": image}` | lets go of it |
//! | `{"leave": image}`, `{"left": n}` | keeps it beyond the invocation; takes up what an earlier one has left |
#![forbid(unsafe_code)]

mod call;

use std::cell::RefCell;

use call::{Call, Draw, Row};
use tenon_sdk::images::{Area, Fit, Image, Pen, Point};
use tenon_sdk::{Failure, HostCall, Preprocessing, Rejection, Request, Response, Step, Tensor};

/// The header in which each call's outcome is told.
const SAID: &str = "said";

thread_local! {
    /// Images of earlier invocations, where the instance serves again.
    static LEFT: RefCell<Vec<Image>> = const { RefCell::new(Vec::new()) };
}

/// What the calls so far have made, and said.
#[derive(Default)]
pub struct Easel {
    images: Vec<Option<Image>>,
    tensors: Vec<Tensor>,
    said: Vec<String>,
}

impl Preprocessing for Easel {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        // Most programs are short, and what comes behind them stays in the host.
        let mut reads = [4 << 10, 1 << 20].into_iter().map(|most| request.read_body(0, most));
        let head = reads.find(|head| head.contains(&b'\n')).unwrap_or_default();
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let calls: Vec<Call> =
            serde_json::from_slice(line).map_err(|error| Rejection::bad_request("no-program", error.to_string()))?;
        let files = line.len() as u64 + 1;
        let response = Response::new(200, "application/octet-stream");
        for call in calls {
            let said = self.run(call, (request, files), &response).unwrap_or_else(|failure| failure.code);
            self.said.push(said);
        }
        response.header(SAID, &self.said.join(" ")).or_trap();
        Ok(response.into())
    }
}

impl Easel {
    fn run(&mut self, call: Call, (request, files): (&Request, u64), response: &Response) -> Result<String, Failure> {
        match call {
            Call::Body(offset, length) => {
                let image = Image::from_body(request, files.saturating_add(offset), length)?;
                self.images.push(Some(image));
            }
            Call::Bytes(offset, length) => {
                let bytes = request.read_body(files + offset, length);
                self.images.push(Some(Image::from_bytes(&bytes)?));
            }
            Call::Pixels(width, height, channels, offset, length) => {
                let bytes = request.read_body(files + offset, length);
                self.images.push(Some(Image::from_pixels(width, height, channels, &bytes)?));
            }
            Call::Size(image) => {
                let image = self.image(image)?;
                return Ok(format!("{}x{}", image.width(), image.height()));
            }
            Call::Tensor(datatype, shape) => self.tensors.push(Tensor::create(&datatype, &shape)?),
            Call::Row(row) => return self.row(&row),
            Call::Read(tensor) => {
                let tensor = self.tensors.get(tensor).ok_or_else(absent)?;
                response.write(&tensor.read(0, tensor.size())?)?;
            }
            Call::Box(draw) => {
                let [left, top, right, bottom] = draw.area.unwrap_or_default();
                self.image(draw.image)?.draw_box(Area::new(left, top, right, bottom), &pen(&draw));
            }
            Call::Rings(draw) => {
                let ring = |ring: &Vec<[f32; 2]>| ring.iter().map(|[x, y]| Point::new(*x, *y)).collect();
                let rings: Vec<Vec<Point>> = draw.rings.iter().map(ring).collect();
                self.image(draw.image)?.draw_polygon(&rings, &pen(&draw));
            }
            Call::Encode(image, format) => self.image(image)?.encode(&format, response)?,
            Call::Drop(image) => drop(self.images.get_mut(image).and_then(Option::take)),
            Call::Leave(image) => {
                let image = self.images.get_mut(image).and_then(Option::take).ok_or_else(absent)?;
                LEFT.with_borrow_mut(|left| left.push(image));
            }
            Call::Left(number) => {
                let image = LEFT.with_borrow_mut(|left| (number < left.len()).then(|| left.remove(number)));
                self.images.push(Some(image.ok_or_else(absent)?));
            }
        }
        Ok("ok".into())
    }

    fn image(&self, image: usize) -> Result<&Image, Failure> {
        self.images.get(image).and_then(Option::as_ref).ok_or_else(absent)
    }

    fn row(&self, wanted: &Row) -> Result<String, Failure> {
        let fit = Fit::new(wanted.size[0], wanted.size[1]);
        wanted.mode.as_deref().map_or(Ok(()), |mode| fit.mode(mode))?;
        wanted.filter.as_deref().map_or(Ok(()), |filter| fit.filter(filter))?;
        wanted.layout.as_deref().map_or(Ok(()), |layout| fit.layout(layout))?;
        if let Some([red, green, blue]) = wanted.bars {
            fit.bars(red, green, blue);
        }
        if let Some([mean, deviation]) = wanted.normalise {
            fit.normalise(mean.into(), deviation.into());
        }
        if let Some([left, top, right, bottom]) = wanted.crop {
            fit.crop(Area::new(left, top, right, bottom));
        }
        let tensor = self.tensors.get(wanted.tensor).ok_or_else(absent)?;
        let back = self.image(wanted.image)?.into_tensor(tensor, wanted.row, &fit)?;
        Ok(format!("{},{},{},{}", back.scale.x, back.scale.y, back.origin.x, back.origin.y))
    }
}

/// The word for what the program speaks of and has not made.
fn absent() -> Failure {
    Failure { code: "absent".into(), detail: "nothing of that number was made".into() }
}

fn pen(draw: &Draw) -> Pen {
    let pen = Pen::new();
    if let Some([red, green, blue]) = draw.colour {
        pen.colour(red, green, blue);
    }
    if let Some(width) = draw.width {
        pen.width(width);
    }
    if let Some(fill) = draw.fill {
        pen.fill(fill);
    }
    if let Some(label) = &draw.label {
        pen.label(label);
    }
    pen
}

tenon_sdk::export!(Easel: preprocessing);
