//! Segmentation: outlines, counts and measures cells in images of any size.
//!
//! `POST …/segment` with an image is answered with `{"width", "height", "model", "count", "area", "regions": [{"area",
//! "centroid", "box", "score", "polygon"}], "mask"?}`, `…/annotated` with the picture and its outlines, `…/mask` with the
//! mask as a PNG. Also taken: forms, and base64 in JSON, of one or several images; docs/segmentation.md.
//!
//! Owns the flow. Large images are cut into tiles that overlap, each a row; no step asks for more than [`STEP_ROWS`] of
//! them, so that what a request holds is one image, some tiles and one mask, however much it brings. Refuses to know
//! what may be asked (`question`), what becomes of a mask (`answer`), and how tiles, regions and outlines are made,
//! which is `plugins/pictures`.
#![forbid(unsafe_code)]

mod answer;
mod question;

use std::mem;

use tenon_pictures::canvas::Canvas;
use tenon_pictures::tiles::{Plan, SIDE, fitting_scale};
use tenon_pictures::{Sent, body};
use tenon_sdk::images::{Fit, Image};
use tenon_sdk::{
    HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Tensor,
};

use answer::Answer;
use question::{Question, Settings, Wanted};

/// Tiles of one step: 50 MB of tensors.
const STEP_ROWS: usize = 64;
const PAYLOAD_TOO_LARGE: u16 = 413;

/// One invocation.
#[derive(Debug, Default)]
pub struct Segmentation {
    asked: Option<Asked>,
}

/// What goes from step to step.
#[derive(Debug)]
struct Asked {
    question: Question,
    settings: Settings,
    sent: Sent,
    listed: bool,
    /// The images that are still to be opened.
    ahead: std::ops::Range<usize>,
    /// The image whose tiles are being sent.
    open: Option<Open>,
    /// Those whose tiles have not all come back, in order.
    growing: std::collections::VecDeque<Growing>,
    tiles: usize,
    /// How many tiles of each image are with the model, in the order of the inferences.
    asked: Vec<usize>,
    /// Of a list, what is written already: masks are not kept for the whole of it.
    written: Vec<Vec<u8>>,
    /// Of a single image.
    answer: Option<Answer>,
}

/// An image, decoded, and how many of its tiles are sent.
#[derive(Debug)]
struct Open {
    image: Image,
    plan: Plan,
    sent: usize,
}

/// The place of an answer.
#[derive(Debug)]
enum Growing {
    Mask {
        size: (u32, u32),
        canvas: Box<Canvas>,
    },
    /// The image could not be read.
    Refused(Rejection),
}

impl Preprocessing for Segmentation {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let settings = Settings::from_config();
        let question = Question::read(request, &settings)?;
        let sent = body::read(request, settings.limits)?;
        let json = question.wanted == Wanted::Json;
        let ahead = if json {
            0..sent.len()
        } else {
            let only = sent.only(question.index)?;
            only..only + 1
        };
        let listed = sent.listed() && json;
        let asked = self.asked.insert(Asked {
            question,
            settings,
            sent,
            listed,
            ahead,
            open: None,
            growing: std::collections::VecDeque::new(),
            tiles: 0,
            asked: Vec::new(),
            written: Vec::new(),
            answer: None,
        });
        asked.step(request)
    }
}

impl Postprocessing for Segmentation {
    fn postprocess(&mut self, request: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let asked = self.asked.as_mut().expect("preprocess leaves what was asked");
        let counts = mem::take(&mut asked.asked);
        for (outputs, tiles) in outputs.iter().zip(counts) {
            asked.take(outputs, tiles)?;
        }
        asked.step(request)
    }
}

impl Asked {
    /// The next tiles, or the answer when there are none.
    fn step(&mut self, request: &Request) -> Result<Step, Rejection> {
        let mut inferences = Vec::new();
        let mut room = STEP_ROWS;
        while room > 0 && self.opened(request)? {
            let open = self.open.as_mut().expect("an image is open");
            let count = room.min(open.plan.tiles() - open.sent);
            let tensor = open.cut(count, &self.settings)?;
            inferences.push(Inference::new(&self.question.model).input("image", &tensor).or_trap());
            self.asked.push(count);
            room -= count;
        }
        if inferences.is_empty() {
            return self.respond(request).map(Step::from);
        }
        Ok(inferences.into())
    }

