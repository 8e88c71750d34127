//! gRPC's frame around a single message: five bytes before it, a status behind it. Owns the bytes and the codes; refuses
//! to know what messages say.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body as AxumBody,
    http::{HeaderMap, HeaderValue, Response, header},
};
use bytes::{Buf as _, Bytes};
use http_body::Frame;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::super::incoming::WireBody;
use crate::function::Body;

/// Whether the message is packed, and its length.
const PREFIX_BYTES: usize = 5;
/// What a status's text may not say as it is.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');
/// The most that a status says: it travels in a header, three times as long where it is encoded, and clients bound those.
const MAX_TEXT_BYTES: usize = 1 << 10;
/// Digits of a `grpc-timeout`.
const MAX_TIMEOUT_DIGITS: usize = 8;

/// Codes of gRPC that this host answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    /// What a status of HTTP is here.
    pub(super) fn of(status: u16) -> Self {
        match status {
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::NotFound,
            409 => Self::FailedPrecondition,
            413 | 429 => Self::ResourceExhausted,
            400..=499 => Self::InvalidArgument,
            501 => Self::Unimplemented,
            503 => Self::Unavailable,
            504 => Self::DeadlineExceeded,
            _ => Self::Internal,
        }
    }
}

/// The one message of a request, without what comes before it.
pub(super) struct Message {
    body: WireBody,
    prefix: Vec<u8>,
    found: u64,
}

impl Message {
    pub(super) fn new(body: AxumBody) -> Self {
        Self { body: WireBody::new(body), prefix: Vec::with_capacity(PREFIX_BYTES), found: 0 }
    }

    /// How long it should be, once that is known.
    fn length(&self) -> Option<u64> {
        let prefix: &[u8; PREFIX_BYTES] = self.prefix.first_chunk()?;
        Some(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]).into())
    }
}

impl Body for Message {
    fn announced(&self) -> Option<u64> {
        self.body.announced().map(|bytes| bytes.saturating_sub(PREFIX_BYTES as u64))
    }

    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            let mut piece = match self.body.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(broken)) => return Some(Err(broken)),
                None if self.length() == Some(self.found) => return None,
                None => return Some(Err("the message is cut off".into())),
            };
            let missing = (PREFIX_BYTES - self.prefix.len()).min(piece.len());
            self.prefix.extend_from_slice(&piece[..missing]);
            piece.advance(missing);
            if self.prefix.first().is_some_and(|packed| *packed != 0) {
                return Some(Err("the message is packed, which this host does not read".into()));
            }
            if piece.is_empty() {
                continue;
            }
            self.found += piece.len() as u64;
            if self.length().is_some_and(|length| self.found > length) {
                return Some(Err("there is more than one message".into()));
            }
            return Some(Ok(piece));
        }
    }
}

/// A message as it is sent.
pub(super) fn framed(message: &impl prost::Message) -> Bytes {
    let mut bytes = vec![0; PREFIX_BYTES];
    bytes.extend_from_slice(&message.encode_to_vec());
    // Listings of models are far from four gigabytes.
    let length = u32::try_from(bytes.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
    bytes[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    bytes.into()
}

/// An answer with its message, framed already.
pub(super) fn answer(message: Bytes) -> Response<AxumBody> {
    succeeded(grpc(Response::new(AxumBody::from(message))))
}

/// Puts the status behind an answer that is well.
pub(super) fn succeeded(response: Response<AxumBody>) -> Response<AxumBody> {
    response.map(|body| AxumBody::new(WithStatus { body, told: false }))
}

/// An answer that is a status alone.
pub(super) fn status(code: Code, text: &str) -> Response<AxumBody> {
    let mut response = grpc(Response::new(AxumBody::empty()));
    let headers = response.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(code as u16));
    let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    if let Ok(text) = HeaderValue::try_from(utf8_percent_encode(text, ENCODED).to_string()) {
        headers.insert("grpc-message", text);
    }
    response
}

fn grpc(mut response: Response<AxumBody>) -> Response<AxumBody> {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A body and, behind it, that all is well.
struct WithStatus {
    body: AxumBody,
    told: bool,
}

impl http_body::Body for WithStatus {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.told {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(Some(frame.unwrap_or_else(|| {
            self.told = true;
            Ok(Frame::trailers(HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from(0))])))
        })))
    }
}

/// How long the caller would wait: up to eight digits and a unit.
pub(super) fn timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > MAX_TIMEOUT_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(3600 * count)),
        "M" => Some(Duration::from_secs(60 * count)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_up_to_eight_digits_and_a_unit() {
        assert_eq!(timeout("1S"), Some(Duration::from_secs(1)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(3600 * 99_999_999)));
        for wrong in ["", "S", "1", "123456789S", "-1S", "1.5S", "1s", "1 S", "1é"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let told = status(Code::NotFound, &format!("a{}", "ä".repeat(MAX_TEXT_BYTES)));
        let text = told.headers()["grpc-message"].to_str().unwrap();
        // One letter of a byte, the others of two bytes in three signs each; half of one would still have fitted.
        assert_eq!(text.len(), 1 + (MAX_TEXT_BYTES / 2 - 1) * 6);
        assert!(text.starts_with("a%C3%A4") && text.ends_with("%C3%A4"));
    }

    #[tokio::test]
    async fn a_message_is_what_its_prefix_says() {
        let read = async |bytes: &'static [u8]| {
            let mut message = Message::new(AxumBody::from(bytes));
            let mut all = Vec::new();
            while let Some(piece) = message.next().await {
                all.extend_from_slice(&piece?);
            }
            Ok::<_, String>(all)
        };
        assert_eq!(read(b"\0\0\0\0\x02hi").await, Ok(b"hi".to_vec()));
        assert_eq!(read(b"\0\0\0\0\0").await, Ok(Vec::new()));
        for broken in [&b""[..], b"\0\0\0", b"\0\0\0\0\x03hi", b"\0\0\0\0\x01hi", b"\x01\0\0\0\x02hi"] {
            assert!(read(broken).await.is_err(), "{broken:?}");
        }
    }
}
