//! Images in a form: `multipart/form-data`, as browsers and `curl -F` send it.
//!
//! Owns finding the parts (RFC 2046, RFC 7578) by looking at the body through windows of bounded size, so that the
//! images never enter the guest. Refuses to know what else a form may say: parts without a file name and without
//! an image's media type are passed over.

use memchr::memmem::Finder;
use tenon_sdk::{Rejection, Request};

use crate::body::Encoded;

/// What is looked at at once.
const WINDOW_BYTES: u64 = 256 << 10;
/// Headers of one part.
const MAX_HEADER_BYTES: u64 = 8 << 10;
/// RFC 2046 allows so many.
const MAX_BOUNDARY_BYTES: usize = 70;
/// White space that may stand behind a boundary.
const MAX_PADDING_BYTES: u64 = 256;
/// Fields beside the images.
const MAX_OTHER_PARTS: usize = 64;

/// Bytes that are looked at in pieces.
pub(crate) trait Windows {
    /// How many there are.
    fn size(&self) -> u64;
    /// `length` of them from `offset` on; fewer at the end.
    fn window(&self, offset: u64, length: u64) -> Vec<u8>;
}

impl Windows for Request {
    fn size(&self) -> u64 {
        self.body_size()
    }

    fn window(&self, offset: u64, length: u64) -> Vec<u8> {
        self.read_body(offset, length)
    }
}

/// The boundary of a form; none if the media type is another one.
pub(crate) fn boundary(kind: &str) -> Result<Option<String>, Rejection> {
    let (essence, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let boundary = parameter(parameters, "boundary").unwrap_or_default();
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES {
        let detail = format!("a form's `content-type` has a `boundary` of 1 to {MAX_BOUNDARY_BYTES} bytes");
        return Err(Rejection::bad_request("invalid-form", detail));
    }
    Ok(Some(boundary))
}

/// The images of a form, in order.
pub(crate) fn images(body: &impl Windows, boundary: &str, limit: usize) -> Result<Vec<Encoded>, Rejection> {
    let mut form = Form::new(body, boundary);
    let (mut images, mut others) = (Vec::new(), 0);
    let mut next = form.first()?;
    while let Some(start) = next {
        let (part, after) = form.part(start)?;
        match part {
            Some(image) => images.push(image),
            None => others += 1,
        }
        if images.len() > limit {
            return Err(Rejection::new(413, "too-many-images", format!("more than {limit} images")));
        }
        if others > MAX_OTHER_PARTS {
            return Err(malformed(&format!("it has more than {MAX_OTHER_PARTS} fields beside the images")));
        }
        next = after;
    }
    if images.is_empty() {
        return Err(Rejection::unprocessable(
            "missing-image",
            "the form has no part with a file name or an image's type",
        ));
    }
    Ok(images)
}

fn malformed(detail: &str) -> Rejection {
    Rejection::bad_request("invalid-form", format!("the form cannot be read: {detail}"))
}

struct Form<'a, B> {
    body: &'a B,
    /// `\r\n--boundary`.
    delimiter: Finder<'static>,
    start: u64,
    window: Vec<u8>,
}

impl<'a, B: Windows> Form<'a, B> {
    fn new(body: &'a B, boundary: &str) -> Self {
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        Form { body, delimiter, start: 0, window: Vec::new() }
    }

    /// Where the first part's headers begin.
    fn first(&mut self) -> Result<Option<u64>, Rejection> {
        let opening = self.delimiter.needle()[2..].to_vec();
        if self.body.window(0, opening.len() as u64) == opening
            && let Some(after) = self.behind(opening.len() as u64)
        {
            return Ok(after);
        }
        let (_, after) = self.boundary_from(0)?;
        Ok(after)
    }

    /// One part: the image that it is, if it is one, and where the next part's headers begin.
    fn part(&mut self, start: u64) -> Result<(Option<Encoded>, Option<u64>), Rejection> {
        let head = self.body.window(start, MAX_HEADER_BYTES);
        let (head, length) = if head.starts_with(b"\r\n") {
            (&head[..0], 2)
        } else {
            let end = memchr::memmem::find(&head, b"\r\n\r\n");
            let end =
                end.ok_or_else(|| malformed(&format!("no end of a part's headers in {MAX_HEADER_BYTES} bytes")))?;
            (&head[..end], end as u64 + 4)
        };
        let content = start + length;
        let (end, after) = self.boundary_from(content)?;
        let image = is_image(&String::from_utf8_lossy(head));
        Ok((image.then(|| Encoded::Body { offset: content, length: end - content }), after))
    }

    /// The next boundary from here on: where what is before it ends, and where the part behind it begins, if it is
    /// not the last one.
    fn boundary_from(&mut self, mut from: u64) -> Result<(u64, Option<u64>), Rejection> {
        let length = self.delimiter.needle().len() as u64;
        while let Some(found) = self.find(from) {
            if let Some(after) = self.behind(found + length) {
                return Ok((found, after));
            }
            // The boundary is the beginning of something longer.
            from = found + length;
        }
        Err(malformed("it ends before its last boundary"))
    }

    /// What follows a boundary: another part, or the end; nothing that may follow one otherwise.
    fn behind(&self, offset: u64) -> Option<Option<u64>> {
        let next = self.body.window(offset, MAX_PADDING_BYTES);
        if next.starts_with(b"--") {
            return Some(None);
        }
        let padding = next.iter().take_while(|byte| [b' ', b'\t'].contains(byte)).count();
        next[padding..].starts_with(b"\r\n").then(|| Some(offset + padding as u64 + 2))
    }

    fn find(&mut self, mut from: u64) -> Option<u64> {
        let overlap = self.delimiter.needle().len() as u64 - 1;
        loop {
            let end = self.start + self.window.len() as u64;
            if from < self.start || from + overlap >= end {
                self.start = from;
                self.window = self.body.window(from, WINDOW_BYTES);
            }
            let skipped = (from - self.start) as usize;
            if let Some(found) = self.delimiter.find(self.window.get(skipped..)?) {
                return Some(from + found as u64);
            }
            let end = self.start + self.window.len() as u64;
            if end >= self.body.size() || end < from + overlap + 1 {
                return None;
            }
            from = end - overlap;
        }
    }
}

fn is_image(head: &str) -> bool {
    head.split("\r\n").filter_map(|line| line.split_once(':')).any(|(name, value)| {
        let name = name.trim();
        (name.eq_ignore_ascii_case("content-disposition") && parameter(value, "filename").is_some())
            || (name.eq_ignore_ascii_case("content-disposition") && parameter(value, "filename*").is_some())
            || (name.eq_ignore_ascii_case("content-type") && starts_with_image(value.trim()))
    })
}

fn starts_with_image(kind: &str) -> bool {
    kind.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("image/"))
}

/// The value of a parameter, as in `form-data; name="x"; filename="a;b.png"`.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    while !rest.is_empty() {
        let end = end_of_parameter(rest);
        let (parameter, behind) = rest.split_at(end);
        rest = behind.strip_prefix(';').unwrap_or_default();
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.trim().trim_matches('"').to_owned());
        }
    }
    None
}

/// Where the next `;` is that stands in no quotes.
fn end_of_parameter(text: &str) -> usize {
    let mut quoted = false;
    let end = text.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte == b';' && !quoted
    });
    end.unwrap_or(text.len())
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
