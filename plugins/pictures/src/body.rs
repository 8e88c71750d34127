//! The images that a request brings, whatever the shape of its body.
//!
//! Owns what counts as an image, the refusals (400, 413, 415, 422) and how one bad image stands among good
//! ones. Refuses to decode: bytes stay in the host, as a range of the body; only what is base64 is in the
//! guest, one image at a time.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Serialize;
use tenon_sdk::{Failure, HostCall, Rejection, Request};

use crate::form;
use crate::json;
use crate::picture::Picture;

const PAYLOAD_TOO_LARGE: u16 = 413;
const UNSUPPORTED_MEDIA_TYPE: u16 = 415;
/// The longest signature of a format: `RIFF`, a length, `WEBP`.
const SIGNATURE_BYTES: u64 = 12;

/// Clients leave padding out, or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request may bring at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Images of one request.
    pub images: usize,
}

/// The images of one request, not decoded yet.
#[derive(Debug)]
pub struct Sent {
    /// The body, where it is JSON: base64 is decoded when its turn comes.
    text: Vec<u8>,
    images: Vec<Encoded>,
    listed: bool,
}

/// Where the bytes of one image are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encoded {
    /// In the request's body, untouched.
    Body { offset: u64, length: u64 },
    /// Base64 in the JSON text.
    Base64 { text: Range<usize>, pointer: String },
    /// Base64 that was written with escapes.
    Escaped { text: String, pointer: String },
    /// Something else stands in its place.
    Wrong(Box<Rejection>),
}

/// Reads what the request brings.
///
/// Rejections: 400 for a body that is empty or cannot be read, 413 for too many images, 415 for what is neither
/// an image nor brings any, 422 with a pointer for JSON that says something else.
pub fn read(request: &Request, limits: Limits) -> Result<Sent, Rejection> {
    if request.method() != "POST" {
        return Err(Rejection::method_not_allowed("POST"));
    }
    let size = request.body_size();
    if size == 0 {
        return Err(Rejection::bad_request("empty-body", "the body is empty; send an image"));
    }
    let kind = request.header("content-type").unwrap_or_default();
    if let Some(boundary) = form::boundary(&kind)? {
        let images = form::images(request, &boundary, limits.images)?;
        return Ok(Sent { text: Vec::new(), listed: images.len() > 1, images });
    }
    let start = request.read_body(0, SIGNATURE_BYTES);
    if is_picture(&start) {
        let images = vec![Encoded::Body { offset: 0, length: size }];
        return Ok(Sent { text: Vec::new(), images, listed: false });
    }
    // Some write a mark of UTF-8 or white space first; whoever says JSON is told what is wrong with it.
    if names_json(&kind) || start.trim_ascii_start().first() == Some(&b'{') {
        let text = request.body();
        let (images, listed) = json::images(&text, limits.images)?;
        return Ok(Sent { text, images, listed });
    }
    let detail = "the body is no JPEG, PNG or WebP image, no form (`multipart/form-data`) and no JSON";
    Err(Rejection::new(UNSUPPORTED_MEDIA_TYPE, "not-an-image", detail))
}

/// Whether bytes begin as a format that hosts decode.
pub fn is_picture(start: &[u8]) -> bool {
    start.starts_with(&[0xff, 0xd8, 0xff])
        || start.starts_with(b"\x89PNG\r\n\x1a\n")
        || (start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP"))
}

fn names_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

impl Sent {
    /// How many images there are; at least one.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether the answer is a list, in which one bad image has an error in its place: of a form with several images,
    /// and of a list in JSON, whatever its length.
    pub fn listed(&self) -> bool {
        self.listed
    }

    /// Never: a request without images is refused.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Decodes one image.
    ///
    /// Rejections: 413 `too-large` or `memory`, 415 `not-an-image`, 422 `invalid-base64` or `invalid-image`.
    pub fn open<P: Picture>(&self, request: &Request, index: usize) -> Result<P, Rejection> {
        match self.images.get(index) {
            Some(Encoded::Body { offset, length }) => judged(P::from_body(request, *offset, *length)),
            Some(Encoded::Base64 { text, pointer }) => open_text(&self.text[text.clone()], pointer),
            Some(Encoded::Escaped { text, pointer }) => open_text(text.as_bytes(), pointer),
            Some(Encoded::Wrong(rejection)) => Err((**rejection).clone()),
            None => panic!("image {index} of {}", self.images.len()),
        }
    }

    /// The one image that an answer is about that can only be about one: `index`, or the only one.
    ///
    /// Rejections: 400 `invalid-parameter` (no such image), 422 `several-images`.
    pub fn only(&self, index: Option<usize>) -> Result<usize, Rejection> {
        match index {
            Some(index) if index < self.len() => Ok(index),
            Some(index) => {
                let detail = format!("`index` is {index}, and the request has {} images, from 0 on", self.len());
                Err(Rejection::bad_request("invalid-parameter", detail))
            }
            None if self.len() == 1 => Ok(0),
            None => {
                let detail = format!("a picture shows one image, and the request has {}: add `index`", self.len());
                Err(Rejection::unprocessable("several-images", detail))
            }
        }
    }
}

fn open_text<P: Picture>(text: &[u8], pointer: &str) -> Result<P, Rejection> {
    let text = without_label(text).map_err(|rejection| rejection.at(pointer))?;
    let bytes = BASE64.decode(text.as_ref()).map_err(|error| {
        Rejection::unprocessable("invalid-base64", format!("the image is not base64: {error}")).at(pointer)
    })?;
    judged(P::from_bytes(&bytes)).map_err(|rejection| rejection.at(pointer))
}

/// The base64 itself: without `data:…;base64,` before it and white space in it.
fn without_label(text: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, Rejection> {
    let text = match text.strip_prefix(b"data:") {
        None => text,
        Some(rest) => {
            let comma = memchr::memchr(b',', rest).filter(|comma| rest[..*comma].ends_with(b";base64"));
            let comma = comma.ok_or_else(|| {
                Rejection::unprocessable("invalid-base64", "a `data:` URL of an image ends its label in `;base64,`")
            })?;
            &rest[comma + 1..]
        }
    };
    if text.iter().any(u8::is_ascii_whitespace) {
        return Ok(text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
    }
    Ok(text.into())
}

/// Whose fault it is that the host did not do something with an image: the caller's who sent it, if it cannot be
/// read or wants too much memory; everything else is a fault of the plugin, and traps.
pub fn judged<T>(outcome: Result<T, Failure>) -> Result<T, Rejection> {
    match outcome {
        Err(failure) if failure.code == "not-an-image" => Err(failure.into_rejection(UNSUPPORTED_MEDIA_TYPE)),
        Err(failure) if ["too-large", "memory"].contains(&failure.code.as_str()) => {
            Err(failure.into_rejection(PAYLOAD_TOO_LARGE))
        }
        outcome => Ok(outcome.or_trap()),
    }
}

/// What stands in the place of an image that could not be answered, where others of the request could.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    error: Reason,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Reason {
    status: u16,
    code: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        let Rejection { status, code, detail, pointer, .. } = rejection;
        Refused { error: Reason { status, code, detail, pointer } }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
