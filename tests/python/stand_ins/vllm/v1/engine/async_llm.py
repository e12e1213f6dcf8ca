"""An engine that computes with `max_num_seqs` rows at once. Words in a prompt say what else happens:

`sleep S`: it takes so long; `meet N`: until so many rows have been there at once; `long`: the prompt has too many tokens; `die once FILE` and `die`: the engine's process goes, in the first case only
while there is no such file.
"""

import asyncio
import os
import types
from collections.abc import AsyncGenerator
from typing import Any

from vllm import AsyncEngineArgs, CompletionOutput, PoolingOutput, PoolingRequestOutput, RequestOutput
from vllm.outputs import Logprob

from .exceptions import EngineDeadError


class Numbers(list):
    """The part of a tensor that is used."""

    def float(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        import numpy

        return numpy.array(self, numpy.float32)


class AsyncLLM:
    """The engine."""

    def __init__(self, engine_args: AsyncEngineArgs) -> None:
        if engine_args.model == "missing":
            raise OSError("there is no model 'missing'")
        seats = engine_args.max_num_seqs or 128
        self.args = engine_args
        self.vllm_config = types.SimpleNamespace(
            scheduler_config=types.SimpleNamespace(max_num_seqs=seats),
            parallel_config=types.SimpleNamespace(pipeline_parallel_size=engine_args.pipeline_parallel_size),
        )
        self.seats = asyncio.Semaphore(seats)
        self.present = self.most_present = 0
        self.is_dead = False

    @classmethod
    def from_engine_args(cls, engine_args: AsyncEngineArgs) -> "AsyncLLM":
        return cls(engine_args)

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, *, lora_request: Any = None
    ) -> AsyncGenerator[RequestOutput, None]:
        text, tokens = await self.computed(prompt)
        said = (
            text[::-1]
            if lora_request is None
            else f"{lora_request.lora_name} {lora_request.lora_int_id} {lora_request.lora_path}"
        )
        if sampling_params.structured_outputs is not None:
            said = sampling_params.structured_outputs.choice[0]
        made = [ord(letter) for letter in said][: sampling_params.max_tokens]
        text = "".join(map(chr, made)) if sampling_params.detokenize else ""
        likely = [{token: Logprob(-0.5, 1, chr(token))} for token in made] if sampling_params.logprobs else None
        reason = "stop" if len(made) == len(said) else "length"
        outputs = [CompletionOutput(i, text, made, None, likely, reason) for i in range(sampling_params.n)]
        yield RequestOutput(request_id, None, tokens, None, [], False)
        asked = [None, *({token: Logprob(-0.5, 1, chr(token))} for token in tokens[1:])]
        yield RequestOutput(request_id, None, tokens, asked if sampling_params.prompt_logprobs else None, outputs, True)

    async def encode(
        self,
        prompt: Any,
        pooling_params: Any,
        request_id: str,
        lora_request: Any = None,
        trace_headers: Any = None,
        priority: int = 0,
        tokenization_kwargs: Any = None,
    ) -> AsyncGenerator[PoolingRequestOutput, None]:
        _, tokens = await self.computed(prompt)
        if tokenization_kwargs:
            tokens = tokens[: tokenization_kwargs["max_length"]]
        numbers = Numbers(tokens[: pooling_params.dimensions])
        yield PoolingRequestOutput(request_id, PoolingOutput(numbers), tokens, 0, True)

    async def computed(self, prompt: Any) -> tuple[str, list[int]]:
        tokens = prompt.get("prompt_token_ids") or [ord(letter) for letter in prompt["prompt"]]
        text = "".join(map(chr, tokens))
        words = text.split()
        if "long" in words:
            raise ValueError("the prompt is longer than the model's 4096 tokens")
        self.present += 1
        self.most_present = max(self.most_present, self.present)
        try:
            async with self.seats:
                if "sleep" in words:
                    await asyncio.sleep(float(words[words.index("sleep") + 1]))
                if "meet" in words:
                    await self.met(int(words[words.index("meet") + 1]))
                self.meet_death(words)
        finally:
            self.present -= 1
        return (f"{self.most_present}" if text == "most" else text), tokens

    async def met(self, rows: int) -> None:
        async with asyncio.timeout(60):
            while self.most_present < rows:
                await asyncio.sleep(0.001)

    def meet_death(self, words: list[str]) -> None:
        if "die" in words:
            mark = words[words.index("die") + 2] if "once" in words else None
            if mark is None or not os.path.exists(mark):
                if mark is not None:
                    open(mark, "x").close()
                self.is_dead = True
        if self.is_dead:
            raise EngineDeadError("the engine's process is gone")

    def shutdown(self, timeout: float | None = None) -> None:
        self.is_dead = True
