"""vLLM's engine in a worker: a request for each row, as many at once as it can take.

Only names that vLLM makes public are used, and `tests/python/unit/test_vllm_sources.py` compares them with its sources.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from aktis.data._packages import needs

from ._stages import AsyncStage, Ends, set_environment
from ._text_stages import plain

logger = logging.getLogger(__name__)
_CALLED = "vLLMEngineProcessorConfig"
#: How the worker ends when its engine has: another one takes over.
_ENGINE_DIED = 70


@dataclasses.dataclass(frozen=True)
class Engine:
    """What an engine is made of."""

    #: Of vLLM's `AsyncEngineArgs`.
    arguments: Mapping[str, Any]
    task: str
    in_flight: int
    most_pending: int | None
    lora_folder: str | None

    def signed_parts(self) -> tuple[Any, ...]:
        """What outputs depend on; not how many are made at once."""
        return (self.arguments, self.task, self.lora_folder)


class vLLMEngineStage(AsyncStage):
    """An engine, and the rows that it works on."""

    def __init__(self, ends: Ends, engine: Engine) -> None:
        super().__init__(ends)
        # A worker has threads, which a fork would leave behind.
        if "VLLM_WORKER_MULTIPROC_METHOD" not in os.environ:
            set_environment({"VLLM_WORKER_MULTIPROC_METHOD": "spawn"})
        self._settings = engine
        self._vllm = needs(_CALLED, "vllm", "vllm")
        self._sampling = needs(_CALLED, "vllm.sampling_params", "vllm")
        self._dead_error = needs(_CALLED, "vllm.v1.engine.exceptions", "vllm").EngineDeadError
        async_llm = needs(_CALLED, "vllm.v1.engine.async_llm", "vllm").AsyncLLM
        self._engine = async_llm.from_engine_args(self._vllm.AsyncEngineArgs(**engine.arguments))
        self._numbers = itertools.count()
        self._loras: dict[str, Any] = {}
        limit = self._limit()
        self._room = asyncio.Semaphore(limit) if limit > 0 else None

    def _limit(self) -> int:
        """Rows that the engine gets at once: a few more than it computes with, so that the next are there when some are done."""
        config = self._engine.vllm_config
        computes = config.scheduler_config.max_num_seqs * config.parallel_config.pipeline_parallel_size
        limit = self._settings.most_pending
        if limit is None:
            limit = math.ceil(1.1 * computes)
        gets = min(limit, self._settings.in_flight) if limit > 0 else self._settings.in_flight
        if gets < computes:
            logger.warning(
                "vLLM computes with %d rows at once and gets %d: raise max_concurrent_batches or max_pending_requests",
                computes,
                gets,
            )
        return limit

    async def work(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that a row gets."""
        number = next(self._numbers)
        prompt, parameters, more = self._prompt(data), self._parameters(data), self._more(data)
        if self._room is None:
            return await self._asked(number, data, prompt, parameters, more)
        async with self._room:
            return await self._asked(number, data, prompt, parameters, more)

    async def _asked(
        self, number: int, data: Mapping[str, Any], prompt: Any, parameters: Any, more: dict[str, Any]
    ) -> dict[str, Any]:
        began = time.perf_counter()
        ask = self._engine.generate if self._settings.task == "generate" else self._engine.encode
        try:
            async for output in ask(prompt, parameters, str(number), **more):
                if output.finished:
                    told = _generated(output) if self._settings.task == "generate" else _pooled(output)
                    return {
                        "prompt": data.get("prompt") or "",
                        **told,
                        "request_id": number,
                        "params": str(parameters),
                        "time_taken_llm": time.perf_counter() - began,
                    }
        except self._dead_error as error:
            self._end(error)
        raise RuntimeError("vLLM gave no finished output for the row")

    def _end(self, error: BaseException) -> None:
        """The engine is gone, and every row would fail: this worker ends, and its rows are done by another, as after a crash."""
        print(f"vLLM's engine has died, and its worker ends: {error}", file=sys.stderr, flush=True)
        os._exit(_ENGINE_DIED)

    def _prompt(self, data: Mapping[str, Any]) -> Any:
        more = {
            name: data[column]
            for name, column in (
                ("multi_modal_data", "multimodal_data"),
                ("mm_processor_kwargs", "mm_processor_kwargs"),
                ("multi_modal_uuids", "multimodal_uuids"),
            )
            if data.get(column) is not None
        }
        if data.get("tokenized_prompt") is not None:
            return self._vllm.TokensPrompt(prompt_token_ids=plain(data["tokenized_prompt"]), **more)
        if not data.get("prompt"):
            raise ValueError(
                f"vLLMEngineStage needs the column 'prompt' or 'tokenized_prompt', and the row has {', '.join(map(repr, data))}: "
                "give build_processor() a preprocess= that returns one, or 'messages' with chat_template_stage=True"
            )
        return self._vllm.TextPrompt(prompt=data["prompt"], **more)

    def _parameters(self, data: Mapping[str, Any]) -> Any:
        if self._settings.task != "generate":
            return self._vllm.PoolingParams(**plain(data.get("pooling_params") or {}), task=self._settings.task)
        given = dict(plain(data["sampling_params"]))
        # Of older scripts.
        guided = given.pop("guided_decoding", None)
        structured = given.pop("structured_outputs", None)
        if guided is not None and structured is not None:
            raise ValueError(
                "sampling_params has structured_outputs and guided_decoding, its older name: leave one out"
            )
        wanted = structured if guided is None else guided
        if wanted is not None:
            given["structured_outputs"] = self._sampling.StructuredOutputsParams(**wanted)
        # Nobody reads what a text looks like while it is made.
        return self._vllm.SamplingParams(**{"output_kind": self._sampling.RequestOutputKind.FINAL_ONLY, **given})

    def _more(self, data: Mapping[str, Any]) -> dict[str, Any]:
        more = {"lora_request": self._lora(data.get("model"))}
        if self._settings.task != "generate":
            more["tokenization_kwargs"] = data.get("tokenization_kwargs")
        return more

    def _lora(self, name: str | None) -> Any:
        if not name or name == self._settings.arguments["model"]:
            return None
        if name not in self._loras:
            lora_request = needs(_CALLED, "vllm.lora.request", "vllm").LoRARequest
            folder = self._settings.lora_folder
            path = name if folder is None else os.path.join(folder, name)
            self._loras[name] = lora_request(lora_name=name, lora_int_id=len(self._loras) + 1, lora_path=path)
        return self._loras[name]

    def __del__(self) -> None:
        # The engine has processes of its own.
        if (engine := getattr(self, "_engine", None)) is not None:
            engine.shutdown()


