//! `--form`: fields and files as `multipart/form-data` (RFC 7578), the form that browsers and curl send.
//!
//! It owns the encoding of one body and the types that files are sent under.

use std::path::Path;

use hyper::http::HeaderValue;

use super::bodies;
use crate::failure::{Exit, Failure};

const BOUNDARY: &str = "----tenon-bench-boundary";
/// Another boundary is tried this often where the data holds one.
const BOUNDARIES_MAX: u32 = 1000;
const BYTES: &str = "application/octet-stream";
/// Types of files, by the end of their names.
const TYPES: [(&str, &str); 9] = [
    ("json", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("png", "image/png"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("pdf", "application/pdf"),
    ("wav", "audio/wav"),
];

/// One `--form`: `name=value`, or `name=@file` with `;type=…` where the file's name does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    name: String,
    value: String,
    file: bool,
    kind: Option<String>,
}

impl Field {
    /// Reads a flag.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE or NAME=@FILE")?;
        if name.is_empty() || name.contains(|c: char| c.is_control() || c == '"') {
            return Err(format!("`{name}` cannot be a field's name"));
        }
        let Some(file) = value.strip_prefix('@') else {
            return Ok(Self { name: name.to_owned(), value: value.to_owned(), file: false, kind: None });
        };
        let (file, kind) = file.split_once(";type=").map_or((file, None), |(file, kind)| (file, Some(kind)));
        if kind.is_some_and(|kind| HeaderValue::from_str(kind).is_err()) {
            return Err(format!("the type in `{text}` cannot be a header"));
        }
        Ok(Self { name: name.to_owned(), value: file.to_owned(), file: true, kind: kind.map(str::to_owned) })
    }
}

/// The type that a file's name tells.
pub(super) fn type_of(path: &Path) -> &'static str {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    TYPES.iter().find(|(known, _)| *known == end).map_or(BYTES, |(_, kind)| kind)
}

/// The body and its content type.
pub(super) fn encode(fields: &[Field]) -> Result<(Vec<u8>, HeaderValue), Failure> {
    let mut parts = Vec::new();
    for field in fields {
        parts.push(if field.file { file(field)? } else { (head(&field.name, ""), field.value.clone().into_bytes()) });
    }
    let free = |boundary: &String| {
        let held = |part: &[u8]| part.windows(boundary.len()).any(|piece| piece == boundary.as_bytes());
        !parts.iter().any(|(_, content)| held(content))
    };
    let boundary = (0..BOUNDARIES_MAX).map(|n| format!("{BOUNDARY}-{n}")).find(free);
    let boundary = boundary.ok_or_else(|| Failure::new(Exit::Usage, "the form's data holds every boundary"))?;
    let mut body = Vec::new();
    for (head, content) in &parts {
        body.extend_from_slice(format!("--{boundary}\r\n{head}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let kind = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"));
    let kind = kind.map_err(|error| Failure::new(Exit::Tenon, format!("no boundary: {error}")))?;
    Ok((body, kind))
}

fn head(name: &str, rest: &str) -> String {
    format!("content-disposition: form-data; name=\"{name}\"{rest}")
}

fn file(field: &Field) -> Result<(String, Vec<u8>), Failure> {
    let path = Path::new(&field.value);
    let content = bodies::read(path)?;
    // As browsers do: what would end the quoted name is percent-encoded.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    let kind = field.kind.as_deref().unwrap_or_else(|| type_of(path));
    Ok((head(&field.name, &format!("; filename=\"{name}\"\r\ncontent-type: {kind}")), content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_as_browsers_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a \"b\".jpg");
        std::fs::write(&path, format!("{BOUNDARY}-0")).unwrap();
        let fields = ["x=1=2".to_owned(), format!("image=@{}", path.display())];
        let fields: Vec<_> = fields.iter().map(|text| Field::parse(text).unwrap()).collect();
        let (body, kind) = encode(&fields).unwrap();
        assert_eq!(kind, format!("multipart/form-data; boundary={BOUNDARY}-1"), "not one that the data holds");
        let expected = format!(
            "--{BOUNDARY}-1\r\ncontent-disposition: form-data; name=\"x\"\r\n\r\n1=2\r\n--{BOUNDARY}-1\r\n\
             content-disposition: form-data; name=\"image\"; filename=\"a %22b%22.jpg\"\r\n\
             content-type: image/jpeg\r\n\r\n{BOUNDARY}-0\r\n--{BOUNDARY}-1--\r\n"
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn fields_are_checked() {
        assert_eq!(Field::parse("a=@f.bin;type=image/png").unwrap().kind.as_deref(), Some("image/png"));
        for text in ["a", "=x", "a\"b=x", "a=@f;type=x\ny"] {
            assert!(Field::parse(text).is_err(), "{text}");
        }
        assert!(encode(&[Field::parse("a=@/nonexistent/file").unwrap()]).is_err());
    }
}
