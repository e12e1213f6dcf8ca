# The packages need not be there where tests run.
# pyright: reportMissingImports=false
"""Makes the models of this folder, decoders that are used as embedders, small ones with random weights, and what the reference libraries make of texts.

    pip install torch transformers sentence-transformers && python tests/python/data/decoder_models/make.py

The folders of embedders are as ``SentenceTransformer.save`` writes them, but for what is not read. ``reference.json`` has, of each model, texts and the answers of
``sentence_transformers.SentenceTransformer``, of ``CrossEncoder`` or of the pipeline ``text-classification`` of ``transformers``. The tests need none of these packages.
"""

import json
import pathlib
import shutil

import sentence_transformers
import tokenizers
import torch
import transformers
from sentence_transformers import models as st_models
from tokenizers import models, pre_tokenizers, processors

HERE = pathlib.Path(__file__).parent
TEXTS = [
    "a ray of light",
    "",
    "sunshine on the water is a fine thing, 3 times a day",
    "tax",
    "quarterly financial report " * 4,
    "Über Ähnlichkeit!",
]
PAIRS = [
    ["what is light", "a ray of light"],
    ["q" * 10, "long passage " * 8],
    ["a very long question " * 5, "short"],
    ["tax", "tax returns and invoices"],
]
END, START = "<|endoftext|>", "<s>"
QUERY = "Instruct: find passages\nQuery: "
KEPT = {
    "config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "config_sentence_transformers.json",
    "sentence_bert_config.json", "model.safetensors.index.json",
}  # fmt: skip


