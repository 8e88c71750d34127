//! Forms as clients send them, and as nobody should.

use proptest::prelude::*;

use super::*;

impl Windows for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn window(&self, offset: u64, length: u64) -> Vec<u8> {
        let start = (offset as usize).min(self.len());
        let end = start.saturating_add(length as usize).min(self.len());
        self[start..end].to_vec()
    }
}

const BOUNDARY: &str = "--x7";

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend_from_slice(format!("--{BOUNDARY}\r\n{head}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

const FILE: &str = "Content-Disposition: form-data; name=\"image\"; filename=\"a;b.png\"\r\nContent-Type: image/png";

fn found(body: &Vec<u8>) -> Result<Vec<Vec<u8>>, Rejection> {
    let images = images(body, BOUNDARY, 3)?;
    let bytes = images.into_iter().map(|image| match image {
        Encoded::Body { offset, length } => body[offset as usize..(offset + length) as usize].to_vec(),
        other => panic!("{other:?}"),
    });
    Ok(bytes.collect())
}

#[test]
fn images_among_fields() {
    let field = "content-disposition: form-data; name=\"note\"";
    let typed = "content-disposition: form-data; name=image\r\ncontent-type: IMAGE/jpeg";
    let body = form(&[(field, b"text"), (FILE, b"\x89PNG\r\n\r\n--x"), (typed, b""), ("", b"nothing said")]);
    assert_eq!(found(&body).unwrap(), [b"\x89PNG\r\n\r\n--x".to_vec(), Vec::new()]);
}

#[test]
fn boundaries_are_found_wherever_windows_end() {
    let window = WINDOW_BYTES as usize;
    for length in (window - 200..window + 50).step_by(1).chain([3 * window - 60]) {
        let content = vec![b'-'; length];
        let body = form(&[(FILE, &content), (FILE, b"second")]);
        let found = found(&body).unwrap();
        assert_eq!((found[0].len(), found[1].as_slice()), (length, b"second".as_slice()));
    }
}

#[test]
fn what_only_begins_like_a_boundary_is_content() {
    let content = b"a\r\n----x78\r\n----x7 b\r\n----x7-".to_vec();
    let body = form(&[(FILE, &content)]);
    assert_eq!(found(&body).unwrap(), [content]);
    // Before the first one, something may stand; behind each, white space.
    let mut early = b"preamble\r\n".to_vec();
    early.extend_from_slice(&form(&[(FILE, b"x")]));
    let early = String::from_utf8(early).unwrap().replacen("--x7\r\n", "--x7 \t\r\n", 1).into_bytes();
    assert_eq!(found(&early).unwrap(), [b"x"]);
}

#[test]
fn bad_forms_are_told() {
    let good = form(&[(FILE, b"x")]);
    let cut = good[..good.len() - 5].to_vec();
    let headless = format!("--{BOUNDARY}\r\n{}", "x".repeat(20_000)).into_bytes();
    for (body, says) in [(cut, "last boundary"), (headless, "headers"), (b"--".to_vec(), "last boundary")] {
        let rejection = found(&body).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (400, "invalid-form"));
        assert!(rejection.detail.contains(says), "{}", rejection.detail);
    }
    assert_eq!(found(&form(&[])).unwrap_err().code, "missing-image");
    assert_eq!(found(&form(&[(FILE, b"x".as_slice()); 4])).unwrap_err().code, "too-many-images");
    assert_eq!(found(&form(&[("a: b", b"x".as_slice()); 65])).unwrap_err().code, "invalid-form");
    assert_eq!(found(&form(&[("a: b", b"x")])).unwrap_err().code, "missing-image");
}

#[test]
fn media_types_and_their_boundaries() {
    let read = |kind: &str| boundary(kind).map_err(|rejection| rejection.code);
    assert_eq!(read("image/png"), Ok(None));
    assert_eq!(read("multipart/form-data; charset=utf-8; Boundary=\"a;b\""), Ok(Some("a;b".to_owned())));
    assert_eq!(read("Multipart/Form-Data;boundary=ab"), Ok(Some("ab".to_owned())));
    for kind in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"\""] {
        assert_eq!(read(kind), Err("invalid-form".to_owned()), "{kind}");
    }
    assert!(read(&format!("multipart/form-data; boundary={}", "x".repeat(71))).is_err());
}

/// Bytes of boundaries among others.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()]
}

proptest! {
    #[test]
    fn damaged_forms_never_panic_and_ranges_stay_inside(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 0..8),
        contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..3),
    ) {
        let parts: Vec<(&str, &[u8])> = contents.iter().map(|content| (FILE, content.as_slice())).collect();
        let mut body = form(&parts);
        for (place, byte, how) in changes {
            let place = place.index(body.len().max(1)).min(body.len().saturating_sub(1));
            match how {
                _ if body.is_empty() => {}
                0 => body[place] = byte,
                1 => drop(body.remove(place)),
                _ => body.truncate(place),
            }
        }
        if let Ok(images) = images(&body, BOUNDARY, 3) {
            prop_assert!(images.len() <= 3);
            for image in images {
                let Encoded::Body { offset, length } = image else { panic!("a form has ranges") };
                prop_assert!(offset + length <= body.len() as u64);
            }
        }
    }

    #[test]
    fn what_went_in_comes_out(content in proptest::collection::vec(byte(), 0..600)) {
        prop_assume!(!content.windows(8).any(|window| window == b"\r\n----x7"));
        prop_assert_eq!(found(&form(&[(FILE, &content)])).unwrap(), [content]);
    }
}
