"""Language models over datasets: endpoints that speak HTTP, and vLLM. Names are those of ``ray.data.llm``.

A processor is a function from a dataset to a dataset. It runs nothing until the dataset is consumed.

    >>> import aktis.data
    >>> from aktis.data.llm import HttpRequestProcessorConfig, build_processor
    >>> processor = build_processor(
    ...     HttpRequestProcessorConfig(url="http://127.0.0.1:8000/v1/chat/completions", concurrency=2),
    ...     preprocess=lambda row: {"payload": {"model": "m", "messages": [{"role": "user", "content": row["text"]}]}},
    ...     postprocess=lambda row: {"answer": row["http_response"]["choices"][0]["message"]["content"]},
    ... )
    >>> processor.list_stage_names()
    ['HttpRequestStage']
    >>> answers = processor(aktis.data.from_items([{"text": "What is the answer?"}]))
"""

from ._answers import HttpRequestError
from ._configs import HttpRequestProcessorConfig, ProcessorConfig
from ._processor import Processor, build_processor
from ._stage_configs import (
    ChatTemplateStageConfig,
    DetokenizeStageConfig,
    HttpRequestStageConfig,
    TokenizerStageConfig,
)
from ._vllm_config import vLLMEngineProcessorConfig

#: As it was called before Ray 2.50.
build_llm_processor = build_processor

__all__ = [
    "ChatTemplateStageConfig",
    "DetokenizeStageConfig",
    "HttpRequestError",
    "HttpRequestProcessorConfig",
    "HttpRequestStageConfig",
    "Processor",
    "ProcessorConfig",
    "TokenizerStageConfig",
    "build_llm_processor",
    "build_processor",
    "vLLMEngineProcessorConfig",
]


# As type checkers know it; they must not think that any name is there.
TYPE_CHECKING = False
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from aktis._messages.missing import explained

        raise AttributeError(explained(__name__, name, __all__))
