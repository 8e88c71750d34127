//! Packed bodies: gzip and deflate (zlib), unpacked as they are read, and answers packed for who asked.
//!
//! Owns the codings; refuses to know limits: what comes out is handed on in pieces that are small whatever comes in, so
//! whoever reads them stops when it is enough.

use std::{collections::VecDeque, io::Write as _};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::{
    Compression,
    write::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder},
};

use super::super::{handle::text, incoming::WireBody};
use crate::{function::Body, invocation::Response};

/// So much is unpacked at a time; it becomes a thousand times as much at worst.
const PACKED_BYTES: usize = 256;
/// Shorter answers are not worth it.
const LEAST_BYTES: usize = 1024;

/// How bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    fn named(name: &str) -> Option<Self> {
        let name = name.trim();
        [("gzip", Self::Gzip), ("x-gzip", Self::Gzip), ("deflate", Self::Deflate)]
            .into_iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known))
            .map(|(_, coding)| coding)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The coding that a caller takes; the first it names that is known.
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        text(headers, "accept-encoding")?.split(',').find_map(|offer| {
            let (name, weight) = offer.split_once(';').unwrap_or((offer, ""));
            let refused = weight.trim().strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0));
            Self::named(name).filter(|_| !refused)
        })
    }
}

/// A body as it came or unpacked.
pub(super) enum Unpacked {
    Plain(WireBody),
    Packed(Box<Packed>),
}

/// A body that is unpacked while it is read.
pub(super) struct Packed {
    body: WireBody,
    waiting: Bytes,
    out: VecDeque<Bytes>,
    decoder: Option<Decoder>,
}

enum Decoder {
    Gzip(GzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Decoder {
    fn write(&mut self, packed: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(packed).map(|()| std::mem::take(decoder.get_mut())),
            Self::Deflate(decoder) => decoder.write_all(packed).map(|()| std::mem::take(decoder.get_mut())),
        }
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => decoder.finish(),
            Self::Deflate(decoder) => decoder.finish(),
        }
    }
}

impl Unpacked {
    /// The body behind a head, or the name of a coding that is not known.
    pub(super) fn new(headers: &HeaderMap, body: axum::body::Body) -> Result<Self, String> {
        let body = WireBody::new(body);
        if headers.get_all(header::CONTENT_ENCODING).iter().count() > 1 {
            return Err("more than one content-encoding".into());
        }
        let decoder = match text(headers, "content-encoding") {
            None if headers.contains_key(header::CONTENT_ENCODING) => return Err("a content-encoding".into()),
            None => return Ok(Self::Plain(body)),
            Some(name) if name.trim().eq_ignore_ascii_case("identity") => return Ok(Self::Plain(body)),
            Some(name) => match Coding::named(name) {
                Some(Coding::Gzip) => Decoder::Gzip(GzDecoder::new(Vec::new())),
                Some(Coding::Deflate) => Decoder::Deflate(ZlibDecoder::new(Vec::new())),
                None => return Err(format!("the content-encoding `{}`", name.chars().take(64).collect::<String>())),
            },
        };
        let (waiting, out) = (Bytes::new(), VecDeque::new());
        Ok(Self::Packed(Box::new(Packed { body, waiting, out, decoder: Some(decoder) })))
    }
}

impl Body for Unpacked {
    fn announced(&self) -> Option<u64> {
        match self {
            Self::Plain(body) => body.announced(),
            // How long it becomes nobody knows.
            Self::Packed(_) => None,
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        match self {
            Self::Plain(body) => body.next().await,
            Self::Packed(packed) => packed.next().await,
        }
    }
}

impl Packed {
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            if let Some(piece) = self.out.pop_front() {
                // Unpacking a long body is work between which others want their turn.
                tokio::task::yield_now().await;
                return Some(Ok(piece));
            }
            let decoder = self.decoder.as_mut()?;
            let unpacked = if self.waiting.is_empty() {
                match self.body.next().await {
                    Some(Ok(piece)) => {
                        self.waiting = piece;
                        continue;
                    }
                    Some(Err(broken)) => return Some(Err(broken)),
                    None => self.decoder.take()?.finish(),
                }
            } else {
                let packed = self.waiting.split_to(self.waiting.len().min(PACKED_BYTES));
                decoder.write(&packed)
            };
            match unpacked {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => self.out.push_back(bytes.into()),
                Err(error) => {
                    self.decoder = None;
                    return Some(Err(format!("it is not packed as its content-encoding says: {error}")));
                }
            }
        }
    }
}

/// How an answer is packed for a caller who asked for that. Whoever writes the answer calls it where that is done: packing
/// takes as long, and is as much the invocation's.
pub(super) fn packing(headers: &HeaderMap) -> Option<fn(Response) -> Response> {
    Coding::accepted(headers).map(|coding| match coding {
        Coding::Gzip => |answer| packed(answer, Coding::Gzip),
        Coding::Deflate => |answer| packed(answer, Coding::Deflate),
    })
}

/// Packs an answer where it is text and long enough. What that makes is charged; where there is no room, the answer stays
/// as it is.
fn packed(mut answer: Response, coding: Coding) -> Response {
    let length = answer.body.len();
    if length < LEAST_BYTES || answer.content_type != "application/json" {
        return answer;
    }
    let Some(charge) = answer.charge.as_mut() else { return answer };
    if charge.grow(length as u64).is_err() {
        return answer;
    }
    let out = Vec::with_capacity(length);
    let packed = match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(out, Compression::fast());
            encoder.write_all(&answer.body).and_then(|()| encoder.finish())
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(out, Compression::fast());
            encoder.write_all(&answer.body).and_then(|()| encoder.finish())
        }
    };
    match packed {
        Ok(packed) if packed.len() < length => {
            let bytes = Bytes::from(packed.into_boxed_slice());
            charge.shrink((2 * length - bytes.len()) as u64);
            answer.body = bytes;
            answer.headers.push(("content-encoding".into(), coding.name().into()));
            answer.headers.push(("vary".into(), "accept-encoding".into()));
        }
        _ => charge.shrink(length as u64),
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &str) -> Option<Coding> {
        Coding::accepted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, text.parse().unwrap())]))
    }

    #[test]
    fn a_caller_gets_what_it_names_first_and_does_not_refuse() {
        assert_eq!(accepts("gzip"), Some(Coding::Gzip));
        assert_eq!(accepts("br, deflate;q=0.5, gzip"), Some(Coding::Deflate));
        assert_eq!(accepts("gzip;q=0, deflate"), Some(Coding::Deflate));
        assert_eq!(accepts("gzip; q=0.0"), None);
        assert_eq!(accepts("identity"), None);
    }
}
