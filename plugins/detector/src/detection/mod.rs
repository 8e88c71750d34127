//! From images to objects: read, letterbox, ask, suppress, answer.
//!
//! Owns the flow. Refuses to know who decodes pictures (`P`), what may be asked ([`question`]) and what an answer looks
//! like ([`answer`]). Images are decoded one after another, and only one that is to be drawn on is kept: what a request
//! holds in pixels is one image, however many it brings.

mod answer;
mod question;

use std::mem;

use tenon_pictures::boxes::Unreadable;
use tenon_pictures::overlap::suppress;
use tenon_pictures::{Picture, Sent, body};
use tenon_sdk::images::Mapping;
use tenon_sdk::{
    HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Tensor, setting,
};

use answer::Seen;
use question::{Question, Settings};

/// The plugin's name for the model: the key under `[models]` in `function.toml`.
const MODEL: &str = "detector";
/// What the model's failing is to a caller. Hosts so far know rejections of 400 to 499 alone and say
/// `plugin-contract` instead, which has the same status.
const BAD_GATEWAY: u16 = 502;

/// One invocation.
#[derive(Debug)]
pub struct Detector<P> {
    asked: Option<Asked<P>>,
}

impl<P> Default for Detector<P> {
    fn default() -> Self {
        Detector { asked: None }
    }
}

/// Left by `preprocess` for `postprocess`.
#[derive(Debug)]
struct Asked<P> {
    question: Question,
    listed: bool,
    images: Vec<Result<Shown, Rejection>>,
    /// The image that is to be drawn on.
    picture: Option<P>,
}

/// An image that the model sees.
#[derive(Clone, Copy, Debug)]
struct Shown {
    size: (u32, u32),
    mapping: Mapping,
}

impl<P: Picture> Preprocessing for Detector<P> {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let settings = Settings::from_config();
        let question = Question::read(request, &settings)?;
        let sent = body::read(request, settings.limits)?;
        let wanted = if question.annotated {
            let only = sent.only(question.index)?;
            only..only + 1
        } else {
            0..sent.len()
        };
        let mut asked = Asked {
            listed: sent.listed() && !question.annotated,
            images: Vec::with_capacity(wanted.len()),
            picture: None,
            question,
        };
        let step = match asked.tensor(request, &sent, wanted)? {
            Some(tensor) => Inference::new(MODEL).input(&settings.input, &tensor).or_trap().into(),
            // None of several could be read: that is the answer.
            None => asked.list(Vec::new()).into(),
        };
        self.asked = Some(asked);
        Ok(step)
    }
}

impl<P: Picture> Postprocessing for Detector<P> {
    fn postprocess(&mut self, request: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let mut asked = self.asked.take().expect("preprocess leaves what was asked");
        let outputs = outputs.first().expect("one inference was asked, so one output came");
        let output = outputs.tensor(&setting("output", "output0".to_owned())).or_trap();
        let mut rows = Rows::new(&output);
        let mut seen = Vec::new();
        for shown in asked.images.iter().filter_map(|image| image.as_ref().ok()) {
            seen.push(asked.question.seen(*shown, &rows.next()));
        }
        if asked.question.annotated {
            return asked.draw(request, seen).map(Step::from);
        }
        if asked.listed {
            return Ok(asked.list(seen).into());
        }
        let seen = seen.pop().expect("one image is no list, and was read")?;
        Ok(Response::json(200, &seen).or_trap().into())
    }
}

