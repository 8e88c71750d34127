//! The tagger in a whole host with its model: texts that training never saw, counted anew; every form of a document, with
//! places checked against the original; what is refused; and the host's tokens against those of PyPI's `tokenizers`.

use std::{collections::HashMap, os::unix::fs::symlink};

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::{
    programs,
    support::{Answer, Served, TestHost, made, rewrite},
};

const PATH: &str = "/v1/functions/demo/tagger";
/// What pip is told.
const PACKAGE: &str = "tokenizers==0.22.2";

async fn host() -> Served {
    let test = TestHost::new();
    let (from, to) = (made(".tenon/services/models/tagger"), test.folder().join("models/tagger"));
    std::fs::create_dir_all(&to).unwrap();
    symlink(from.join("1"), to.join("1")).unwrap();
    std::fs::copy(from.join("model.toml"), to.join("model.toml")).unwrap();
    // With patience for machines that have other things to do.
    rewrite(&to.join("model.toml"), &[("queue_timeout_ms = 10000", "queue_timeout_ms = 60000")]);
    test.place("demo", "tagger", &made(".tenon/services/functions/demo/tagger"));
    test.start().await
}

async fn send(host: &Served, content_type: &str, query: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = host.client.post(format!("{}{PATH}{query}", host.base)).header(CONTENT_TYPE, content_type);
    Answer::of(request.body(body).send().await.unwrap()).await
}

