# The packages need not be there where tests run.
# pyright: reportMissingImports=false
"""Makes the models of this folder, small ones with random weights, and what the reference libraries make of texts with them.

    pip install torch transformers sentence-transformers onnx onnxruntime onnxscript && python tests/python/data/text_models/make.py

``reference.json`` has, of each model, texts and the answers of ``transformers`` (the pipeline ``text-classification``) or of
``sentence_transformers.CrossEncoder``. The tests need none of these packages.
"""

import json
import pathlib
import string

import onnx
import sentence_transformers
import tokenizers
import torch
import transformers
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from sentence_transformers import models as st_models
from tokenizers import models, normalizers, pre_tokenizers, processors

HERE = pathlib.Path(__file__).parent
LETTERS = string.ascii_lowercase + string.digits
TEXTS = [
    "a ray of light",
    "",
    "sunshine on the water is a fine thing, 3 times a day",
    "tax",
    "quarterly financial report " * 12,
    "Über Ähnlichkeit!",
]
PAIRS = [
    ["what is light", "a ray of light"],
    ["what is light", ""],
    ["q" * 10, "long passage " * 30],
    ["a very long question " * 20, "short"],
    ["long question " * 20, "long passage " * 20],
    ["tax", "tax returns and invoices"],
]
#: Cut here, so that long texts are cut.
LONGEST = 40
#: And here where distances count.
LONG = 150


def word_pieces():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = (
        special + list(LETTERS) + [f"##{letter}" for letter in LETTERS] + ["the", "of", "##ing", "light", "tax"]
    )
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=LONGEST), len(vocabulary)


def byte_pairs(longest=LONGEST):
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *bytes_, "Ġt", "li", "ght"])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, [("Ġ", "t"), ("l", "i")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return transformers.RobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest), len(vocabulary)


def unigrams():
    """The tokenizer of an XLM-RoBERTa. It tells the texts of a pair apart, which the model is not to see."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = ["▁", *LETTERS, "▁of", "▁light", "tax", "ing"]
    vocabulary = [(token, 0.0) for token in special] + [(piece, -float(len(LETTERS) - len(piece))) for piece in pieces]
    tokenizer = transformers.XLMRobertaTokenizerFast(vocab=vocabulary, model_max_length=LONGEST)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer, len(vocabulary)


def mpnet_pieces():
    vocabulary = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>", *LETTERS, *[f"##{letter}" for letter in LETTERS], "light"]
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return transformers.MPNetTokenizerFast(tokenizer_object=tokenizer, model_max_length=LONG), len(vocabulary)


def sizes(vocab_size, positions, **settings):
    return {
        "vocab_size": vocab_size, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32,
        "max_position_embeddings": positions, "initializer_range": 0.5, **settings,
    }  # fmt: skip


def bert(kind=transformers.BertForSequenceClassification, **settings):
    tokenizer, vocab_size = word_pieces()
    config = transformers.BertConfig(**sizes(vocab_size, 64, **settings))
    return tokenizer, kind(config)


def roberta(**settings):
    tokenizer, vocab_size = byte_pairs()
    config = transformers.RobertaConfig(
        **sizes(vocab_size, 66, type_vocab_size=1, bos_token_id=0, pad_token_id=1, eos_token_id=2, **settings)
    )
    return tokenizer, transformers.RobertaForSequenceClassification(config)


def xlm_roberta(kind=transformers.XLMRobertaForSequenceClassification, **settings):
    tokenizer, vocab_size = unigrams()
    config = transformers.XLMRobertaConfig(
        **sizes(vocab_size, 66, type_vocab_size=2, bos_token_id=0, pad_token_id=1, eos_token_id=2, **settings)
    )
    return tokenizer, kind(config)


def mpnet(kind=transformers.MPNetForSequenceClassification, **settings):
    tokenizer, vocab_size = mpnet_pieces()
    config = transformers.MPNetConfig(**sizes(vocab_size, LONG + 2, **settings))
    made = kind(config)
    # The distances are to count.
    torch.nn.init.normal_(made.get_parameter(distances_of(kind)), std=2.0)
    return tokenizer, made


def modern_bert(kind=transformers.ModernBertForSequenceClassification, **settings):
    """Of two layers one looks at near tokens alone: at 4 on each side."""
    tokenizer, vocab_size = byte_pairs(LONG)
    config = transformers.ModernBertConfig(
        **sizes(vocab_size, 256, global_attn_every_n_layers=2, local_attention=8, pad_token_id=1, bos_token_id=0, eos_token_id=2,
        cls_token_id=0, sep_token_id=2, **settings),
    )  # fmt: skip
    return tokenizer, kind(config)


def distances_of(kind):
    prefix = "" if kind is transformers.MPNetModel else "mpnet."
    return f"{prefix}encoder.relative_attention_bias.weight"


class Graph(torch.nn.Module):
    """One output of a model, by its inputs in this order."""

    def __init__(self, model, names, output):
        super().__init__()
        self.model, self.names, self.output = model, names, output

    def forward(self, *values):
        return self.model(**dict(zip(self.names, values, strict=True)))[self.output]


def save(name, tokenizer, model, output="logits"):
    """The folder, and in it the graph beside the weights."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if model.config.model_type == "bert" else [])
    sample = tokenizer(["a", "b c d"], return_tensors="pt", padding=True)
    axes = {0: "batch", 1: "sequence"}
    free = {name: axes for name in names} | {output: {0: "batch"} if output == "logits" else axes}
    torch.onnx.export(
        Graph(model, names, output), tuple(sample[name] for name in names), folder / "model.onnx", input_names=names,
        output_names=[output], dynamic_axes=free, dynamo=False, opset_version=17,
    )  # fmt: skip
    for extra in folder.iterdir():
        if extra.is_file() and extra.name not in (
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.onnx",
            "model.safetensors",
        ):
            extra.unlink()
    return folder