def tokenizer(start=False, end=True):
    """Texts end with a token that is also that of padding, which is on the left."""
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([END, START, *bytes_, "Ġt", "li", "ght"])}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, [("Ġ", "t"), ("l", "i")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.TemplateProcessing(
        single=[*([START] if start else []), "$A", *([END] if end else [])],
        pair=[*([START] if start else []), "$A", "$B:1", *([f"{END}:1"] if end else [])],
        special_tokens=[(END, 0), (START, 1)],
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, pad_token=END, bos_token=START, padding_side="left", model_max_length=200,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    return fast, len(vocabulary)


def sizes(vocab_size, **settings):
    return {
        "vocab_size": vocab_size, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24,
        "max_position_embeddings": 256, "initializer_range": 0.4, "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 1, **settings,
    }  # fmt: skip


def noisy(model):
    """Norms that do something, and a token at the end that is something, though it is that of padding, too."""
    with torch.no_grad():
        model.get_input_embeddings().weight[0] = torch.randn(model.config.hidden_size)
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def made(kind, config, **settings):
    _, vocab_size = tokenizer()
    return noisy(kind(config(**sizes(vocab_size, **settings))))


def clean(folder):
    for extra in folder.rglob("*"):
        if extra.is_file() and extra.name not in KEPT and extra.suffix != ".safetensors":
            extra.unlink()
    for extra in [*folder.iterdir()]:
        if extra.is_dir() and not any(extra.iterdir()):
            extra.rmdir()


def save(name, model, tokenizer, **options):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    plain = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [loaded(text).input_ids for text in TEXTS] == [plain.encode(text).ids for text in TEXTS]
    return folder


def vectors(name, model, pooling, prompts=None, default=None, behind=(), start=False, texts=TEXTS, **options):
    width = model.config.hidden_size
    folder = save(name, model, tokenizer(start)[0], **options)
    transformer = st_models.Transformer(str(folder))
    modules = [transformer, st_models.Pooling(width, pooling_mode=pooling), *behind, st_models.Normalize()]
    encoder = sentence_transformers.SentenceTransformer(
        modules=modules, device="cpu", prompts=prompts, default_prompt_name=default
    )
    # The weights are as they were, in as many files.
    weights = {path.name: path.read_bytes() for path in folder.glob("model*.safetensors*")}
    encoder.save(str(folder))
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    for file, data in weights.items():
        (folder / file).write_bytes(data)
    clean(folder)
    encoder = sentence_transformers.SentenceTransformer(str(folder), device="cpu")

    def encoded(**how):
        alone = numpy_of([encoder.encode(text, **how) for text in texts])
        together = torch.tensor(encoder.encode(texts, **how))
        assert (alone - together).abs().max() < 1e-5, "whatever padding there is"
        return alone.tolist()

    answers = {"texts": texts, "vectors": encoded(), "dimensions": encoded(truncate_dim=6)}
    # What is cut is scaled again.
    answers["dimensions"] = torch.nn.functional.normalize(torch.tensor(answers["dimensions"])).tolist()
    if prompts:
        answers["prompts"] = {name: encoded(prompt_name=name) for name in prompts}
        answers["no prompt"] = encoded(prompt="")
    return answers


def numpy_of(vectors):
    return torch.stack([torch.tensor(vector) for vector in vectors])


def main():
    torch.manual_seed(13)
    t = transformers
    dense = [
        st_models.Dense(16, 24, bias=False, activation_function=torch.nn.Identity()),
        st_models.Dense(24, 12, bias=True, activation_function=torch.nn.Tanh()),
    ]
    reference = {
        "made_with": {module.__name__: module.__version__ for module in (torch, transformers, sentence_transformers)},
        # In several files, with heads that are not parts of the hidden size.
        "qwen3": vectors(
            "qwen3", made(t.Qwen3Model, t.Qwen3Config, head_dim=8, rope_parameters={"rope_theta": 1e6, "rope_type": "default"}),
            "lasttoken", prompts={"query": QUERY, "document": ""}, max_shard_size="20KB",
        ),
        # One layer of three sees near tokens alone.
        "qwen2": vectors(
            "qwen2", made(t.Qwen2Model, t.Qwen2Config, use_sliding_window=True, sliding_window=6, max_window_layers=2),
            "lasttoken", prompts={"query": QUERY}, default="query",
        ),
        "qwen2_both_directions": vectors(
            "qwen2_both_directions", made(t.Qwen2Model, t.Qwen2Config, is_causal=False), "mean",
        ),
        "mistral": vectors(
            "mistral", made(t.MistralModel, t.MistralConfig, sliding_window=7, head_dim=4), "lasttoken", start=True,
        ),
        # With what stands before the names of a language model, and of numbers that bfloat16 has.
        "llama": vectors(
            "llama", made(t.LlamaForCausalLM, t.LlamaConfig, tie_word_embeddings=True).bfloat16().float(), "cls", start=True,
            texts=[text for text in TEXTS if text],
        ),
        "gemma3": vectors(
            "gemma3",
            made(
                t.Gemma3TextModel, t.Gemma3TextConfig, head_dim=8, sliding_window=10, use_bidirectional_attention=True, query_pre_attn_scalar=12,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            ),
            "mean", behind=dense, start=True,
        ),
    }  # fmt: skip
    moods = {0: "sad", 1: "glad", 2: "neither"}
    names = {"id2label": moods, "label2id": {name: i for i, name in moods.items()}}
    folder = save(
        "qwen3_moods", made(t.Qwen3ForSequenceClassification, t.Qwen3Config, head_dim=4, **names), tokenizer()[0]
    )
    pipeline = transformers.pipeline("text-classification", model=str(folder), tokenizer=str(folder))
    texts = [text for text in TEXTS if text]
    reference["qwen3_moods"] = {"texts": texts, "answers": [pipeline(text, top_k=None) for text in texts]}
    clean(folder)
    folder = save(
        "llama_reranker", made(t.LlamaForSequenceClassification, t.LlamaConfig, num_labels=1), tokenizer(True)[0]
    )
    encoder = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    scores = [float(encoder.predict([pair])[0]) for pair in PAIRS]
    assert max(abs(one - other) for one, other in zip(scores, encoder.predict(PAIRS), strict=True)) < 1e-5
    reference["llama_reranker"] = {"pairs": PAIRS, "answers": scores}
    clean(folder)
    reference["mistral_both_directions"] = vectors(
        "mistral_both_directions",
        made(t.MistralModel, t.MistralConfig, sliding_window=5, head_dim=4, is_causal=False),
        "mean",
    )
    (HERE / "reference.json").write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
