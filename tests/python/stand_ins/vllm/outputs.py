"""What the engine gives."""

import dataclasses
from typing import Any


@dataclasses.dataclass
class Logprob:
    """What is known of a candidate."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclasses.dataclass
class CompletionOutput:
    """A text."""

    index: int
    text: str
    token_ids: Any
    cumulative_logprob: float | None
    logprobs: Any
    finish_reason: str | None = None
    stop_reason: Any = None


class RequestOutput:
    """The texts of a prompt."""

    def __init__(
        self,
        request_id: str,
        prompt: str | None,
        prompt_token_ids: list[int] | None,
        prompt_logprobs: Any,
        outputs: list[CompletionOutput],
        finished: bool,
        metrics: Any = None,
    ) -> None:
        self.request_id = request_id
        self.prompt = prompt
        self.prompt_token_ids = prompt_token_ids
        self.prompt_logprobs = prompt_logprobs
        self.outputs = outputs
        self.finished = finished
        self.metrics = metrics


@dataclasses.dataclass
class PoolingOutput:
    """Numbers."""

    data: Any


class PoolingRequestOutput:
    """The numbers of a prompt."""

    def __init__(
        self, request_id: str, outputs: Any, prompt_token_ids: list[int], num_cached_tokens: int, finished: bool
    ) -> None:
        self.request_id = request_id
        self.outputs = outputs
        self.prompt_token_ids = prompt_token_ids
        self.num_cached_tokens = num_cached_tokens
        self.finished = finished
