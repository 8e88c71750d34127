//! Fifty sentences through tokenizer, queue, model and contract, against what an independent implementation says: ids
//! and vectors of `tests/fixtures/minilm`.

use futures_util::future::join_all;

use crate::support::{Answer, TestHost, made};

const WIDTH: usize = 384;
const TOLERANCE: f32 = 1e-5;

struct Reference {
    sentences: Vec<String>,
    ids: Vec<Vec<i64>>,
    vectors: Vec<Vec<f32>>,
}

impl Reference {
    fn read() -> Self {
        let folder = made("tests/fixtures/minilm");
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let ids = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            serde_json::from_value(line["ids"].clone()).unwrap()
        };
        let bytes = std::fs::read(folder.join("reference.f32")).unwrap();
        let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        let vectors: Vec<_> = numbers.chunks_exact(WIDTH).map(<[f32]>::to_vec).collect();
        let sentences: Vec<_> = text("sentences.txt").lines().map(str::to_owned).collect();
        let ids: Vec<_> = text("tokens.jsonl").lines().map(ids).collect();
        assert_eq!((sentences.len(), ids.len(), vectors.len()), (50, 50, 50));
        Self { sentences, ids, vectors }
    }

    /// Compares the answer for the sentences from `first` on; gives the largest difference.
    fn agrees(&self, answer: &Answer, first: usize) -> f32 {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        let ids: Vec<Vec<i64>> = serde_json::from_value(answer["ids"].clone()).unwrap();
        let vectors: Vec<Vec<f32>> = serde_json::from_value(answer["vectors"].clone()).unwrap();
        assert!(!ids.is_empty() && ids.len() == vectors.len());
        let mut worst = 0_f32;
        for (index, (ids, vector)) in ids.iter().zip(&vectors).enumerate() {
            let sentence = first + index;
            assert_eq!(*ids, self.ids[sentence], "ids of {:?}", self.sentences[sentence]);
            assert_eq!(vector.len(), WIDTH);
            let differences = vector.iter().zip(&self.vectors[sentence]).map(|(one, other)| (one - other).abs());
            worst = differences.fold(worst, f32::max);
        }
        assert!(worst <= TOLERANCE, "vectors differ by {worst}");
        worst
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_vectors_are_the_references() {
    let reference = Reference::read();
    let host = TestHost::new().minilm().functions(&["embed"]).start().await;
    // All in one request, then one sentence a request and all at once: rows of one caller, rows of many.
    reference.agrees(&host.call("embed", reference.sentences.join("\n")).await, 0);
    let calls = reference.sentences.iter().map(|sentence| host.call("embed", sentence.clone()));
    for (sentence, answer) in join_all(calls).await.iter().enumerate() {
        reference.agrees(answer, sentence);
    }
    assert!(host.batches_over("minilm", 1) > 0.0, "no batch was shared");
    host.all_back_to_zero().await;
}
