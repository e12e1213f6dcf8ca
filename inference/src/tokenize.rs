//! Text to token ids, cut to the model's length and never padded: padding is the batch's business.

use std::path::Path;
use std::sync::Arc;

use tokenizers::{PreTokenizerWrapper, Tokenizer, TruncationParams};

use crate::error::{BoxError, LoadError};

/// Bytes of a long text that are tried first, per token that is wanted.
const BYTES_PER_TOKEN: usize = 16;
/// How much more is taken where that was too little.
const GROWTH: usize = 4;

/// A model's tokenizer. Cloning shares it; all methods take `&self`, so that threads tokenise side by side.
#[derive(Clone)]
pub struct TextTokenizer {
    tokenizer: Arc<Tokenizer>,
    max_tokens: usize,
    is_cut_at_whitespace: bool,
}

impl TextTokenizer {
    /// Reads `tokenizer.json`. The truncation and padding that the file asks for are replaced: `max_tokens` counts.
    pub fn from_file(path: &Path, max_tokens: usize) -> Result<Self, LoadError> {
        let fail = |source| LoadError::Tokenizer {
            path: path.to_owned(),
            source,
        };
        let mut tokenizer = Tokenizer::from_file(path).map_err(fail)?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams {
            max_length: max_tokens,
            ..TruncationParams::default()
        };
        tokenizer.with_truncation(Some(truncation)).map_err(fail)?;
        let is_cut_at_whitespace = matches!(
            tokenizer.get_pre_tokenizer(),
            Some(PreTokenizerWrapper::BertPreTokenizer(_))
        );
        Ok(Self {
            tokenizer: Arc::new(tokenizer),
            max_tokens,
            is_cut_at_whitespace,
        })
    }

    /// Most tokens a text has.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The ids of `text`, special tokens included.
    ///
    /// A BERT tokenizer splits at whitespace first, so the first tokens of a text depend on its first words alone. A
    /// long text is therefore read only as far as it has tokens that count, which bounds the cost of a text of any size.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, BoxError> {
        if self.is_cut_at_whitespace {
            let mut limit = self.max_tokens * BYTES_PER_TOKEN;
            while let Some(prefix) = prefix_of_whole_words(text, limit) {
                let ids = self.encode_whole(prefix)?;
                if ids.len() >= self.max_tokens {
                    return Ok(ids);
                }
                limit *= GROWTH;
            }
        }
        self.encode_whole(text)
    }

    fn encode_whole(&self, text: &str) -> Result<Vec<u32>, BoxError> {
        Ok(self.tokenizer.encode_fast(text, true)?.get_ids().to_vec())
    }
}

/// The text up to the first blank at or after `limit` bytes; `None` where that is the whole text.
fn prefix_of_whole_words(text: &str, limit: usize) -> Option<&str> {
    let rest = text.as_bytes().get(limit..)?;
    let blank = rest.iter().position(u8::is_ascii_whitespace)?;
    // An ASCII byte is never inside a character, so this is a character boundary.
    Some(&text[..limit + blank])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::write_tiny_model;

    fn tokenizer(max_tokens: usize) -> TextTokenizer {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_model(folder.path()).unwrap();
        TextTokenizer::from_file(&folder.path().join("tokenizer.json"), max_tokens).unwrap()
    }

    #[test]
    fn text_is_wrapped_in_special_tokens_and_cut() {
        let tokenizer = tokenizer(4);
        let ids = tokenizer.encode("a b c d e f").unwrap();
        assert_eq!(ids.len(), 4);
        assert_eq!(ids[..3], tokenizer.encode("a b").unwrap()[..3]);
        assert_eq!(ids[3], *tokenizer.encode("").unwrap().last().unwrap());
    }

    #[test]
    fn long_text_reads_as_if_it_had_been_read_whole() {
        let tokenizer = tokenizer(16);
        let text = "ab c  dé\nx ".repeat(500);
        assert_eq!(
            tokenizer.encode(&text).unwrap(),
            tokenizer.encode_whole(&text).unwrap()
        );
        let blanks = format!("{}{}", " ".repeat(5000), text);
        assert_eq!(
            tokenizer.encode(&blanks).unwrap(),
            tokenizer.encode_whole(&blanks).unwrap()
        );
        let word = "a".repeat(5000);
        assert_eq!(
            tokenizer.encode(&word).unwrap(),
            tokenizer.encode_whole(&word).unwrap()
        );
    }

    #[test]
    fn prefix_ends_before_a_blank() {
        assert_eq!(prefix_of_whole_words("one two three", 4), Some("one two"));
        assert_eq!(prefix_of_whole_words("one two", 4), None);
        assert_eq!(prefix_of_whole_words("é é", 1), Some("é"));
    }

    #[test]
    fn file_that_is_no_tokenizer_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "{}").unwrap();
        let error = TextTokenizer::from_file(&path, 8)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
    }
}