    /// Sees to it that an image is open whose tiles are not all sent; false when there is none left.
    fn opened(&mut self, request: &Request) -> Result<bool, Rejection> {
        if self.open.as_ref().is_some_and(|open| open.sent < open.plan.tiles()) {
            return Ok(true);
        }
        for index in self.ahead.by_ref() {
            // The one before it goes first: of decoded images there is one.
            self.open = None;
            match open(request, &self.sent, index, (&self.question, &self.settings, self.tiles)) {
                Ok(open) => {
                    self.tiles += open.plan.tiles();
                    let canvas = Box::new(Canvas::new(open.plan.clone()));
                    self.growing.push_back(Growing::Mask { size: open.plan.size, canvas });
                    self.open = Some(open);
                    return Ok(true);
                }
                Err(rejection) if self.listed => self.growing.push_back(Growing::Refused(rejection)),
                Err(rejection) => return Err(rejection),
            }
        }
        // Who draws still needs it.
        if self.question.wanted != Wanted::Annotated {
            self.open = None;
        }
        Ok(false)
    }

    /// Puts masks of tiles where they belong, and makes an answer of each that is whole.
    fn take(&mut self, outputs: &Outputs, tiles: usize) -> Result<(), Rejection> {
        let mask = outputs.tensor("mask").or_trap();
        let tile_bytes = u64::from(SIDE) * u64::from(SIDE);
        assert_eq!((mask.datatype().as_str(), mask.size()), ("UINT8", tile_bytes * tiles as u64), "masks of tiles");
        self.settle()?;
        let Some(Growing::Mask { canvas, .. }) = self.growing.front_mut() else {
            panic!("tiles came back that nobody waits for");
        };
        for tile in 0..tiles as u64 {
            canvas.add(&mask.read(tile * tile_bytes, tile_bytes).or_trap());
        }
        self.settle()
    }

    /// Makes answers of what is at the front and ready.
    fn settle(&mut self) -> Result<(), Rejection> {
        let ready = |growing: &Growing| match growing {
            Growing::Mask { canvas, .. } => canvas.is_whole(),
            Growing::Refused(_) => true,
        };
        while self.growing.front().is_some_and(ready) {
            let answer = match self.growing.pop_front().expect("it is at the front") {
                Growing::Refused(rejection) => Err(rejection),
                Growing::Mask { size, canvas } => Answer::of(canvas.into_mask(), size, &self.question),
            };
            if self.listed {
                self.written.push(answer.map_or_else(answer::refused, Answer::into_json));
            } else {
                self.answer = Some(answer?);
            }
        }
        Ok(())
    }

    fn respond(&mut self, request: &Request) -> Result<Response, Rejection> {
        self.settle()?;
        if self.listed {
            return Ok(answer::list(mem::take(&mut self.written)));
        }
        let answer = self.answer.take().expect("one image has one answer");
        match self.question.wanted {
            Wanted::Json => Ok(answer::one(answer.into_json())),
            Wanted::Mask => answer.into_png(),
            Wanted::Annotated => {
                let open = self.open.take().expect("who draws keeps the image");
                answer.draw(&open.image, (self.question.format, request))
            }
        }
    }
}

/// Decodes an image and plans its tiles; `before` is how many the request has already.
fn open(
    request: &Request,
    sent: &Sent,
    index: usize,
    (question, settings, before): (&Question, &Settings, usize),
) -> Result<Open, Rejection> {
    let image: Image = sent.open(request, index)?;
    let size = (image.width(), image.height());
    let scale = question.scale.unwrap_or_else(|| fitting_scale(size));
    let most = settings.max_tiles.saturating_sub(before);
    let plan = Plan::new(size, scale, settings.overlap, most).map_err(|tiles| {
        let detail = format!(
            "an image of {} x {} pixels at scale {scale} has {tiles} tiles of {SIDE}, and {most} of {} are left",
            size.0, size.1, settings.max_tiles
        );
        Rejection::new(PAYLOAD_TOO_LARGE, "too-many-tiles", detail)
    })?;
    Ok(Open { image, plan, sent: 0 })
}

impl Open {
    /// The next tiles as rows.
    fn cut(&mut self, count: usize, settings: &Settings) -> Result<Tensor, Rejection> {
        let side = u64::from(SIDE);
        let tensor = body::judged(Tensor::create("FP32", &[count as u64, 3, side, side]))?;
        let (mean, deviation) = (settings.mean, settings.deviation);
        for row in 0..count {
            let fit = Fit::part(self.plan.area(self.sent + row), SIDE, SIDE);
            fit.normalise((mean, mean, mean), (deviation, deviation, deviation));
            body::judged(self.image.into_tensor(&tensor, row as u64, &fit))?;
        }
        self.sent += count;
        Ok(tensor)
    }
}

tenon_sdk::export!(Segmentation: preprocessing, postprocessing);
