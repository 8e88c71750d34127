//! What a body is: by its media type, else by its first characters. Owns the list of media types and the sniffing; refuses
//! to read any further.

use tenon_sdk::{Rejection, Request};

const UNSUPPORTED_MEDIA_TYPE: u16 = 415;
/// Where a root element is looked for; what comes before it is declarations.
const SNIFFED_BYTES: usize = 4096;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Markup {
    /// Text as it is.
    Plain,
    /// HTML as browsers read it.
    Html,
    /// JATS, and XML like it.
    Jats,
}

/// What the body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Documents in JSON.
    Json,
    /// One document.
    One(Markup),
}

/// What the request says that its body is.
///
/// Rejections: `unsupported-media-type`, `unsupported-charset` (415).
pub(crate) fn of(request: &Request, body: &[u8]) -> Result<Format, Rejection> {
    let said = request.header("content-type").unwrap_or_default();
    let (essence, parameters) = said.split_once(';').unwrap_or((&said, ""));
    check_charset(parameters)?;
    let found = match essence.trim().to_ascii_lowercase().as_str() {
        "application/json" => Format::Json,
        "text/plain" => Format::One(Markup::Plain),
        "text/html" | "application/xhtml+xml" => Format::One(Markup::Html),
        "application/jats+xml" => Format::One(Markup::Jats),
        "application/xml" | "text/xml" => Format::One(xml(&beginning(body))),
        "" | "application/octet-stream" => sniff(&beginning(body)),
        other => {
            let detail = format!(
                "`{other}` is not read here; send text/plain, text/html, application/jats+xml, application/xml, \
                 text/xml or application/json"
            );
            return Err(Rejection::new(UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail));
        }
    };
    Ok(found)
}

fn check_charset(parameters: &str) -> Result<(), Rejection> {
    for parameter in parameters.split(';') {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        let known = ["utf-8", "utf8", "us-ascii", "ascii"].contains(&value.as_str());
        if name.trim().eq_ignore_ascii_case("charset") && !known {
            let detail = format!("charset `{value}` is not read here; send UTF-8");
            return Err(Rejection::new(UNSUPPORTED_MEDIA_TYPE, "unsupported-charset", detail));
        }
    }
    Ok(())
}

/// The first characters in lower case, without white space and byte order mark before them.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SNIFFED_BYTES)]).to_ascii_lowercase();
    text.trim_start_matches(|c: char| c == '\u{feff}' || c.is_whitespace()).to_owned()
}

fn sniff(beginning: &str) -> Format {
    match beginning.chars().next() {
        Some('{') => Format::Json,
        Some('<') if looks_like_tag(beginning) => Format::One(
            if beginning.starts_with("<?xml") || beginning.contains("<article") && !beginning.contains("<html") {
                xml(beginning)
            } else {
                Markup::Html
            },
        ),
        _ => Format::One(Markup::Plain),
    }
}

/// `<p`, `<!doctype`, `<?xml`; a text may begin with `< 5 %`.
fn looks_like_tag(beginning: &str) -> bool {
    beginning[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '!' || c == '?')
}

/// XHTML is HTML; all other XML is read as JATS.
fn xml(beginning: &str) -> Markup {
    if beginning.contains("<html") { Markup::Html } else { Markup::Jats }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(content_type: &str, body: &str) -> Result<Format, Rejection> {
        let mut request = Request::post(body);
        request.headers = vec![("content-type".to_owned(), content_type.to_owned())];
        of(&request, body.as_bytes())
    }

    #[test]
    fn the_media_type_decides() {
        let cases = [
            ("application/json", "<p>", Format::Json),
            ("text/plain; charset=\"UTF-8\"", "{}", Format::One(Markup::Plain)),
            ("Text/HTML", "x", Format::One(Markup::Html)),
            ("application/jats+xml", "x", Format::One(Markup::Jats)),
            ("text/xml", "<?xml version='1.0'?><article/>", Format::One(Markup::Jats)),
            ("application/xml", "<?xml version='1.0'?><html/>", Format::One(Markup::Html)),
        ];
        for (content_type, body, wanted) in cases {
            assert_eq!(format(content_type, body).unwrap(), wanted, "{content_type}");
        }
    }

    #[test]
    fn without_one_the_beginning_does() {
        let cases = [
            ("\u{feff} {\"documents\": []}", Format::Json),
            ("<!DOCTYPE html><p>x", Format::One(Markup::Html)),
            ("<p>x", Format::One(Markup::Html)),
            ("<!DOCTYPE article PUBLIC \"x\" \"y\"><article>", Format::One(Markup::Jats)),
            ("<?xml version=\"1.0\"?>\n<article>", Format::One(Markup::Jats)),
            ("<?xml version=\"1.0\"?>\n<html>", Format::One(Markup::Html)),
            ("< 5 % of cells", Format::One(Markup::Plain)),
            ("<é", Format::One(Markup::Plain)),
            ("<", Format::One(Markup::Plain)),
            ("", Format::One(Markup::Plain)),
            ("Tregs", Format::One(Markup::Plain)),
        ];
        for (body, wanted) in cases {
            assert_eq!(format("", body).unwrap(), wanted, "{body}");
        }
    }

    #[test]
    fn others_are_refused_by_name() {
        for (content_type, code) in [
            ("application/pdf", "unsupported-media-type"),
            ("application/x-www-form-urlencoded", "unsupported-media-type"),
            ("text/plain; charset=latin1", "unsupported-charset"),
        ] {
            let rejection = format(content_type, "x").unwrap_err();
            assert_eq!((rejection.status, rejection.code.as_str()), (415, code));
        }
    }
}
