//! The reranker in a whole host, as clients of Text Embeddings Inference, Cohere, Jina and vLLM ask it: by the curl lines
//! that they have, at the paths that they know. Scores and tokens against an independent implementation's.

use std::fs;

use serde_json::{Value, json};

use crate::{
    programs,
    routes::routed,
    support::{Served, TestHost, made, rewrite},
};

/// What the old lines say: only the address is another.
const ADDRESS: &str = "http://127.0.0.1:3000";

/// Against vectors that PyTorch computed; scores are FP32.
const TOLERANCE: f64 = 1e-5;

/// Routes as docs/reranker.md shows them.
fn routes() -> Value {
    json!([
        { "path": "/rerank", "function": "demo/reranker", "methods": ["POST"], "errors": "tei" },
        { "path": "/v1/rerank", "function": "demo/reranker", "methods": ["POST"], "errors": "jina" },
        { "path": "/v2/rerank", "function": "demo/reranker", "methods": ["POST"], "errors": "cohere" },
        { "path": "/cohere/v1/rerank", "function": "demo/reranker", "errors": "cohere" },
        { "path": "/jina/v1/rerank", "function": "demo/reranker", "errors": "jina" },
    ])
}

async fn host() -> Served {
    routed(TestHost::new().demo(), routes()).start().await
}

/// The same with what is remembered of rows, and time for machines that have other things to do.
async fn remembering() -> Served {
    let test = TestHost::new().minilm();
    test.place("demo", "reranker", &made("functions/demo/reranker"));
    let manifest = test.folder().join("functions/demo/reranker/function.toml");
    rewrite(&manifest, &[("timeout_ms = 30000", "timeout_ms = 120000")]);
    routed(test, routes()).start().await
}

/// What an independent implementation says of some sentences.
pub struct Reference {
    pub sentences: Vec<String>,
    pub ids: Vec<Vec<i64>>,
    pub vectors: Vec<Vec<f32>>,
}

