//! Tokenizers: loaded once per file, shared by all invocations. The only file beside `host_calls/text.rs` that knows the
//! `tokenizers` crate.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::SystemTime,
};

use tokenizers::{Encoding, PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy};

/// A `tokenizer.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{file}` cannot be read as a tokenizer: {reason}")]
pub struct TokenizerError {
    /// The file's name alone: callers may read this.
    file: String,
    reason: String,
}

/// Which file, and what it was: another one may lie there while the one before is still in use.
type Print = (PathBuf, Option<SystemTime>, u64);

/// Every tokenizer in use, by file.
#[derive(Default)]
pub struct Tokenizers(Mutex<HashMap<Print, Weak<Tokenizer>>>);

impl Tokenizers {
    /// The tokenizer of `path`, or none where there is no such file. Blocks for some 10 ms the first time.
    pub fn load(&self, path: &Path) -> Result<Option<Arc<Tokenizer>>, TokenizerError> {
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(file) = path.metadata() else { return Ok(None) };
        let print = (path.to_owned(), file.modified().ok(), file.len());
        if let Some(tokenizer) = loaded.get(&print).and_then(Weak::upgrade) {
            return Ok(Some(tokenizer));
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).display().to_string();
        let unreadable = |error: tokenizers::Error| TokenizerError { file: name.clone(), reason: error.to_string() };
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(unreadable)?;
        // Guests say what is truncated, and only the engine pads.
        inner.with_padding(None).with_truncation(None).map_err(unreadable)?;
        let tokenizer = Arc::new(Tokenizer(inner));
        loaded.retain(|_, tokenizer| tokenizer.strong_count() > 0);
        loaded.insert(print, Arc::downgrade(&tokenizer));
        Ok(Some(tokenizer))
    }
}

/// The tokenizer that belongs to a model.
pub struct Tokenizer(tokenizers::Tokenizer);

/// What happens to a row with too many tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Truncation {
    #[default]
    None,
    LongestFirst,
    OnlyFirst,
    OnlySecond,
}

/// Why a text was not encoded.
pub(super) enum EncodeError {
    /// So many tokens, and no leave to take any away.
    TooLong(usize),
    /// The truncation asked for cannot make this row short enough.
    CannotTruncate(String),
    /// The tokenizer itself failed.
    Failed(String),
}

/// One row of tokens.
pub(super) struct Tokens {
    pub(super) encoding: Encoding,
    pub(super) truncated: bool,
}

impl Tokenizer {
    /// Encodes one text or a pair, with special tokens, into at most `max` tokens.
    pub(super) fn encode(
        &self,
        first: &str,
        second: Option<&str>,
        max: usize,
        truncation: Truncation,
    ) -> Result<Tokens, EncodeError> {
        let failed = |error: tokenizers::Error| EncodeError::Failed(error.to_string());
        let mut first = self.0.encode(first, false).map_err(failed)?;
        let mut second = second.map(|second| self.0.encode(second, false)).transpose().map_err(failed)?;
        let special = self.0.get_post_processor().map_or(0, |added| added.added_tokens(second.is_some()));
        let wanted = first.len() + second.as_ref().map_or(0, Encoding::len) + special;
        let truncated = wanted > max;
        if truncated {
            let strategy = match truncation {
                Truncation::None => return Err(EncodeError::TooLong(wanted)),
                Truncation::LongestFirst => TruncationStrategy::LongestFirst,
                Truncation::OnlyFirst => TruncationStrategy::OnlyFirst,
                Truncation::OnlySecond => TruncationStrategy::OnlySecond,
            };
            let max_length = max.checked_sub(special).ok_or(EncodeError::TooLong(wanted))?;
            let parameters =
                TruncationParams { direction: TruncationDirection::Right, max_length, strategy, stride: 0 };
            (first, second) = tokenizers::utils::truncation::truncate_encodings(first, second, &parameters)
                .map_err(|error| EncodeError::CannotTruncate(error.to_string()))?;
            // What was cut off is kept beside what is left, and post-processing would combine every cut piece of one
            // text with every one of the other: gigabytes for a long pair.
            drop(first.take_overflowing());
            drop(second.as_mut().map(Encoding::take_overflowing));
        }
        let encoding = self.0.post_process(first, second, true).map_err(failed)?;
        Ok(Tokens { encoding, truncated })
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::{
        models::wordlevel::WordLevel, pre_tokenizers::whitespace::Whitespace, processors::bert::BertProcessing,
    };

    use super::*;

    fn tokenizer() -> Tokenizer {
        let words = [("[CLS]", 0), ("[SEP]", 1), ("a", 2)].map(|(word, id)| (word.to_owned(), id));
        let model = WordLevel::builder().vocab(words.into_iter().collect()).unk_token("a".into()).build().unwrap();
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(Whitespace {}));
        inner.with_post_processor(Some(BertProcessing::new(("[SEP]".into(), 1), ("[CLS]".into(), 0))));
        Tokenizer(inner)
    }

    #[test]
    fn what_is_cut_off_is_not_kept() {
        let text = "a ".repeat(2000);
        let tokens = tokenizer().encode(&text, Some(&text), 8, Truncation::LongestFirst).ok().unwrap();
        assert_eq!((tokens.encoding.len(), tokens.truncated), (8, true));
        // Kept, the pieces of one text times those of the other would be some 600,000 encodings.
        assert!(tokens.encoding.get_overflowing().is_empty());
    }

    #[test]
    fn rows_that_do_not_fit_are_cut_as_told_or_refused() {
        let encode = |max, how| tokenizer().encode("a a a a", Some("a a a"), max, how);
        let kept = |max, how| encode(max, how).ok().map(|tokens| tokens.encoding.get_type_ids().to_vec());
        assert!(matches!(encode(9, Truncation::None), Err(EncodeError::TooLong(10))));
        assert_eq!(kept(10, Truncation::None).unwrap().len(), 10);
        assert_eq!(kept(8, Truncation::OnlySecond).unwrap(), [0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(kept(8, Truncation::OnlyFirst).unwrap(), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert!(matches!(encode(2, Truncation::LongestFirst), Err(EncodeError::TooLong(10))));
        assert!(matches!(encode(5, Truncation::OnlySecond), Err(EncodeError::CannotTruncate(_))));
    }
}
