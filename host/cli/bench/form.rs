//! `--form`: fields and files of one body.
//!
//! It owns the flag's grammar and the types that files are sent under; `multipart` encodes.

use std::path::Path;

use hyper::http::HeaderValue;

use super::bodies;
use crate::failure::Failure;
use crate::multipart::{self, Part};

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
    let part = |field: &Field| {
        if field.file { file(field) } else { Ok(Part::field(&field.name, field.value.as_bytes())) }
    };
    multipart::encode(&fields.iter().map(part).collect::<Result<Vec<_>, Failure>>()?)
}

fn file(field: &Field) -> Result<Part, Failure> {
    let path = Path::new(&field.value);
    let content = bodies::read(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kind = field.kind.as_deref().unwrap_or_else(|| type_of(path));
    Ok(Part::file(&field.name, &name, kind, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_files_become_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        std::fs::write(&path, "bytes").unwrap();
        let fields = ["x=1=2".to_owned(), format!("image=@{}", path.display())];
        let fields: Vec<_> = fields.iter().map(|text| Field::parse(text).unwrap()).collect();
        let (body, kind) = encode(&fields).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(kind.to_str().unwrap().starts_with("multipart/form-data; boundary="));
        for part in ["name=\"x\"\r\n\r\n1=2\r\n", "filename=\"a.jpg\"\r\ncontent-type: image/jpeg\r\n\r\nbytes"] {
            assert!(body.contains(part), "{part:?} in {body}");
        }
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
