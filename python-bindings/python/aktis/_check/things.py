"""What the names of a script stand for: modules, functions and classes of Aktis, and objects of these classes."""

from __future__ import annotations

import importlib
import types
from dataclasses import dataclass
from typing import Any

from aktis._messages.missing import explained

from .differences import difference_of
from .verdicts import Verdict, different, missing, same


class Thing:
    """Something of Aktis that an expression stands for."""

    def verdict(self) -> Verdict | None:
        """What is told of its name, where that is used."""
        return None


@dataclass
class Missing(Thing):
    """A name of Ray's that is not there."""

    text: str
    #: Told already: what is reached through it says nothing new.
    is_told: bool = False

    def verdict(self) -> Verdict | None:
        told, self.is_told = self.is_told, True
        return None if told else missing(self.text)


@dataclass
class Named(Thing):
    """A module, function, class or method, with the name under which it is known."""

    path: str
    value: Any

    @property
    def is_module(self) -> bool:
        return isinstance(self.value, types.ModuleType)

    def verdict(self) -> Verdict | None:
        if self.is_module:
            return None
        told = difference_of(self.path)
        return different(f"{self.path}: {told}") if told else same(self.path)


@dataclass
class Instance(Thing):
    """An object of a class."""

    of: type


@dataclass
class Elements(Thing):
    """Several objects of a class: a list, a tuple."""

    of: type


@dataclass
class Remote(Thing):
    """A remote function (``task``), an actor class (``actor``), or a method with options (``method``)."""

    kind: str
    is_options: bool = False


def module(path: str) -> Named | Missing:
    """The module of Aktis for one of Ray's, by its dotted name."""
    names = path.split(".")
    found: Thing = Named("aktis", importlib.import_module("aktis"))
    for name in names[1:]:
        found = attribute(found, name) or found
        if isinstance(found, Missing):
            return found
    return found  # type: ignore[return-value]


def attribute(owner: Thing, name: str) -> Thing | None:
    """What ``owner.name`` stands for; nothing where that cannot be known."""
    if isinstance(owner, Missing):
        return owner
    if isinstance(owner, Named):
        return _member(owner, name)
    if isinstance(owner, Instance):
        return _method(owner.of, name)
    if isinstance(owner, Remote):
        return Remote(owner.kind, is_options=True) if name == "options" else None
    return None


def _member(owner: Named, name: str) -> Thing | None:
    path = f"{owner.path}.{name}"
    if not owner.is_module:
        return Named(path, getattr(owner.value, name)) if hasattr(owner.value, name) else None
    try:
        return Named(path, getattr(owner.value, name))
    except AttributeError as error:
        reason = str(error)
    if name.startswith("_"):
        return Missing(f"{path} is private to Ray: use what is public")
    try:
        return Named(path, importlib.import_module(path))
    except ModuleNotFoundError:
        return Missing(reason)
    except ImportError as error:
        return Missing(str(error))


def _method(owner: type, name: str) -> Thing:
    # A materialized dataset is a dataset.
    public = next((each.__name__ for each in owner.__mro__ if each.__name__ in _PUBLIC), owner.__name__)
    found = getattr(owner, name, None)
    if found is not None or name in getattr(owner, "__annotations__", {}):
        return Named(f"{public}.{name}", found)
    known = [each for each in dir(owner) if not each.startswith("_")]
    return Missing(explained(public, name, known))


def called(function: Named) -> Thing | None:
    """What a call gives, by the annotation of what it returns."""
    if isinstance(function.value, type):
        return Instance(function.value)
    told = getattr(function.value, "__annotations__", {}).get("return")
    if not isinstance(told, str):
        return None
    classes = _classes()
    if told in classes:
        return Instance(classes[told])
    container, bracket, inside = told.removesuffix("]").partition("[")
    first = inside.partition(",")[0].strip()
    if bracket and container in ("list", "tuple") and first in classes:
        return Elements(classes[first])
    return None


_PUBLIC = ("Dataset", "GroupedData", "DataIterator", "Processor")


def _classes() -> dict[str, type]:
    from aktis.data.dataset import Dataset, MaterializedDataset
    from aktis.data.grouped_data import GroupedData
    from aktis.data.iterator import DataIterator
    from aktis.data.llm import Processor

    return {each.__name__: each for each in (Dataset, MaterializedDataset, GroupedData, DataIterator, Processor)}
