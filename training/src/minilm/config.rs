//! Which `config.json` the encoder accepts. Why so strict: a weight file of another architecture can have tensors of
//! fitting names and shapes, and the answers would then be wrong in silence.

use anyhow::ensure;
use serde::Deserialize;

/// The part of `config.json` that decides what is computed; other keys concern training or other libraries.
#[derive(Deserialize)]
pub(crate) struct Config {
    architectures: Vec<String>,
    model_type: String,
    hidden_act: String,
    position_embedding_type: String,
    pub(super) hidden_size: i64,
    pub(super) intermediate_size: i64,
    pub(super) num_attention_heads: i64,
    pub(super) num_hidden_layers: i64,
    pub(super) max_position_embeddings: i64,
    pub(super) type_vocab_size: i64,
    pub(crate) vocab_size: i64,
    pub(super) layer_norm_eps: f64,
}

impl Config {
    /// Reads and checks `config.json`; the error names the key that differs.
    pub(crate) fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let config: Self = serde_json::from_slice(text)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let words = [
            ("model_type", self.model_type.as_str(), "bert"),
            ("hidden_act", self.hidden_act.as_str(), "gelu"),
            ("position_embedding_type", self.position_embedding_type.as_str(), "absolute"),
        ];
        for (key, actual, expected) in words {
            ensure!(actual == expected, "{key} is {actual:?}, expected {expected:?}");
        }
        ensure!(
            self.architectures == ["BertModel"],
            "architectures is {:?}, expected [\"BertModel\"]",
            self.architectures
        );
        // What model.toml promises: these are its shapes, its ranges and its maximum.
        let numbers = [
            ("hidden_size", self.hidden_size, 384),
            ("intermediate_size", self.intermediate_size, 1536),
            ("num_attention_heads", self.num_attention_heads, 12),
            ("num_hidden_layers", self.num_hidden_layers, 6),
            ("max_position_embeddings", self.max_position_embeddings, 512),
            ("type_vocab_size", self.type_vocab_size, 2),
            ("vocab_size", self.vocab_size, 30522),
        ];
        for (key, actual, expected) in numbers {
            ensure!(actual == expected, "{key} is {actual}, expected {expected}");
        }
        ensure!(
            self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1e-3,
            "layer_norm_eps is {}, expected a small positive number",
            self.layer_norm_eps
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu",
        "position_embedding_type": "absolute", "hidden_size": 384, "intermediate_size": 1536,
        "num_attention_heads": 12, "num_hidden_layers": 6, "max_position_embeddings": 512, "type_vocab_size": 2,
        "vocab_size": 30522, "layer_norm_eps": 1e-12, "use_cache": true}"#;

    #[test]
    fn the_published_architecture_is_accepted() {
        assert!(Config::parse(GOOD.as_bytes()).is_ok());
    }

    #[test]
    fn another_architecture_is_refused_by_the_key_that_differs() {
        for (from, to, named) in [
            ("\"gelu\"", "\"relu\"", "hidden_act"),
            ("BertModel", "RobertaModel", "architectures"),
            ("\"num_hidden_layers\": 6", "\"num_hidden_layers\": 12", "num_hidden_layers"),
            ("\"vocab_size\": 30522", "\"vocab_size\": 50265", "vocab_size"),
            ("1e-12", "0.5", "layer_norm_eps"),
            ("\"hidden_size\": 384, ", "", "hidden_size"),
        ] {
            let Err(error) = Config::parse(GOOD.replacen(from, to, 1).as_bytes()) else { panic!("{to} was accepted") };
            assert!(format!("{error:#}").contains(named), "{error:#}");
        }
    }
}