async fn documents(host: &Served, documents: &[Value]) -> Value {
    let answer = send(host, "application/json", "", json!({ "documents": documents }).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Start, end and label of what was found.
type Found = (u64, u64, String);

fn found(spans: &Value) -> Vec<Found> {
    let number = |span: &Value, key: &str| span[key].as_u64().unwrap();
    let one = |span| (number(span, "start"), number(span, "end"), span["label"].as_str().unwrap().to_owned());
    spans.as_array().unwrap().iter().map(one).collect()
}

/// Text, label and document's own characters of what was found.
fn marked(document: &Value, original: &str) -> Vec<[String; 3]> {
    let characters: Vec<char> = original.chars().collect();
    let string = |span: &Value, key: &str| span[key].as_str().unwrap().to_owned();
    let one = |span: &Value| {
        let place = |key: &str| span[key].as_u64().unwrap() as usize;
        let slice = characters[place("start")..place("end")].iter().collect();
        [string(span, "text"), string(span, "label"), slice]
    };
    document["spans"].as_array().unwrap().iter().map(one).collect()
}

fn names(rows: &[[String; 3]]) -> Vec<(&str, &str)> {
    rows.iter().map(|[text, label, _]| (text.as_str(), label.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_training_never_saw_is_found() {
    let lines = std::fs::read_to_string(made(".tenon/services/samples/tagger.jsonl")).unwrap();
    let samples: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let host = host().await;
    // Right, told and wanted, by the kind of text.
    let mut counts: HashMap<&str, [usize; 3]> = HashMap::new();
    for chunk in samples.chunks(100) {
        let asked: Vec<_> = chunk.iter().map(|sample| json!({ "text": sample["text"] })).collect();
        let answer = documents(&host, &asked).await;
        for (sample, document) in chunk.iter().zip(answer["documents"].as_array().unwrap()) {
            let (told, wanted) = (found(&document["spans"]), found(&sample["spans"]));
            let right = told.iter().filter(|span| wanted.contains(span)).count();
            let count = counts.entry(sample["kind"].as_str().unwrap()).or_default();
            for (sum, more) in count.iter_mut().zip([right, told.len(), wanted.len()]) {
                *sum += more;
            }
        }
    }
    for (kind, least) in [
        ("unseen_templates", 0.9),
        ("unseen_templates_long", 0.9),
        ("unseen_templates_and_names", 0.6),
        ("written_by_hand", 0.8),
    ] {
        let [right, told, wanted] = counts[kind].map(|count| count as f64);
        let f1 = 2.0 * right / (told + wanted);
        assert!(f1 >= least && wanted > 100.0, "{kind}: {f1} ({:?})", counts[kind]);
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_document_is_read() {
    let host = host().await;
    let text = "Tregs 😀 left the spleen.\r\nKupffer cells express CD163 (Fig. 2).";
    let html = "<html><head><title>Liver</title><style>p { CD4 }</style></head><body><p>Tregs &#x1F600; left the\n \
                <b>spleen</b>.<p>Kupffer cells express CD<i>163</i> (Fig. 2).<script>CD8</script></body>";
    let jats = "<?xml version=\"1.0\"?><!DOCTYPE article [<!ENTITY lol \"CD4\">]><article><front><journal-meta>CD8\
                </journal-meta></front><body><p>Tregs &amp; left the spleen <xref ref-type=\"bibr\">1</xref>.</p>\
                <p><![CDATA[Kupffer cells]]> express CD163.</p></body><back><ref-list><p>CD3</p></ref-list></back></article>";
    let wanted = [("Tregs", "CELL"), ("spleen", "TISSUE"), ("Kupffer cells", "CELL"), ("CD163", "MARKER")];
    for (content_type, body) in
        [("text/plain; charset=utf-8", text), ("text/html", html), ("application/jats+xml", jats), ("text/xml", jats)]
    {
        let answer = send(&host, content_type, "", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        let rows = marked(&answer["documents"][0], body);
        for wanted in wanted {
            assert!(names(&rows).contains(&wanted), "{content_type}: {wanted:?} is not in {rows:?}");
        }
        for [text, _, slice] in &rows {
            let markup = slice.contains(['<', '\n']);
            assert!(markup || slice == text, "{content_type}: {text:?} is {slice:?}");
        }
        assert!(rows.iter().all(|[text, _, _]| !["CD4", "CD8", "CD3"].contains(&text.as_str())), "{rows:?}");
        for sentence in answer["documents"][0]["sentences"].as_array().unwrap() {
            assert!(sentence["end"].as_u64().unwrap() <= body.chars().count() as u64);
        }
    }
    let several =
        [json!({ "id": 1, "text": text }), json!({ "id": "b", "html": html }), json!({ "jats": jats }), json!(text)];
    let answer = documents(&host, &several).await;
    for (index, document) in answer["documents"].as_array().unwrap().iter().enumerate() {
        assert!(document["spans"].as_array().unwrap().len() >= 4, "{index}: {document}");
    }
    assert_eq!(answer["documents"][0]["spans"], answer["documents"][3]["spans"]);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_document_is_read_to_its_end() {
    let host = host().await;
    let sentence = "FOXP3 was found in regulatory T cells of the spleen. ";
    let text = sentence.repeat(60);
    let answer = send(&host, "text/plain", "?labels=MARKER", text.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert!(answer["usage"]["windows"].as_u64().unwrap() > 2, "{}", answer["usage"]);
    let document = &answer["documents"][0];
    assert_eq!(document["sentences"].as_array().unwrap().len(), 60);
    let rows = marked(document, &text);
    assert_eq!(rows.len(), 60, "{rows:?}");
    assert!(rows.iter().all(|[text, label, slice]| text == "FOXP3" && label == "MARKER" && slice == "FOXP3"));
    let first = |span: &Value| (span["sentence"].as_u64().unwrap(), span["start"].as_u64().unwrap());
    for (index, span) in document["spans"].as_array().unwrap().iter().enumerate() {
        assert_eq!(first(span), (index as u64, (index * sentence.len()) as u64));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_and_spoils_nothing() {
    let host = host().await;
    let ten_thousand = json!({ "documents": vec!["a"; 10_000] }).to_string();
    let cases: [(&str, &str, Vec<u8>, u16, &str); 11] = [
        ("text/plain", "", Vec::new(), 422, "empty-text"),
        ("text/plain", "", b"a\xff".to_vec(), 400, "invalid-utf8"),
        ("text/html", "", b"<p></p>".to_vec(), 422, "empty-text"),
        ("application/pdf", "", b"%PDF".to_vec(), 415, "unsupported-media-type"),
        ("text/plain; charset=utf-16", "", b"a".to_vec(), 415, "unsupported-charset"),
        ("text/plain", "", vec![b'a'; (1 << 20) + 1], 413, "document-too-large"),
        ("application/json", "", ten_thousand.into_bytes(), 413, "too-many-documents"),
        ("application/json", "", b"{".to_vec(), 400, "invalid-json"),
        ("application/json", "", b"{\"documents\": 3}".to_vec(), 422, "invalid-documents"),
        ("text/plain", "?min_confidence=x", b"a".to_vec(), 422, "invalid-min-confidence"),
        ("text/plain", "?labels=GENE", b"a".to_vec(), 422, "invalid-labels"),
    ];
    for (content_type, query, body, status, code) in cases {
        send(&host, content_type, query, body).await.is_problem(status, code);
    }
    let mixed = ["", "\u{1}\u{2}\u{200b}", "Tregs\u{0}", "مرحبا CD4 漢字", "e\u{301}\u{301}"]
        .map(|text| json!({ "text": text }));
    let answer = documents(&host, &mixed).await;
    assert_eq!(answer["documents"][0]["error"]["pointer"], "/documents/0/text");
    assert!((1..5).all(|index| answer["documents"][index]["spans"].is_array()), "{answer}");
    for body in ["x".repeat(1 << 20), "\u{1}".repeat(1 << 20), "<p>".repeat(300_000) + "Tregs", "&amp;".repeat(20_000)]
    {
        let answer = send(&host, "text/html", "", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_came_before_is_remembered_and_so_are_its_texts() {
    let host = host().await;
    let (first, second) = (json!("Tregs in the spleen."), json!("Kupffer cells."));
    let body = json!({ "documents": [first] }).to_string();
    let fresh = send(&host, "application/json", "", body.clone()).await;
    let again = send(&host, "application/json", "", body).await;
    assert_eq!((fresh.header("x-tenon-cache"), again.header("x-tenon-cache")), ("miss", "hit"));
    assert_eq!(fresh.body, again.body);
    let both = send(&host, "application/json", "", json!({ "documents": [first, second] }).to_string()).await;
    assert_eq!(both.header("x-tenon-cache"), "partial");
    assert_eq!(both.json()["documents"][0], fresh.json()["documents"][0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_thousand_lines_of_many_scripts_are_those_of_python() {
    let Some(mut python) = programs::python("tokenizers", PACKAGE) else { return };
    let lines = made("tests/fixtures/tokens/lines.txt");
    python.arg(made("tests/fixtures/tokens/encode.py")).arg(made("models/minilm/1/tokenizer.json")).arg(&lines);
    let output = tokio::task::spawn_blocking(move || python.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let wanted: Vec<Vec<u32>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(wanted.len(), 1000);
    let host = TestHost::new().minilm().functions(&["embed"]).start().await;
    let text = std::fs::read_to_string(lines).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (lines, wanted) in lines.chunks(100).zip(wanted.chunks(100)) {
        let answer = host.call("embed", lines.join("\n") + "\n").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let found: Vec<Vec<u32>> = serde_json::from_value(answer.json()["ids"].clone()).unwrap();
        assert_eq!(found.len(), wanted.len());
        for ((line, found), wanted) in lines.iter().zip(&found).zip(wanted) {
            assert_eq!(found, wanted, "{line:?}");
        }
    }
}
