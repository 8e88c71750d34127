//! What is taken out of documents, and that all of it leads back.

use proptest::prelude::*;

use super::*;

fn html(document: &str) -> Extract {
    extract(document, Markup::Html)
}

fn jats(document: &str) -> Extract {
    extract(document, Markup::Jats)
}

#[test]
fn tags_go_and_blocks_break() {
    let cases = [
        ("<p>CD4<sup>+</sup> <b>T</b> cells</p><p>next", "CD4+ T cells\nnext"),
        ("a<br>b<script>if (a<b) x()</script><style>p{}</style>c", "a\nbc"),
        ("<title>T &amp; U</title><body>x", "T & U\nx"),
        ("a &lt; b &unknown; &notit; &#x1F600;&#0; <3 &", "a < b &unknown; ¬it; 😀\u{fffd} <3 &"),
        ("a</>b<!-- no -->c<", "abc<"),
        ("<ol class='x references'><li>1<ol><li>2</ol></ol>end", "end"),
        ("<svg><svg></svg>no</svg>yes", "yes"),
        ("<table><tr><td>a<td>b</table>", "a\nb\n"),
        ("<img src='a>b' alt=c>d", "d"),
        ("", ""),
    ];
    for (document, wanted) in cases {
        assert_eq!(html(document).text, wanted, "{document}");
    }
}

#[test]
fn jats_is_read_as_xml() {
    let cases = [
        ("<title>Cells <italic>in</italic> skin</title><p>x", "Cells in skin\nx"),
        ("<p>Tregs <xref ref-type=\"bibr\">[1]</xref>in <xref ref-type='fig'>Fig. 1</xref>", "Tregs in Fig. 1"),
        ("<p>a<xref ref-type='bibr'/>b</p>", "ab\n"),
        ("<p>a</p><ref-list><title>R</title><ref-list/><ref>x</ref></ref-list><p>b", "a\nb"),
        ("<p>1 <![CDATA[< 2 &amp; ]]>3", "1 < 2 &amp; 3"),
        ("<!DOCTYPE article [<!ENTITY a \"aaa\"><!ENTITY b \"&a;&a;\">]><p>&b;</p>", "&b;\n"),
        ("<!DOCTYPE article PUBLIC \"x\" \"y.dtd\"><p>a", "a"),
        ("<![CDATA[open", "open"),
        ("<![CDATA[", ""),
        ("<p>a<disp-formula>x<tex-math>\\frac</tex-math></disp-formula>b", "a\nx\nb"),
    ];
    for (document, wanted) in cases {
        assert_eq!(jats(document).text, wanted, "{document}");
    }
}

#[test]
fn empty_lines_end_sentences_of_plain_text() {
    let found = extract("a\nb\r\n \r\n\r\nc\n", Markup::Plain);
    assert_eq!((found.text.as_str(), found.breaks.as_slice()), ("a\nb\r\n \r\n\r\nc\n", [8].as_slice()));
}

#[test]
fn nesting_and_bombs_take_no_time() {
    let begun = std::time::Instant::now();
    for part in [
        "<p>",
        "<",
        "&",
        "<a",
        "&amp;",
        "<!--",
        "<![CDATA[",
        "<![CDATA[]]>",
        "<!",
        "</>",
        "<svg>",
        "<ref-list>",
        "<x a='",
    ] {
        let document = part.repeat((1 << 18) / part.len());
        html(&document);
        jats(&document);
    }
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

const PARTS: [&str; 30] = [
    "<",
    ">",
    "p>",
    "</p>",
    "<b>",
    "é",
    "&amp;",
    "&",
    "lt;",
    "\r\n",
    "\0",
    "<script>",
    "</script>",
    "<!--",
    "-->",
    "😀",
    "&#55;",
    "<![CDATA[",
    "]]>",
    "<!DOCTYPE x [",
    "<?x",
    "<title>",
    "</title>",
    "</>",
    "&notit;",
    "<ref-list>",
    "</ref-list>",
    " ",
    "x",
    "=\"",
];

/// Every character of the text lies where the map says: the same one, or what a reference or a break stands for.
fn leads_back(document: &str, found: &Extract) -> Result<(), TestCaseError> {
    let mut last = 0;
    for (at, c) in found.text.char_indices() {
        let (start, end) = (found.start(at), found.end(at + c.len_utf8()));
        prop_assert!(last <= end && start <= end && end <= document.len(), "{} {}", document, at);
        let original = document.get(start..end);
        prop_assert!(original.is_some(), "{:?} at {} of {:?}", c, at, document);
        let original = original.unwrap();
        let stands = original.starts_with('&') || (c == '\n' && original.is_empty());
        prop_assert!(original.chars().eq([c]) || stands, "{:?} is {:?} in {:?}", c, original, document);
        last = end;
    }
    prop_assert!(found.breaks.iter().all(|at| found.text.is_char_boundary(*at)));
    Ok(())
}

proptest! {
    #[test]
    fn offsets_point_at_the_same_characters(
        parts in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..30), any in "\\PC{0,20}",
    ) {
        let document = parts.concat() + &any;
        for markup in [Markup::Html, Markup::Jats, Markup::Plain] {
            leads_back(&document, &extract(&document, markup))?;
        }
    }

    #[test]
    fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let document = String::from_utf8_lossy(&bytes);
        for markup in [Markup::Html, Markup::Jats, Markup::Plain] {
            leads_back(&document, &extract(&document, markup))?;
        }
    }
}
