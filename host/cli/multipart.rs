//! `multipart/form-data` (RFC 7578), the form that browsers and curl send: parts between boundaries.
//!
//! It owns the encoding of one body; what the parts are is known to who sends them.

use ureq::http::HeaderValue;

use crate::failure::{Exit, Failure};

/// The boundaries' beginning.
const BOUNDARY: &str = "----tenon-boundary";
/// Another boundary is tried this often where the content holds one.
const BOUNDARIES_MAX: u32 = 1000;

/// One part.
pub(crate) struct Part {
    /// Its headers, without the line's end after the last.
    head: String,
    content: Vec<u8>,
}

impl Part {
    /// A field with a value.
    pub(crate) fn field(name: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { head: disposition(name), content: value.into() }
    }

    /// A file: its name for the receiver, its type, its bytes.
    pub(crate) fn file(name: &str, file: &str, kind: &str, content: Vec<u8>) -> Self {
        // As browsers do: what would end the quoted name is percent-encoded.
        let file = file.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
        Self { head: format!("{}; filename=\"{file}\"\r\ncontent-type: {kind}", disposition(name)), content }
    }
}

fn disposition(name: &str) -> String {
    format!("content-disposition: form-data; name=\"{name}\"")
}

/// The body and its content type.
pub(crate) fn encode(parts: &[Part]) -> Result<(Vec<u8>, HeaderValue), Failure> {
    let free = |boundary: &String| !parts.iter().any(|part| holds(&part.content, boundary.as_bytes()));
    let boundary = (0..BOUNDARIES_MAX).map(|n| format!("{BOUNDARY}-{n}")).find(free);
    let boundary = boundary.ok_or_else(|| Failure::new(Exit::Usage, "the form's content holds every boundary"))?;
    let mut body = Vec::with_capacity(parts.iter().map(|part| part.content.len() + part.head.len() + 64).sum());
    for part in parts {
        body.extend_from_slice(format!("--{boundary}\r\n{}\r\n\r\n", part.head).as_bytes());
        body.extend_from_slice(&part.content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let kind = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"));
    let kind = kind.map_err(|error| Failure::new(Exit::Tenon, format!("no boundary: {error}")))?;
    Ok((body, kind))
}

fn holds(content: &[u8], wanted: &[u8]) -> bool {
    content.windows(wanted.len()).any(|piece| piece == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_as_browsers_do() {
        let parts = [
            Part::field("x", "1=2"),
            Part::file("image", "a \"b\".jpg", "image/jpeg", format!("{BOUNDARY}-0").into_bytes()),
        ];
        let (body, kind) = encode(&parts).unwrap();
        assert_eq!(kind, format!("multipart/form-data; boundary={BOUNDARY}-1"), "not one that the content holds");
        let expected = format!(
            "--{BOUNDARY}-1\r\ncontent-disposition: form-data; name=\"x\"\r\n\r\n1=2\r\n--{BOUNDARY}-1\r\n\
             content-disposition: form-data; name=\"image\"; filename=\"a %22b%22.jpg\"\r\n\
             content-type: image/jpeg\r\n\r\n{BOUNDARY}-0\r\n--{BOUNDARY}-1--\r\n"
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }
}
