//! Text to token ids, cut to the model's length and never padded: padding is the batch's business.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tokenizers::{PostProcessorWrapper, PreTokenizerWrapper, Tokenizer, TruncationParams};

use crate::core::token_batch::TextTokens;
use crate::error::{BoxError, LoadError};

/// Bytes of a long text that are tried first, per token that is wanted.
const BYTES_PER_TOKEN: usize = 16;
/// Tokens of a pair: up to four special ones, and a few of each text.
pub(crate) const LEAST_OF_PAIRS: usize = 8;
/// How much more is taken where that was too little.
const GROWTH: usize = 4;

/// A model's tokenizer. Cloning shares it; all methods take `&self`, so that threads tokenise side by side.
#[derive(Clone)]
pub struct TextTokenizer {
    tokenizer: Arc<Tokenizer>,
    max_tokens: usize,
    is_cut_at_whitespace: bool,
    has_segments: bool,
    prompt: Arc<str>,
    /// The same without cutting, made for the first pair.
    whole: Arc<OnceLock<Tokenizer>>,
}

impl TextTokenizer {
    /// Reads `tokenizer.json`. The truncation and padding that the file asks for are replaced: `max_tokens` counts. Texts end with `end`, also where the file
    /// does not say so.
    pub fn from_file(path: &Path, max_tokens: usize, end: Option<&str>) -> Result<Self, LoadError> {
        let fail = |source| LoadError::Tokenizer {
            path: path.to_owned(),
            source,
        };
        let mut tokenizer = Tokenizer::from_file(path).map_err(fail)?;
        tokenizer.with_padding(None);
        if let Some(end) = end {
            end_texts_with(&mut tokenizer, end).map_err(|reason| LoadError::EndToken {
                path: path.to_owned(),
                reason,
            })?;
        }
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
            has_segments: true,
            prompt: "".into(),
            whole: Arc::default(),
        })
    }

    /// The same, with or without telling the texts of a pair apart.
    pub fn with_segments(self, has_segments: bool) -> Self {
        Self {
            has_segments,
            ..self
        }
    }

    /// The same with a text before each.
    pub fn with_prompt(self, prompt: Option<&str>) -> Self {
        Self {
            prompt: prompt.unwrap_or_default().into(),
            ..self
        }
    }

    /// Most tokens a text has.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The ids of a text, or of a pair of texts as the model reads them, special ones included. Of a pair that is too long the longer text is
    /// cut first.
    pub fn tokens(&self, first: &str, second: Option<&str>) -> Result<TextTokens, BoxError> {
        let prompted;
        let first = if self.prompt.is_empty() {
            first
        } else {
            prompted = format!("{}{first}", self.prompt);
            prompted.as_str()
        };
        let Some(second) = second else {
            return Ok(TextTokens::of_one(self.encode(first)?));
        };
        if self.max_tokens < LEAST_OF_PAIRS {
            return Err(format!(
                "a pair of texts needs max_tokens of at least {LEAST_OF_PAIRS}, not {}",
                self.max_tokens
            )
            .into());
        }
        // Which text is cut depends on how long both are, and a tokenizer that cuts stops reading before it knows.
        let whole = self.whole.get_or_init(|| {
            let mut whole = (*self.tokenizer).clone();
            whole
                .with_truncation(None)
                .expect("only what is cut to can be wrong");
            whole
        });
        let first = whole.encode_fast(first, false)?;
        let mut second = whole.encode_fast(second, false)?;
        second.set_type_ids(vec![1; second.get_ids().len()]);
        let encoding = self.tokenizer.post_process(first, Some(second), true)?;
        let ids = encoding.get_ids().to_vec();
        let segments = encoding.get_type_ids();
        let second_at = match self.has_segments {
            true => segments.iter().position(|&id| id == 1),
            false => None,
        };
        Ok(TextTokens {
            second_at: second_at.unwrap_or(ids.len()),
            ids,
        })
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

/// Puts `end` behind each text, unless the tokenizer does.
fn end_texts_with(tokenizer: &mut Tokenizer, end: &str) -> Result<(), String> {
    let id = tokenizer.token_to_id(end);
    let id = id.ok_or_else(|| format!("its vocabulary has no eos_token `{end}`"))?;
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let empty = tokenizer
        .encode_fast("", true)
        .map_err(|error| said(&error))?;
    if empty.get_ids().last() == Some(&id) {
        return Ok(());
    }
    let steps =
        serde_json::to_value(tokenizer.get_post_processor()).map_err(|error| said(&error))?;
    let steps: PostProcessorWrapper =
        serde_json::from_value(ended(steps, end, id)?).map_err(|error| said(&error))?;
    tokenizer.with_post_processor(Some(steps));
    Ok(())
}

/// What a tokenizer does behind its model, with `end` behind each text: in its template, or in one of its own where it has none. Templates cannot follow each
/// other: the second would take what the first has made for several texts.
fn ended(mut steps: Value, end: &str, id: u32) -> Result<Value, String> {
    let plain = || json!({"single": [sequence("A")], "pair": [sequence("A"), sequence("B")], "special_tokens": {}});
    match steps["type"].as_str() {
        None => Ok(ended_template(plain(), end, id)),
        Some("TemplateProcessing") => Ok(ended_template(steps, end, id)),
        Some("ByteLevel") => Ok(json!({
            "type": "Sequence",
            "processors": [steps, ended_template(plain(), end, id)],
        })),
        Some("Sequence") => {
            let processors = steps["processors"].as_array_mut().into_iter().flatten();
            let is_template = |step: &&mut Value| step["type"] == "TemplateProcessing";
            match processors.into_iter().find(is_template) {
                Some(template) => *template = ended_template(template.take(), end, id),
                None => steps["processors"]
                    .as_array_mut()
                    .ok_or("its post_processor has no processors")?
                    .push(ended_template(plain(), end, id)),
            }
            Ok(steps)
        }
        Some(other) => Err(format!(
            "nobody knows where in its post_processor `{other}` that goes"
        )),
    }
}

fn ended_template(mut template: Value, end: &str, id: u32) -> Value {
    template["type"] = json!("TemplateProcessing");
    template["special_tokens"][end] = json!({"id": end, "ids": [id], "tokens": [end]});
    for kind in ["single", "pair"] {
        let pieces = template[kind].as_array().into_iter().flatten();
        let pieces = pieces.flat_map(|piece| {
            let text = piece.get("Sequence");
            let end =
                text.map(|text| json!({"SpecialToken": {"id": end, "type_id": text["type_id"]}}));
            [Some(piece.clone()), end].into_iter().flatten()
        });
        template[kind] = pieces.collect();
    }
    template
}

fn sequence(name: &str) -> Value {
    json!({"Sequence": {"id": name, "type_id": u8::from(name == "B")}})
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
        TextTokenizer::from_file(&folder.path().join("tokenizer.json"), max_tokens, None).unwrap()
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
    fn end_token_goes_behind_each_text_whatever_else_the_tokenizer_does() {
        let end = |steps: Value| ended(steps, "</s>", 7);
        let single = |steps: &Value| -> Vec<String> {
            let name = |piece: &Value| {
                let piece = piece.as_object().and_then(|piece| piece.values().next());
                piece.map_or(String::new(), |piece| piece["id"].to_string())
            };
            steps["single"]
                .as_array()
                .into_iter()
                .flatten()
                .map(name)
                .collect()
        };
        let plain = end(Value::Null).unwrap();
        assert_eq!(single(&plain), ["\"A\"", "\"</s>\""]);
        assert_eq!(plain["pair"].as_array().unwrap().len(), 4);
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": true});
        assert_eq!(
            single(&end(bytes.clone()).unwrap()["processors"][1]),
            ["\"A\"", "\"</s>\""]
        );
        let start = json!({"type": "TemplateProcessing", "special_tokens": {}, "pair": [],
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, sequence("A")]});
        let expected = ["\"<s>\"", "\"A\"", "\"</s>\""];
        assert_eq!(single(&end(start.clone()).unwrap()), expected);
        let both = json!({"type": "Sequence", "processors": [bytes, start]});
        let made = end(both).unwrap();
        assert_eq!(single(&made["processors"][1]), expected);
        assert_eq!(made["processors"].as_array().unwrap().len(), 2);
        let error = end(json!({"type": "RobertaProcessing"})).unwrap_err();
        assert!(error.contains("`RobertaProcessing`"), "{error}");
    }

    #[test]
    fn of_a_pair_the_longer_text_is_cut_first() {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_model(folder.path()).unwrap();
        let pair = |max_tokens, first, second| {
            let tokenizer =
                TextTokenizer::from_file(&folder.path().join("tokenizer.json"), max_tokens, None)
                    .unwrap();
            tokenizer.tokens(first, Some(second)).unwrap()
        };
        let whole = pair(20, "a b", "c d e f g h");
        // [CLS] a b [SEP] and c d e f g h [SEP]
        assert_eq!((whole.ids.len(), whole.second_at), (11, 4));
        let cut = pair(8, "a b", "c d e f g h");
        assert_eq!((cut.ids.len(), cut.second_at), (8, 4));
        assert_eq!(cut.ids[..7], whole.ids[..7]);
        assert_eq!(cut.ids[7], whole.ids[10]);
        // Five tokens are of texts, and three of them of the longer one, however long both are.
        let both = pair(8, "a b c d e f g h i j k l", "c d e f g h c d e");
        assert_eq!((both.ids.len(), both.second_at), (8, 5));
        let both = pair(8, "c d e f g h c d e", "a b c d e f g h i j k l");
        assert_eq!((both.ids.len(), both.second_at), (8, 4));
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
        let error = TextTokenizer::from_file(&path, 8, None)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
    }
}
