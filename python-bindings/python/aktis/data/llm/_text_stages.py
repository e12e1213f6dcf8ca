"""Stages that make text of messages, tokens of text, and text of tokens: with the tokenizers of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aktis.data import _mistakes
from aktis.data._packages import needs


def _transformers() -> Any:
    return needs("vLLMEngineProcessorConfig", "transformers", "transformers")


class ChatTemplateStage:
    """Makes ``prompt`` of ``messages``.

    Args:
        model: Folder or name of the model whose template it is.
        trust_remote_code: Whether code that comes with the model may run.
        chat_template: Another template; None: the model's.
        more: What the template gets besides.
    """

    def __init__(self, model: str, trust_remote_code: bool, chat_template: str | None, more: Mapping[str, Any]) -> None:
        # Of models that see pictures only the processor has the template.
        self._processor = _transformers().AutoProcessor.from_pretrained(model, trust_remote_code=trust_remote_code)
        self._template, self._more = chat_template, dict(more)

    def work(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What each row gets."""
        return _of_each(rows, lambda row: {"prompt": self._prompt(plain(row["messages"]))})

    def _prompt(self, messages: list[dict[str, Any]]) -> str:
        if not messages:
            raise ValueError(
                "'messages' is empty, and a prompt is made of at least one: leave such rows out with filter()"
            )
        # What the assistant has begun to say, it goes on with.
        is_asked = messages[-1]["role"] != "assistant"
        return self._processor.apply_chat_template(
            messages,
            tokenize=False,
            chat_template=self._template,
            add_generation_prompt=is_asked,
            continue_final_message=not is_asked,
            **self._more,
        )


class TokenizeStage:
    """Makes ``tokenized_prompt`` of ``prompt``.

    Args:
        model: Folder or name of the model whose tokenizer it is.
        trust_remote_code: Whether code that comes with the model may run.
    """

    def __init__(self, model: str, trust_remote_code: bool) -> None:
        self._tokenizer = _transformers().AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)

    def work(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What each row gets."""
        tokens = self._tokenizer([row["prompt"] for row in rows])["input_ids"]
        return [{"tokenized_prompt": each} for each in tokens]


class DetokenizeStage:
    """Makes ``generated_text`` of ``generated_tokens``, where the engine was asked not to (``detokenize=False``).

    Args:
        model: Folder or name of the model whose tokenizer it is.
        trust_remote_code: Whether code that comes with the model may run.
    """

    def __init__(self, model: str, trust_remote_code: bool) -> None:
        self._tokenizer = _transformers().AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)

    def work(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What each row gets."""
        # A text that the engine has made ends before a stop string, and may be empty: from the tokens it could not be made again.
        return [{} if row["sampling_params"].get("detokenize", True) else self._made(row) for row in rows]

    def _made(self, row: Mapping[str, Any]) -> dict[str, Any]:
        # A row may have come through a processor before that made more of it.
        are_several = (row["sampling_params"].get("n") or 1) > 1
        tokens = plain(row["generated_tokens_of_texts"] if are_several else [row["generated_tokens"]])
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return {"generated_text": texts[0], **({"generated_texts": texts} if are_several else {})}


def _of_each(
    rows: Sequence[Mapping[str, Any]], function: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """What a function makes of each row; an error says of which."""
    made = []
    for position, row in enumerate(rows):
        try:
            made.append(function(row))
        except Exception as error:
            _mistakes.explain_row(error, list(rows), position)
            raise
    return made


def plain(value: Any) -> Any:
    """Lists and dicts where columns gave numpy's arrays."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