impl<P: Picture> Asked<P> {
    /// The images as rows of one tensor; none if none of a list can be read.
    fn tensor(
        &mut self,
        request: &Request,
        sent: &Sent,
        wanted: std::ops::Range<usize>,
    ) -> Result<Option<Tensor>, Rejection> {
        let side = self.question.side;
        let create = |rows: usize| Tensor::create("FP32", &[rows as u64, 3, u64::from(side), u64::from(side)]);
        let tensor = body::judged(create(wanted.len()))?;
        let mut rows = 0;
        for index in wanted {
            let shown = sent.open::<P>(request, index).and_then(|picture| {
                let mapping = body::judged(picture.letterbox(&tensor, rows, side))?;
                let shown = Shown { size: picture.size(), mapping };
                self.picture = self.question.annotated.then_some(picture);
                Ok(shown)
            });
            match shown {
                Ok(_) => rows += 1,
                Err(rejection) if !self.listed => return Err(rejection),
                Err(_) => {}
            }
            self.images.push(shown);
        }
        let rows = rows as usize;
        match rows {
            0 => Ok(None),
            _ if rows == self.images.len() => Ok(Some(tensor)),
            _ => body::judged(create(rows)).map(|fewer| Some(copied(&tensor, fewer, rows as u64))),
        }
    }

    /// An answer for each image, in the order in which they were sent.
    fn list(&mut self, seen: Vec<Result<Seen, Rejection>>) -> Response {
        let images = answer::list(mem::take(&mut self.images), seen);
        Response::json(200, &images).or_trap()
    }

    fn draw(self, request: &Request, mut seen: Vec<Result<Seen, Rejection>>) -> Result<Response, Rejection> {
        let seen = seen.pop().expect("a picture that is drawn on was shown to the model")?;
        let mut picture = self.picture.expect("a picture that is drawn on is kept");
        // The surest is drawn last, so that it lies on top.
        for detection in seen.detections.iter().rev() {
            let label = format!("{} {:.2}", detection.class, detection.confidence);
            picture.draw(detection.area(), tenon_pictures::palette::colour(detection.class_id), &label);
        }
        let format = self.question.format;
        let response = Response::new(200, &format!("image/{format}"));
        body::judged(picture.encode(format, &response))?;
        // The answer is the picture for whoever looks at it, and says in brief what is in it for programs.
        response.header("x-detections", &seen.detections.len().to_string()).or_trap();
        if request.header("accept").is_some() {
            response.header("vary", "accept").or_trap();
        }
        Ok(response)
    }
}

impl Question {
    /// What is in an image, or why that cannot be said.
    fn seen(&self, shown: Shown, row: &[f32]) -> Result<Seen, Rejection> {
        let found = match self.reading.read(row) {
            Ok(found) => found,
            Err(Unreadable::NotFinite) => {
                return Err(Rejection::new(
                    BAD_GATEWAY,
                    "model-not-finite",
                    "the model's answer is not a finite number",
                ));
            }
            Err(Unreadable::WrongLength) => {
                let classes = self.reading.classes;
                panic!(
                    "a row of {} numbers is not {:?} of {classes} classes: see [config]",
                    row.len(),
                    self.reading.layout
                )
            }
        };
        let kept = suppress(found, self.overlap, self.most);
        let placed = kept.into_iter().filter_map(|found| found.placed(&shown.mapping, shown.size));
        Ok(Seen::new(shown.size, placed.collect(), &self.names))
    }
}

/// The first rows, in a tensor that has no others: rows are what a request pays for.
fn copied(tensor: &Tensor, fewer: Tensor, rows: u64) -> Tensor {
    let row_bytes = fewer.size() / rows;
    for offset in (0..rows).map(|row| row * row_bytes) {
        fewer.write(offset, &tensor.read(offset, row_bytes).or_trap()).or_trap();
    }
    fewer
}

/// The rows of an output, read one at a time.
struct Rows<'a> {
    tensor: &'a Tensor,
    row_bytes: u64,
    next: u64,
}

impl<'a> Rows<'a> {
    fn new(tensor: &'a Tensor) -> Self {
        let rows = tensor.shape().first().copied().unwrap_or(0).max(1);
        assert_eq!(tensor.datatype(), "FP32", "boxes are read as FP32");
        Rows { tensor, row_bytes: tensor.size() / rows, next: 0 }
    }

    fn next(&mut self) -> Vec<f32> {
        let bytes = self.tensor.read(self.next, self.row_bytes).or_trap();
        self.next += self.row_bytes;
        let (numbers, _) = bytes.as_chunks::<4>();
        numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}
