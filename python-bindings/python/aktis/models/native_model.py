"""What models that run without Python have in common: where they run, and how they travel."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from . import hub
from .hub_files import HubModel


class NativeModel:
    """A description of a model that actors load once each; see :class:`aktis.models.TextEmbedder` for what the arguments mean."""

    #: What kind of model it is, as the actors call it.
    kind: str
    #: The attributes that name the columns that it reads, in the order of arguments in SQL.
    _inputs: tuple[str, ...]
    #: Those that name the columns that it adds.
    _outputs: tuple[str, ...]
    #: The attribute that says where it is.
    _place = "model_dir"
    #: The graph, from the folder, where one is named.
    onnx_file: str | None

    def __init__(self, *, device: str, intra_threads: int | None, replicas: int | None, revision: str | None) -> None:
        self.device = device
        self.intra_threads = intra_threads
        self.replicas = replicas
        self.revision = revision
        #: What was found of it on a hub.
        self._hub: HubModel | None = None

    def _found(self) -> Any:
        """The same model with the files that its name on a hub stands for, which are fetched if they are not here."""
        place = getattr(self, self._place)
        model = hub.named(place, self.revision) if self._hub is None else None
        if model is None:
            return self
        fetched = hub.fetch(model, lambda names: self._needed(str(model), names))
        found = copy.copy(self)
        found._hub = HubModel.of(fetched)
        setattr(found, self._place, fetched.folder)
        return found

    def _needed(self, model: str, names: Sequence[str]) -> list[str]:
        """What it needs of the files of a repository."""
        raise NotImplementedError

    def _graph_of(self, model: str, names: Sequence[str], places: Sequence[str]) -> str | None:
        """The graph that is meant among the files of a repository."""
        if self.onnx_file is None:
            return next((place for place in places if place in names), None)
        if self.onnx_file not in names:
            graphs = ", ".join(name for name in names if name.endswith(".onnx")) or "none"
            raise ValueError(f"{model} has no {self.onnx_file!r}. Its graphs are: {graphs}")
        return self.onnx_file

    def spec(self, *, replicas: int | None = None, sharing: int | None = None) -> dict[str, Any]:
        """What describes the model to its actors.

        Args:
            replicas: counts where the model itself names none.
            sharing: so many actors share the CPUs of a machine. Counts where nobody names replicas: who loads the model knows how
                many CPUs it has.

        Returns:
            A dictionary that can be written as JSON.

        >>> from aktis.models import ImageEmbedder, OnnxModel
        >>> ImageEmbedder("models/vit", pooling="mean").spec(replicas=3)["replicas"]
        3
        >>> OnnxModel("add.onnx", outputs=["y"]).spec()["outputs"]
        [('y', 'y')]
        """
        raise NotImplementedError

    def spec_json(self, *, replicas: int | None = None, sharing: int | None = None) -> str:
        """:meth:`spec`, under what kind of model it is, as the JSON that travels to the actors.

        Args:
            replicas: as for :meth:`spec`.
            sharing: as for :meth:`spec`.

        Returns:
            JSON.

        >>> from aktis.models import TextEmbedder
        >>> TextEmbedder("models/minilm").spec_json(replicas=2).startswith('{"text_embedder": ')
        True
        """
        described: dict[str, Any] = {self.kind: self.spec(replicas=replicas, sharing=sharing)}
        if self._hub is not None:
            described["hub"] = self._hub.as_dict()
        return json.dumps(described)

    def _columns(self) -> tuple[list[str], Any]:
        """The columns that it reads, in the order of its arguments in SQL, and those that it adds, as a ``pyarrow.Schema``."""
        from aktis import _aktis

        _, added = _aktis.data.Plan.model_columns(self.spec_json())
        return [getattr(self, name) for name in self._inputs], added

    def _over(self, names: Mapping[str, str]) -> NativeModel:
        """The same model, with other names for the columns that it reads and adds.

        >>> from aktis.models import TextEmbedder
        >>> TextEmbedder("models/minilm")._over({"text": "body", "embedding": "vector"})
        TextEmbedder('models/minilm', column='body', output_column='vector', backend='auto')
        """
        renamed = copy.copy(self)
        for attribute in (*self._inputs, *self._outputs):
            setattr(renamed, attribute, names[getattr(self, attribute)])
        return renamed

    def _placement(self, replicas: int | None, sharing: int | None) -> dict[str, Any]:
        return {
            "device": self.device,
            "intra_threads": self.intra_threads,
            "replicas": self.replicas if self.replicas is not None else replicas,
            "sharing": sharing,
        }


def check_count(name: str, value: object, *, or_auto: bool = False) -> None:
    """Refuses what is no whole number of at least 1, or ``"auto"`` where that may be.

    Args:
        name: what it is called.
        value: it.
        or_auto: whether ``"auto"`` is right, too.

    Raises:
        ValueError: it is neither.

    >>> check_count("batch_size", "auto", or_auto=True)
    >>> check_count("byte_budget", 0)
    Traceback (most recent call last):
    ...
    ValueError: byte_budget must be a whole number of at least 1, not 0
    """
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not is_count and not (or_auto and value == "auto"):
        auto = ', or "auto"' if or_auto else ""
        raise ValueError(f"{name} must be a whole number of at least 1{auto}, not {value!r}")
