"""Settings of vLLM's engine, and the stages that they ask for."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from aktis.data._keywords import Keywords, Refused

from ._configs import ProcessorConfig
from ._stage_configs import (
    ChatTemplateStageConfig,
    DetokenizeStageConfig,
    StageConfig,
    TokenizerStageConfig,
    check_count,
    check_runtime_env,
    resolved,
    settings,
)
from ._stages import Stage
from ._text_stages import ChatTemplateStage, DetokenizeStage, TokenizeStage
from ._vllm_engine import Engine, vLLMEngineStage

if TYPE_CHECKING:
    StageSettings = bool | Mapping[str, Any] | StageConfig

#: What vLLM calls the work of a task.
TASKS: Mapping[str, Mapping[str, str]] = {
    "generate": {"runner": "generate"},
    "embed": {"runner": "pooling", "convert": "embed"},
    "classify": {"runner": "pooling", "convert": "classify"},
}
_NO_MORE = "Ray 2.60 has it no more either; give "
_BACKENDS = {
    "ray": "there is no Ray: leave it out, and the engine's processes run on the node of its worker ('mp')",
    "external_launcher": "it is for programs that are started once for each GPU: leave it out ('mp')",
}


@settings
class vLLMEngineProcessorConfig(ProcessorConfig):
    """Runs a model with vLLM's ``AsyncLLM``: an engine in each worker, and a request for each row.

    Rows need ``messages`` (or ``prompt``, without the stage of templates) and ``sampling_params``. They get ``prompt``, ``generated_text``,
    ``generated_tokens``, ``finish_reason``, ``num_input_tokens``, ``num_generated_tokens`` and others, or ``embeddings``.

    Args:
        model_source: A folder, or a name that vLLM knows.
        batch_size: Rows that are made ready at once. An engine has ``batch_size * max_concurrent_batches`` rows under way.
        max_concurrent_batches: See ``batch_size``.
        max_pending_requests: Rows that the engine has at most; by default a tenth more than it computes with at once
            (``max_num_seqs``), and 0 or less for no limit.
        max_tasks_in_flight_per_actor: As of :class:`~aktis.data.ActorPoolStrategy`.
        engine_kwargs: Arguments of vLLM's ``AsyncEngineArgs``. A worker gets as many GPUs as ``tensor_parallel_size``,
            ``pipeline_parallel_size`` and ``data_parallel_size`` multiply to.
        task_type: ``"generate"``, ``"embed"`` or ``"classify"``.
        chat_template_stage, tokenize_stage, detokenize_stage: Whether these stages run, or their settings. They need the package
            ``transformers``. Without the second the engine makes the tokens, without the third the text is what the engine gives.
        prepare_multimodal_stage: Ray's; refused: give ``multimodal_data`` in ``preprocess``.
        placement_group_config: ``{"bundles": [{"GPU": 1, "CPU": 1}, ...]}`` or ``{"bundle_per_worker": {...}}``: what a worker gets in all.
        dynamic_lora_loading_path: A folder with a folder for each LoRA; the ``model`` of a row names its own.
        runtime_env: ``{"env_vars": {...}}``, set in the workers before they load anything.
        log_engine_metrics: Ray's; refused: there is no endpoint of metrics.
        concurrency, accelerator_type, should_continue_on_error, on_error, max_errors, max_error_ratio: As of :class:`ProcessorConfig`.

    Raises:
        TypeError, ValueError, NotImplementedError: As of :class:`ProcessorConfig`.

    >>> config = vLLMEngineProcessorConfig(model_source="m", engine_kwargs={"tensor_parallel_size": 2})
    >>> config._resources()
    {'num_gpus': 2}
    """

    model_source: str
    max_concurrent_batches: int = 8
    max_pending_requests: int | None = None
    max_tasks_in_flight_per_actor: int | None = None
    engine_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    task_type: str = "generate"
    chat_template_stage: StageSettings = dataclasses.field(default=True, repr=False)
    tokenize_stage: StageSettings = dataclasses.field(default=True, repr=False)
    detokenize_stage: StageSettings = dataclasses.field(default=True, repr=False)
    prepare_multimodal_stage: StageSettings = False
    placement_group_config: Mapping[str, Any] | None = None
    dynamic_lora_loading_path: str | None = None
    runtime_env: Mapping[str, Any] | None = dataclasses.field(default=None, repr=False)
    log_engine_metrics: bool = False

    _REFUSED: ClassVar[Mapping[str, Refused]] = {
        **ProcessorConfig._REFUSED,
        "apply_chat_template": Refused(_NO_MORE + "chat_template_stage=True or False", ()),
        "chat_template": Refused(_NO_MORE + "chat_template_stage={'chat_template': ...}", ()),
        "tokenize": Refused(_NO_MORE + "tokenize_stage=True or False", ()),
        "detokenize": Refused(_NO_MORE + "detokenize_stage=True or False", ()),
        "has_image": Refused(_NO_MORE + "multimodal_data in preprocess", ()),
        "prepare_image_stage": Refused(_NO_MORE + "multimodal_data in preprocess", ()),
    }

    def _check(self) -> None:
        """Raises for what cannot be meant."""
        super()._check()
        name = type(self).__name__
        if not isinstance(self.model_source, str) or not self.model_source:
            raise ValueError(f"{name}: model_source is a folder or the name of a model, not {self.model_source!r}")
        check_count(name, "max_concurrent_batches", self.max_concurrent_batches)
        pending = self.max_pending_requests
        if pending is not None and (not isinstance(pending, int) or isinstance(pending, bool)):
            raise ValueError(f"{name}: max_pending_requests is a whole number, 0 for no limit, not {pending!r}")
        if self.max_tasks_in_flight_per_actor is not None:
            check_count(name, "max_tasks_in_flight_per_actor", self.max_tasks_in_flight_per_actor)
        folder = self.dynamic_lora_loading_path
        if folder is not None and (not isinstance(folder, str) or not folder):
            raise TypeError(f"{name}: dynamic_lora_loading_path is the path of a folder, not {folder!r}")
        check_runtime_env(name, self.runtime_env)
        if self.task_type not in TASKS:
            hint = ": vLLM has it no more, and says 'classify'" if self.task_type == "score" else ""
            raise ValueError(f"{name}: task_type is one of {', '.join(map(repr, TASKS))}, not {self.task_type!r}{hint}")
        Keywords(
            name,
            refused={
                "prepare_multimodal_stage": Refused(
                    "load pictures and others in preprocess=, and return them as 'multimodal_data' with a 'prompt'", (False,)
                ),
                "log_engine_metrics": Refused("there is no endpoint of metrics; the engine logs its figures", (False,)),
            },
        ).check({
            "prepare_multimodal_stage": self.prepare_multimodal_stage, "log_engine_metrics": self.log_engine_metrics,
        })  # fmt: skip
        self._check_engine(name)
        self._resources()

    def _check_engine(self, name: str) -> None:
        given = self.engine_kwargs
        if not isinstance(given, Mapping):
            raise TypeError(f"{name}: engine_kwargs is a dict, not {given!r}")
        fixed = {"model": self.model_source, "task_type": self.task_type, **TASKS[self.task_type]}
        for argument, value in fixed.items():
            if given.get(argument, value) != value:
                own = {"model": "model_source"}.get(argument, "task_type")
                raise ValueError(
                    f"{name}: engine_kwargs has {argument}={given[argument]!r}, and {own} says {value!r}: leave it out"
                )
        if (backend := given.get("distributed_executor_backend")) in _BACKENDS:
            raise NotImplementedError(
                f"{name}: distributed_executor_backend={backend!r} is not there yet: {_BACKENDS[backend]}"
            )
        for argument in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
            check_count(f"{name}: engine_kwargs", argument, given.get(argument, 1))

    def _devices(self) -> int:
        """GPUs of an engine, if nothing else is said."""
        sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
        devices = 1
        for size in sizes:
            devices *= self.engine_kwargs.get(size, 1)
        return devices

    def _resources(self) -> dict[str, Any]:
        """What a worker gets, as :meth:`~aktis.data.Dataset.map` takes it."""
        groups = self.placement_group_config
        if groups is None:
            return {"num_gpus": self._devices()}
        name = f"{type(self).__name__}(placement_group_config=...)"
        if not isinstance(groups, Mapping):
            raise TypeError(f"{name} is a dict, as {{'bundles': [{{'GPU': 1}}]}}, not {groups!r}")
        Keywords(name, used=("bundles", "bundle_per_worker", "strategy")).check(
            {key: value for key, value in groups.items() if key not in ("bundles", "bundle_per_worker", "strategy")}
        )
        if (groups.get("bundles") is None) == (groups.get("bundle_per_worker") is None):
            raise ValueError(f"{name} has either 'bundles' or 'bundle_per_worker'")
        if groups.get("strategy", "PACK") not in ("PACK", "STRICT_PACK"):
            raise NotImplementedError(f"{name}: an engine and its GPUs are on one node: leave 'strategy' out")
        amounts: collections.Counter[str] = collections.Counter()
        for bundle in self._bundles(name, groups):
            amounts.update(bundle)
        devices = self._devices()
        if devices > 1 and 0 < (gpus := amounts.get("GPU", devices)) < devices:
            raise ValueError(
                f"{name} has {gpus:g} GPU in all, and the sizes in engine_kwargs (tensor_parallel_size and others) multiply to {devices}: "
                "give a bundle with one for each"
            )
        told = {
            "num_cpus": amounts.pop("CPU", None),
            "num_gpus": amounts.pop("GPU", None),
            "resources": dict(amounts) or None,
        }
        return {option: amount for option, amount in told.items() if amount is not None}

    def _bundles(self, name: str, groups: Mapping[str, Any]) -> list[Mapping[str, float]]:
        """What a worker gets in all, part by part."""
        bundles: Any = groups.get("bundles")
        each = groups.get("bundle_per_worker")
        if bundles is None:
            bundles = [each] * self._devices()
        if (
            not isinstance(bundles, (list, tuple))
            or not bundles
            or not all(isinstance(bundle, Mapping) and bundle for bundle in bundles)
            or not all(_is_amount(amount) for bundle in bundles for amount in bundle.values())
        ):
            given = f"'bundles': {bundles!r}" if each is None else f"'bundle_per_worker': {each!r}"
            raise ValueError(
                f"{name} needs what a worker gets, as {{'bundles': [{{'GPU': 1, 'CPU': 1}}]}}, and has {{{given}}}"
            )
        return list(bundles)


def _is_amount(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def stages(config: vLLMEngineProcessorConfig, chat_template_kwargs: Mapping[str, Any] | None = None) -> list[Stage]:
    """The stages that a config asks for.

    Args:
        config: The settings.
        chat_template_kwargs: What templates get besides, where the stage's own settings say nothing.
    """
    is_generating = config.task_type == "generate"
    defaults = {
        name: getattr(config, name) for name in ("batch_size", "concurrency", "runtime_env", "model_source")
    }  # fmt: skip
    trust = bool(config.engine_kwargs.get("trust_remote_code", False))
    template = resolved(config.chat_template_stage, ChatTemplateStageConfig, **defaults)
    tokens = resolved(config.tokenize_stage, TokenizerStageConfig, **defaults)
    text = resolved(config.detokenize_stage, DetokenizeStageConfig, **defaults)
    made: list[Stage] = []
    if template.enabled:
        more = template.chat_template_kwargs if template.chat_template_kwargs is not None else chat_template_kwargs
        arguments = (template.model_source, trust, template.chat_template, dict(more or {}))
        made.append(Stage(ChatTemplateStage, arguments, template, {"messages": "a list of messages, as of OpenAI"}))
    elif chat_template_kwargs:
        raise ValueError("chat_template_kwargs are for the stage of templates, and chat_template_stage is False")
    if tokens.enabled:
        made.append(Stage(TokenizeStage, (tokens.model_source, trust), tokens, {"prompt": "text"}))
    made.append(_engine_stage(config))
    if text.enabled and is_generating:
        made.append(Stage(DetokenizeStage, (text.model_source, trust), text, {}))
    return made


def _engine_stage(config: vLLMEngineProcessorConfig) -> Stage:
    in_flight = config.batch_size * config.max_concurrent_batches
    arguments = {
        "distributed_executor_backend": "uni" if config._devices() == 1 else "mp",
        **config.engine_kwargs,
        **TASKS[config.task_type],
        "model": config.model_source,
    }
    arguments.pop("task_type", None)
    engine = Engine(
        arguments, config.task_type, in_flight, config.max_pending_requests, config.dynamic_lora_loading_path
    )  # fmt: skip
    required = (
        {"sampling_params": "a dict of arguments of vllm.SamplingParams"} if config.task_type == "generate" else {}
    )
    optional = {
        "prompt": "text; this or tokenized_prompt",
        "tokenized_prompt": "numbers of tokens; this or prompt",
        "model": "a LoRA, if it is not the model_source",
        "multimodal_data": "pictures and others, as vLLM takes them",
        "mm_processor_kwargs": "arguments of vLLM's processor of them",
        "multimodal_uuids": "names of them, for vLLM's cache",
    }
    if not required:
        optional["pooling_params"] = "a dict of arguments of vllm.PoolingParams"
        optional["tokenization_kwargs"] = "arguments of vLLM's tokenizer, as {'truncation': True, 'max_length': 512}"
    settings = StageConfig(concurrency=config.concurrency, runtime_env=config.runtime_env)
    return Stage(
        vLLMEngineStage, (engine,), settings, required, optional,
        in_flight=in_flight, resources=config._resources(), tasks_in_flight=config.max_tasks_in_flight_per_actor,
    )  # fmt: skip
