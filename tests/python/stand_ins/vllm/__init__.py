"""The names of vLLM that are used here, with its signatures (`tests/python/unit/test_vllm_sources.py`), and an engine that says prompts backwards."""

import dataclasses
from typing import Any, TypedDict

from .outputs import CompletionOutput, PoolingOutput, PoolingRequestOutput, RequestOutput
from .pooling_params import PoolingParams
from .sampling_params import SamplingParams

__all__ = [
    "AsyncEngineArgs",
    "CompletionOutput",
    "PoolingOutput",
    "PoolingParams",
    "PoolingRequestOutput",
    "RequestOutput",
    "SamplingParams",
    "TextPrompt",
    "TokensPrompt",
]


@dataclasses.dataclass
class AsyncEngineArgs:
    """Arguments of the engine."""

    model: str
    runner: str = "auto"
    convert: str = "auto"
    distributed_executor_backend: str | None = None
    pipeline_parallel_size: int = 1
    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    max_num_seqs: int | None = None
    trust_remote_code: bool = False
    enable_prefix_caching: bool | None = None


class TextPrompt(TypedDict, total=False):
    """A prompt as text."""

    prompt: str
    multi_modal_data: Any
    mm_processor_kwargs: Any
    multi_modal_uuids: Any


class TokensPrompt(TypedDict, total=False):
    """A prompt as tokens."""

    prompt_token_ids: list[int]
    multi_modal_data: Any
    mm_processor_kwargs: Any
    multi_modal_uuids: Any
