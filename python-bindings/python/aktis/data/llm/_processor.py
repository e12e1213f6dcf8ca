"""Processors: stages between what the user makes of rows before and behind them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aktis.data._keywords import Keywords

from . import _http_requests, _vllm_config
from ._configs import HttpRequestProcessorConfig, ProcessorConfig
from ._stages import Ends, RowFunction, Stage, TextStages, UsersStep

if TYPE_CHECKING:
    from aktis.data import Dataset

logger = logging.getLogger(__name__)


class Processor:
    """A function from a dataset to a dataset, made by :func:`build_processor`.

    Args:
        config: The settings.
        stages: The stages that they ask for.
        preprocess: What to make of a row before them.
        postprocess: What to make of a row behind them.
        preprocess_map_kwargs: Options of :meth:`~aktis.data.Dataset.map` for workers of their own for ``preprocess``.
        postprocess_map_kwargs: The same for ``postprocess``.

    >>> processor = build_processor(HttpRequestProcessorConfig(url="http://127.0.0.1:8000/v1/embeddings"))
    >>> processor.list_stage_names()
    ['HttpRequestStage']
    >>> processor.get_stage_by_name("HttpRequestStage").get_required_input_keys()
    {'payload': 'what is sent, as JSON'}
    >>> processor.log_input_column_names()
    """

    def __init__(
        self,
        config: ProcessorConfig,
        stages: list[Stage],
        preprocess: RowFunction | None = None,
        postprocess: RowFunction | None = None,
        preprocess_map_kwargs: Mapping[str, Any] | None = None,
        postprocess_map_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.preprocess, self.postprocess = preprocess, postprocess
        self.preprocess_map_kwargs = dict(preprocess_map_kwargs or {})
        self.postprocess_map_kwargs = dict(postprocess_map_kwargs or {})
        self.stages = {stage.name: stage for stage in stages}

    def __call__(self, dataset: Dataset) -> Dataset:
        """Describes the work over a dataset; it runs when that is consumed.

        Args:
            dataset: The rows.

        Returns:
            A dataset of what ``postprocess`` returns, or of the rows with what the stages added to them; in the same order.

        Raises:
            TypeError: It is no dataset.
        """
        from aktis.data import Dataset

        if not isinstance(dataset, Dataset):
            raise TypeError(
                f"a processor takes a dataset, as aktis.data.from_items() and read_parquet() give one, not {type(dataset).__name__}"
            )
        failures = self.config._failures()
        own_before, own_after = bool(self.preprocess_map_kwargs), bool(self.postprocess_map_kwargs)
        tells_errors = self.config.should_continue_on_error
        if own_before:
            step = UsersStep("preprocess", Ends(before=self.preprocess, is_last=False))
            dataset = dataset.map(step, **{**failures, **self.preprocess_map_kwargs})
        parts = self._parts()
        for position, part in enumerate(parts):
            is_first, is_last = position == 0 and not own_before, position == len(parts) - 1 and not own_after
            ends = Ends(
                before=self.preprocess if is_first else None,
                after=self.postprocess if is_last else None,
                is_first=is_first,
                is_last=is_last,
                tells_errors=tells_errors,
                required=part[0].required if part[0].is_async else {},
                env_vars=part[0].env_vars,
            )
            dataset = _with_part(dataset, part, ends, failures)
        if own_after:
            step = UsersStep("postprocess", Ends(after=self.postprocess, is_first=False, tells_errors=tells_errors))
            dataset = dataset.map(step, **{**failures, **self.postprocess_map_kwargs})
        return dataset

    def _parts(self) -> list[list[Stage]]:
        """The stages, those together that run in the same workers."""
        parts: list[list[Stage]] = []
        for stage in self.stages.values():
            if parts and parts[-1][0].shares_workers(stage):
                parts[-1].append(stage)
            else:
                parts.append([stage])
        return parts

    def list_stage_names(self) -> list[str]:
        """The names of the stages, without the user's two functions.

        Returns:
            The names, in the order of the stages.
        """
        return list(self.stages)

    def get_stage_by_name(self, name: str) -> Stage:
        """A stage.

        Args:
            name: Its name.

        Returns:
            The stage.

        Raises:
            ValueError: There is none of this name.
        """
        if name not in self.stages:
            raise ValueError(f"there is no stage {name!r}: there are {', '.join(map(repr, self.stages))}")
        return self.stages[name]

    def log_input_column_names(self) -> None:
        """Logs, as information, which columns the first stage needs: the dataset must have them, or ``preprocess`` return them."""
        first = next(iter(self.stages.values()))
        lines = [f"The first stage of the processor is {first.name}."]
        for title, columns in (("Required", first.required), ("Optional", first.optional)):
            if columns:
                lines.append(f"{title} input columns:")
                lines += [f"\t{name}: {what}" for name, what in columns.items()]
        logger.info("\n".join(lines))


def _with_part(dataset: Dataset, part: list[Stage], ends: Ends, failures: dict[str, Any]) -> Dataset:
    """The dataset with the work of some stages in the same workers."""
    stage = part[0]
    options = {**stage.options(), **failures}
    if stage.is_async:
        return dataset.map(stage.fn, fn_constructor_args=(ends, *stage.arguments), **options)
    steps = [(each.name, each.fn, each.arguments, each.required) for each in part]
    return dataset.map_batches(
        TextStages,
        fn_constructor_args=(ends, *steps),
        batch_format="pyarrow",
        udf_modifying_row_count=False,
        **options,
    )


def build_processor(
    config: ProcessorConfig,
    preprocess: RowFunction | None = None,
    postprocess: RowFunction | None = None,
    preprocess_map_kwargs: Mapping[str, Any] | None = None,
    postprocess_map_kwargs: Mapping[str, Any] | None = None,
    builder_kwargs: Mapping[str, Any] | None = None,
) -> Processor:
    """Makes a processor of settings.

    Args:
        config: The settings: of which class they are says what the processor does.
        preprocess: A function from a row (a dict) to a dict of columns that the row gets for the stages: ``payload``, ``messages``,
            ``sampling_params``, ... All others stay.
        postprocess: A function from a row with all columns to the row that comes out; ``{**row, ...}`` keeps them. By default all
            come out.
        preprocess_map_kwargs: Options of :meth:`~aktis.data.Dataset.map` (``num_cpus``, ``memory``, ``concurrency``): ``preprocess`` then
            has workers of its own. By default it runs in those of the first stage.
        postprocess_map_kwargs: The same for ``postprocess``, and the last stage.
        builder_kwargs: ``{"chat_template_kwargs": {...}}``, for what templates get besides.

    Returns:
        The processor. Call it with a dataset.

    Raises:
        TypeError, ValueError: Something cannot be meant.
        NotImplementedError: Something of Ray that is not there, with what to do instead.

    Example:
        >>> processor = build_processor(HttpRequestProcessorConfig(url="http://127.0.0.1:8000/v1/embeddings"))
        >>> processor.get_stage_by_name("HttpRequestStage").get_required_input_keys()
        {'payload': 'what is sent, as JSON'}
    """
    build = next((build for kind, build in _BUILDERS.items() if isinstance(config, kind)), None)
    if build is None:
        kinds = ", ".join(kind.__name__ for kind in _BUILDERS)
        raise TypeError(f"build_processor() takes settings of a processor ({kinds}), not {type(config).__name__}")
    for name, function in (("preprocess", preprocess), ("postprocess", postprocess)):
        _check_function(name, function)
    for name, options in (
        ("preprocess_map_kwargs", preprocess_map_kwargs), ("postprocess_map_kwargs", postprocess_map_kwargs), ("builder_kwargs", builder_kwargs),
    ):  # fmt: skip
        if options is not None and not isinstance(options, Mapping):
            raise TypeError(f"build_processor({name}=...) is a dict of options, not {options!r:.60}")
    # They may have been assigned to since they were made.
    config._check()
    stages = build(config, dict(builder_kwargs or {}))
    return Processor(config, stages, preprocess, postprocess, preprocess_map_kwargs, postprocess_map_kwargs)


def _check_function(name: str, function: Any) -> None:
    if function is None:
        return
    if inspect.isclass(function) or not callable(function):
        raise TypeError(f"build_processor({name}=...) is a function from a row to a dict, not {function!r}")
    if inspect.iscoroutinefunction(function):
        raise TypeError(
            f"build_processor({name}=...) is an ordinary function: what waits is a stage of its own, with map()"
        )


def _http_stages(config: Any, builder_kwargs: dict[str, Any]) -> list[Stage]:
    Keywords("build_processor(builder_kwargs=...)").check(builder_kwargs)
    return _http_requests.stages(config)


def _vllm_stages(config: Any, builder_kwargs: dict[str, Any]) -> list[Stage]:
    more = builder_kwargs.pop("chat_template_kwargs", None)
    if more is not None and not isinstance(more, Mapping):
        raise TypeError(
            f"build_processor(builder_kwargs=...): chat_template_kwargs is a dict, as {{'enable_thinking': False}}, not {more!r:.60}"
        )
    Keywords("build_processor(builder_kwargs=...)", used=("chat_template_kwargs",)).check(builder_kwargs)
    return _vllm_config.stages(config, more)


_BUILDERS: dict[type, Callable[[Any, dict[str, Any]], list[Stage]]] = {
    HttpRequestProcessorConfig: _http_stages,
    _vllm_config.vLLMEngineProcessorConfig: _vllm_stages,
}