impl Reference {
    pub fn read() -> Self {
        const DIMENSIONS: usize = 384;
        let file = |name: &str| made("tests/fixtures/minilm").join(name);
        let sentences = fs::read_to_string(file("sentences.txt")).unwrap();
        let tokens = fs::read_to_string(file("tokens.jsonl")).unwrap();
        let of_line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
        };
        let floats = fs::read(file("reference.f32")).unwrap();
        let floats: Vec<f32> = floats.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
        Self {
            sentences: sentences.lines().map(str::to_owned).collect(),
            ids: tokens.lines().map(of_line).collect(),
            vectors: floats.chunks(DIMENSIONS).map(<[f32]>::to_vec).collect(),
        }
    }

    fn cosine(&self, left: usize, right: usize) -> f64 {
        // They have length one.
        self.vectors[left].iter().zip(&self.vectors[right]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    pub fn tokens(&self, sentences: impl IntoIterator<Item = usize>) -> usize {
        sentences.into_iter().map(|index| self.ids[index].len()).sum()
    }
}

/// Runs a line of a shell, as somebody has it, against this host.
async fn line(host: &Served, line: &str) -> Option<Value> {
    programs::program("curl", "curl")?;
    assert!(line.contains(ADDRESS));
    let asked = line.replace(ADDRESS, &host.base);
    let said = move || std::process::Command::new("sh").args(["-c", &asked]).output();
    let said = tokio::task::spawn_blocking(said).await.unwrap().unwrap();
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    Some(serde_json::from_str(&text).unwrap_or_else(|_| panic!("{line}: {text}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_lines_work_unchanged() {
    let host = host().await;
    let tei = r#"curl -s http://127.0.0.1:3000/rerank -X POST -H 'Content-Type: application/json' \
        -d '{"query":"When does the last boat go?", "texts": ["The library opens at nine.", "The final ferry leaves at ten."], "raw_scores": false, "return_text": true}'"#;
    let Some(ranks) = line(&host, tei).await else { return };
    assert_eq!((&ranks[0]["index"], &ranks[0]["text"]), (&json!(1), &json!("The final ferry leaves at ten.")));
    assert!(ranks[0]["score"].as_f64().unwrap() > ranks[1]["score"].as_f64().unwrap(), "{ranks}");

    let cohere = r#"curl -s --request POST --url http://127.0.0.1:3000/v2/rerank --header 'accept: application/json' \
        --header 'content-type: application/json' --header "Authorization: bearer $CO_API_KEY" \
        --data '{"model": "rerank-v3.5", "query": "When does the last boat go?", "top_n": 1, "documents": ["The library opens at nine.", "The final ferry leaves at ten.", "Boats are painted in spring."]}'"#;
    let answer = line(&host, cohere).await.unwrap();
    assert_eq!((answer["results"].as_array().unwrap().len(), &answer["results"][0]["index"]), (1, &json!(1)));
    assert_eq!(answer["meta"]["api_version"]["version"], "2");
    assert!(answer["id"].is_string() && answer["results"][0]["relevance_score"].is_f64(), "{answer}");

    let jina = r#"curl -s http://127.0.0.1:3000/v1/rerank -H "Content-Type: application/json" -H "Authorization: Bearer jina_abc" -d @- <<EOFEOF
  {
    "model": "jina-reranker-v2-base-multilingual",
    "query": "Organic skincare products for sensitive skin",
    "top_n": 2,
    "documents": [{"text": "Neue Make-up-Trends setzen auf kräftige Farben"}, {"text": "Organic skincare for sensitive skin with aloe vera"}, "Las nuevas tendencias de maquillaje"],
    "return_documents": true
  }
EOFEOF"#;
    let answer = line(&host, jina).await.unwrap();
    assert_eq!(answer["results"][0]["document"]["text"], "Organic skincare for sensitive skin with aloe vera");
    assert_eq!(answer["results"].as_array().unwrap().len(), 2);
    assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 20, "{answer}");

    let vllm = r#"curl -s -X POST 'http://127.0.0.1:3000/rerank' -H 'accept: application/json' -H 'Content-Type: application/json' \
        -d '{"model": "BAAI/bge-reranker-base", "query": "When does the last boat go?", "documents": ["The library opens at nine.", "The final ferry leaves at ten."]}'"#;
    let answer = line(&host, vllm).await.unwrap();
    assert_eq!(answer["results"][0]["document"]["text"], "The final ferry leaves at ten.");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_order_and_tokens_are_those_of_an_independent_implementation() {
    let host = remembering().await;
    let reference = Reference::read();
    let all: Vec<usize> = (0..reference.sentences.len()).collect();
    for query in [1, 4, 5, 20, 33, 49] {
        let documents: Vec<&String> = reference.sentences.iter().collect();
        let question = json!({ "query": reference.sentences[query], "documents": documents });
        let own = host.post("/v1/functions/demo/reranker", question.to_string()).await.json();
        let tokens = reference.tokens(all.iter().copied().chain([query]));
        assert_eq!(own["usage"]["tokens"], tokens);
        let cohere = host.post("/v2/rerank", question.to_string()).await.json();
        let jina = host.post("/jina/v1/rerank", question.to_string()).await.json();
        assert_eq!(
            (&cohere["meta"]["tokens"]["input_tokens"], &jina["usage"]["total_tokens"]),
            (&json!(tokens), &json!(tokens))
        );
        let texts = json!({ "query": reference.sentences[query], "texts": documents, "raw_scores": true });
        let tei = host.post("/rerank", texts.to_string()).await;
        assert_eq!((tei.status, tei.header("x-compute-tokens")), (200, &*tokens.to_string()), "{}", tei.text());
        let raw = |cosine: f64| cosine;
        let normalized = |cosine: f64| f64::midpoint(1.0, cosine);
        for (results, score, made) in [
            (&own["results"], "relevance_score", raw as fn(f64) -> f64),
            (&tei.json(), "score", raw),
            (&cohere["results"], "relevance_score", normalized),
            (&jina["results"], "relevance_score", normalized),
        ] {
            let results = results.as_array().unwrap();
            assert_eq!(results.len(), all.len());
            let mut last = f64::INFINITY;
            for result in results {
                let expected = made(reference.cosine(query, result["index"].as_u64().unwrap() as usize));
                let found = result[score].as_f64().unwrap();
                assert!((found - expected).abs() < TOLERANCE, "{found} for {expected}");
                // The reference's own order, but for scores that are the same to it.
                assert!(expected <= last + TOLERANCE, "{expected} after {last}");
                last = expected;
            }
            assert_eq!(results[0]["index"], query, "a sentence is most like itself");
        }
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn known_rows_change_nothing_but_the_time() {
    let host = remembering().await;
    let ask = async |query: &str| {
        let question = json!({ "query": query, "documents": ["Honey is made by bees.", "Bridges are made of steel."] });
        host.post("/v1/rerank", question.to_string()).await
    };
    let (first, second) = (ask("Who makes honey?").await, ask("What are bridges made of?").await);
    assert_eq!((first.header("x-tenon-cache"), second.header("x-tenon-cache")), ("miss", "partial"));
    assert!(second.header("server-timing").contains("2 of 3 known"), "{}", second.header("server-timing"));
    let again = ask("Who makes honey?").await;
    assert_eq!((again.header("x-tenon-cache"), &again.body), ("hit", &first.body));
    // A row that is known is one that was asked for, and counts.
    let tokens = |answer: &Value| answer["usage"]["total_tokens"].as_u64().unwrap();
    let (first, second) = (first.json(), second.json());
    assert_eq!((tokens(&first), tokens(&second)), (6 + 8 + 8, 8 + 8 + 8), "with both ends of each text");
    assert_ne!(first["id"], second["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_questions_in_each_services_words() {
    let host = host().await;
    let many = |member: &str| json!({ "query": "q", member: vec!["a"; 10_000] });
    let endless = |member: &str| json!({ "query": "q", member: ["x".repeat(1 << 20)] });
    for (path, body, status, member, said) in [
        ("/rerank", json!({ "query": "q", "texts": [] }), 400, "/error", "there are no texts to rank (at /texts)"),
        ("/rerank", many("texts"), 413, "/error", "10000 texts, 1000 at most (at /texts)"),
        ("/rerank", endless("texts"), 413, "/error", "1048576 bytes of text, 32768 at most (at /texts/0)"),
        ("/rerank", json!({ "texts": ["a"] }), 422, "/error", "`query` is missing (at /query)"),
        (
            "/rerank",
            json!({ "query": "q", "texts": ["word ".repeat(300)], "truncate": false }),
            413,
            "/error",
            "the text has more than 256 tokens, and `truncate` is false (at /texts/0)",
        ),
        (
            "/v2/rerank",
            json!({ "query": "q", "documents": [] }),
            400,
            "/message",
            "there are no documents to rank (at /documents)",
        ),
        ("/v2/rerank", many("documents"), 400, "/message", "10000 documents, 1000 at most (at /documents)"),
        (
            "/v2/rerank",
            json!({ "query": "q", "documents": ["a"], "top_n": 0 }),
            400,
            "/message",
            "expected a whole number from 1 on, found 0 (at /top_n)",
        ),
        (
            "/cohere/v1/rerank",
            json!({ "query": 5, "documents": ["a"] }),
            400,
            "/message",
            "expected a string, found a number (at /query)",
        ),
        (
            "/jina/v1/rerank",
            json!({ "query": " ", "documents": ["a"] }),
            422,
            "/detail",
            "the query has no text (at /query)",
        ),
        (
            "/jina/v1/rerank",
            json!({ "query": "q", "documents": ["a", 7] }),
            422,
            "/detail",
            "expected a string or an object with a string `text`, found a number (at /documents/1)",
        ),
        ("/v1/functions/demo/reranker", many("documents"), 422, "/detail", "10000 documents, 1000 at most"),
        (
            "/v1/functions/demo/reranker/nowhere",
            json!({}),
            404,
            "/detail",
            "nothing is ranked there; try /rerank, /v1/rerank, /v2/rerank, /cohere/v1/rerank, /jina/v1/rerank",
        ),
    ] {
        let answer = host.post(path, body.to_string()).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.json().pointer(member), Some(&json!(said)), "{path}");
    }
    let empty = host.post("/rerank", r#"{"query": "q", "texts": []}"#).await.json();
    assert_eq!(empty["error_type"], "empty");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_refused() {
    let host = host().await;
    for broken in ["", "{", "{\"query\": NaN}", "\u{0}"] {
        assert_eq!(host.post("/v2/rerank", broken).await.status, 400, "{broken:?}");
    }
    assert_eq!(host.get("/cohere/v1/rerank").await.status, 405);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_texts_are_ranked_like_others() {
    let host = host().await;
    let odd = [
        "",
        " \t\r\n",
        "\u{0}\u{1}\u{7f}\u{85}\u{200b}\u{feff}\u{fffd}",
        "Медове 蜂蜜 عسل शहद honey 🍯🐝 mỹ",
        "e\u{301}e\u{301}\u{202e}reversed\u{202c}",
        &"x".repeat(30_000),
        &"🐝".repeat(8_000),
        "The bees make honey.",
    ];
    let question =
        json!({ "query": "Who makes honey?\u{0}", "documents": odd, "top_n": 18_446_744_073_709_551_615_u64 });
    for path in ["/v1/rerank", "/v2/rerank", "/v1/functions/demo/reranker"] {
        let answer = host.post(path, question.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let results = answer.json()["results"].clone();
        assert_eq!((results.as_array().unwrap().len(), &results[0]["index"]), (odd.len(), &json!(7)), "{results}");
        assert!(results.as_array().unwrap().iter().all(|result| result["relevance_score"].is_f64()), "{results}");
    }
    host.all_back_to_zero().await;
}