def smaller(folder, int8=True):
    """The graph again in float16, its output as well, and with whole numbers of 8 bits for weights, as folders of others have them."""
    (folder / "onnx").mkdir(exist_ok=True)
    half = convert_float_to_float16(onnx.load(folder / "model.onnx"), keep_io_types=False)
    onnx.save(half, folder / "onnx" / "model_fp16.onnx")
    if int8:
        # Of 7 bits: processors without VNNI lose sums of products of 8.
        quantize_dynamic(
            folder / "model.onnx", folder / "onnx" / "model_int8.onnx", per_channel=True, reduce_range=True
        )


def labels(name, made):
    folder = save(name, *made)
    pipeline = transformers.pipeline("text-classification", model=str(folder), tokenizer=str(folder), truncation=True)
    return {"texts": TEXTS, "answers": [pipeline(text, top_k=None) for text in TEXTS]}


def scores(name, made):
    folder = save(name, *made)
    encoder = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    return {"pairs": PAIRS, "answers": [float(encoder.predict([pair])[0]) for pair in PAIRS]}


def vectors(name, tokenizer, model, texts=TEXTS):
    """Of a sentence embedder that pools by the first token, and of others made of the same weights."""
    folder = save(name, tokenizer, model, output="last_hidden_state")
    transformer = st_models.Transformer(str(folder))
    width = model.config.hidden_size

    def encoded(mode, prompt="", dimensions=None):
        pooling = st_models.Pooling(width, pooling_mode=mode)
        encoder = sentence_transformers.SentenceTransformer(
            modules=[transformer, pooling], device="cpu", truncate_dim=dimensions
        )
        return [encoder.encode(text, prompt=prompt, normalize_embeddings=True).tolist() for text in texts]

    (folder / "1_Pooling").mkdir(exist_ok=True)
    st_models.Pooling(width, pooling_mode="cls").save(str(folder / "1_Pooling"))
    return {
        "texts": texts,
        "cls": encoded("cls"),
        "mean": encoded("mean"),
        "last": encoded("lasttoken"),
        "prompt": encoded("cls", prompt="query: "),
        "dimensions": encoded("cls", dimensions=6),
    }


def main():
    torch.manual_seed(7)
    moods = {0: "sad", 1: "glad", 2: "neither"}
    several = {"num_labels": 2, "problem_type": "multi_label_classification"}
    reference = {
        "made_with": {module.__name__: module.__version__ for module in (torch, transformers, sentence_transformers)},
        "bert_moods": labels("bert_moods", bert(id2label=moods, label2id={name: i for i, name in moods.items()})),
        "roberta_topics": labels("roberta_topics", roberta(**several)),
        "bert_sentences": vectors("bert_sentences", *bert(kind=transformers.BertModel)),
        "bert_reranker": scores("bert_reranker", bert(num_labels=1)),
        "roberta_reranker": scores("roberta_reranker", roberta(num_labels=1)),
        "xlm_roberta_sentences": vectors(
            "xlm_roberta_sentences",
            *xlm_roberta(kind=transformers.XLMRobertaModel),
            texts=[*TEXTS, "a <pad> of light"],
        ),
        "xlm_roberta_reranker": scores("xlm_roberta_reranker", xlm_roberta(num_labels=1)),
        "mpnet_sentences": vectors(
            "mpnet_sentences",
            *mpnet(kind=transformers.MPNetModel),
            texts=[*TEXTS, "a <pad> of light", "quarterly financial report " * 20],
        ),
        "mpnet_topics": labels("mpnet_topics", mpnet(**several)),
        "modern_bert_sentences": vectors(
            "modern_bert_sentences",
            *modern_bert(kind=transformers.ModernBertModel),
            texts=[*TEXTS, "quarterly financial report " * 20],
        ),
        "modern_bert_topics": labels("modern_bert_topics", modern_bert(**several, classifier_pooling="mean")),
        "modern_bert_reranker": scores("modern_bert_reranker", modern_bert(num_labels=1)),
    }
    smaller(HERE / "bert_sentences")
    smaller(HERE / "roberta_reranker", int8=False)
    (HERE / "reference.json").write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