def _generated(output: Any) -> dict[str, Any]:
    first = output.outputs[0]
    told = {
        **_prompted(output),
        "generated_text": first.text,
        "generated_tokens": list(first.token_ids),
        "num_generated_tokens": len(first.token_ids),
        "finish_reason": first.finish_reason,
        "metrics": None if output.metrics is None else dataclasses.asdict(output.metrics),
        "logprobs": _probabilities(first.logprobs),
        "prompt_logprobs": _probabilities(output.prompt_logprobs),
    }
    if len(output.outputs) > 1:
        told["generated_texts"] = [each.text for each in output.outputs]
        told["generated_tokens_of_texts"] = [list(each.token_ids) for each in output.outputs]
    return told


def _pooled(output: Any) -> dict[str, Any]:
    # numpy has no word for bfloat16.
    return {**_prompted(output), "embeddings": output.outputs.data.float().cpu().numpy()}


def _prompted(output: Any) -> dict[str, Any]:
    tokens = list(output.prompt_token_ids or ())
    return {"prompt_token_ids": tokens, "num_input_tokens": len(tokens)}


def _probabilities(positions: Any) -> Any:
    """For each token its candidates, as a column can have them: vLLM's dicts have numbers for keys."""
    if positions is None:
        return None
    return [
        None
        if position is None
        else [{"token_id": token, **dataclasses.asdict(each)} for token, each in position.items()]
        for position in positions
    ]
