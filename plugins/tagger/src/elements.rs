//! What elements of HTML and JATS mean for somebody who wants the sentences: which end one, which hold none. Owns the
//! tables and nothing else.

use crate::format::Markup;

/// HTML elements after which a sentence does not go on.
const HTML_BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "br",
    "caption",
    "center",
    "dd",
    "details",
    "dialog",
    "dir",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hgroup",
    "hr",
    "html",
    "legend",
    "li",
    "main",
    "menu",
    "nav",
    "ol",
    "option",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "title",
    "tr",
    "ul",
];
/// HTML elements whose content nobody reads.
const HTML_SKIPPED: &[&str] = &[
    "audio", "button", "canvas", "datalist", "embed", "iframe", "math", "noembed", "noframes", "noscript", "object",
    "script", "select", "style", "svg", "template", "textarea", "video",
];
/// HTML elements that have no content and no end.
const HTML_VOID: &[&str] =
    &["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"];
/// JATS elements after which a sentence does not go on.
const JATS_BLOCKS: &[&str] = &[
    "abstract",
    "ack",
    "alt-title",
    "app",
    "article",
    "article-title",
    "attrib",
    "back",
    "body",
    "boxed-text",
    "break",
    "caption",
    "def",
    "def-item",
    "def-list",
    "disp-formula",
    "disp-quote",
    "fig",
    "fn",
    "front",
    "kwd",
    "label",
    "list",
    "list-item",
    "media",
    "p",
    "sec",
    "speech",
    "statement",
    "subject",
    "subtitle",
    "supplementary-material",
    "table",
    "table-wrap",
    "table-wrap-foot",
    "tbody",
    "td",
    "term",
    "th",
    "thead",
    "title",
    "tr",
    "trans-abstract",
    "trans-title",
    "verse-group",
    "verse-line",
];
/// JATS elements that are about the article, formulae, or lists of references.
const JATS_SKIPPED: &[&str] = &[
    "aff",
    "alternatives",
    "article-categories",
    "article-id",
    "author-notes",
    "contrib-group",
    "counts",
    "custom-meta-group",
    "elocation-id",
    "fpage",
    "funding-group",
    "glyph-data",
    "graphic",
    "history",
    "inline-graphic",
    "isbn",
    "issn",
    "issue",
    "journal-meta",
    "lpage",
    "math",
    "mml:math",
    "object-id",
    "permissions",
    "pub-date",
    "pub-history",
    "ref-list",
    "related-article",
    "self-uri",
    "tex-math",
    "volume",
];
/// Values of `class` and `role` that mark a list of references in HTML.
const REFERENCES: &[&str] = &["references", "reference-list", "ref-list", "reflist", "doc-bibliography"];

fn has(list: &[&str], name: &str) -> bool {
    list.contains(&name)
}

/// A sentence ends where this element begins and where it ends.
pub(crate) fn is_block(markup: Markup, name: &str) -> bool {
    has(if markup == Markup::Jats { JATS_BLOCKS } else { HTML_BLOCKS }, name)
}

/// The element's content is passed over.
pub(crate) fn is_skipped(markup: Markup, name: &str) -> bool {
    has(if markup == Markup::Jats { JATS_SKIPPED } else { HTML_SKIPPED }, name)
}

/// The element ends where it begins.
pub(crate) fn is_void(markup: Markup, name: &str, self_closing: bool) -> bool {
    if markup == Markup::Jats { self_closing } else { has(HTML_VOID, name) }
}

/// An attribute that makes an element one to pass over: a list of references, a citation (`<xref ref-type="bibr">`).
pub(crate) fn skips(markup: Markup, element: &str, attribute: &str, value: &str) -> bool {
    match markup {
        Markup::Jats => element == "xref" && attribute == "ref-type" && value == "bibr",
        _ => ["class", "role"].contains(&attribute) && value.split_ascii_whitespace().any(|word| has(REFERENCES, word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_means_different_things() {
        assert!(is_void(Markup::Html, "br", false) && !is_void(Markup::Html, "p", true));
        assert!(is_void(Markup::Jats, "xref", true) && !is_void(Markup::Jats, "br", false));
        assert!(is_skipped(Markup::Html, "script") && !is_skipped(Markup::Jats, "script"));
        assert!(skips(Markup::Jats, "xref", "ref-type", "bibr") && !skips(Markup::Jats, "xref", "ref-type", "fig"));
        assert!(skips(Markup::Html, "ol", "class", "big references") && !skips(Markup::Html, "ol", "id", "references"));
    }
}
