"""A reference used as if it were its value: errors that say what was forgotten.

The operators of values are added to the native type, each to raise with the way out. What scripts may rightly do with a
reference stays as it is: equality is identity (with a warning where the other side is plainly a value), attributes that are
not there are an ``AttributeError`` (``hasattr`` works), and ``__iter__`` is not there, so that nothing takes a reference for a
container: iterating ends in ``__getitem__``.

>>> import aktis
>>> ref = aktis.put([1, 2])
>>> len(ref)
Traceback (most recent call last):
...
TypeError: object of type 'aktis.ObjectRef' has no len(): aktis.get(ref) gives the value that the reference stands for
"""

from __future__ import annotations

from .. import _aktis

# As type checkers know it; `init` waits for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_BINARY = {
    "add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "divmod": "divmod()", "lshift": "<<", "rshift": ">>", "and": "&", "or": "|", "xor": "^",
}  # fmt: skip
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNARY = {"neg": "unary -", "pos": "unary +", "abs": "abs()", "invert": "unary ~"}
_OTHERS = {
    "len": "object of type 'aktis.ObjectRef' has no len()",
    "getitem": "'aktis.ObjectRef' object can neither be indexed nor iterated over",
    "setitem": "'aktis.ObjectRef' object does not support item assignment",
    "int": "int() takes a number, not an 'aktis.ObjectRef'",
    "float": "float() takes a number, not an 'aktis.ObjectRef'",
    "index": "'aktis.ObjectRef' object cannot be interpreted as an integer",
    "round": "round() takes a number, not an 'aktis.ObjectRef'",
}

#: Whether this process runs what others have sent: then the reference may have come inside of a container.
_is_worker = False


def begin_worker() -> None:
    """From now on errors say where references in a worker come from."""
    global _is_worker
    _is_worker = True


def way_out() -> str:
    """What to do with a reference to have its value."""
    text = "aktis.get(ref) gives the value that the reference stands for"
    if _is_worker:
        text += (
            ". Only references that are arguments themselves arrive as their values; those inside of a list, a dict or an "
            "object stay references"
        )
    return text


def install(kind: Any) -> None:
    """Adds the operators to a type of references."""
    for name, sign in _BINARY.items():
        setattr(kind, f"__{name}__", _binary(sign, is_reflected=False))
        setattr(kind, f"__r{name}__", _binary(sign, is_reflected=True))
    for name, sign in _COMPARISONS.items():
        setattr(kind, f"__{name}__", _comparison(sign))
    for name, sign in _UNARY.items():
        setattr(kind, f"__{name}__", _refusing(f"bad operand type for {sign}: 'aktis.ObjectRef'"))
    for name, text in _OTHERS.items():
        setattr(kind, f"__{name}__", _refusing(text))
    kind.__format__ = _format
    kind.__bool__ = _truth
    kind.__getattr__ = _attribute


def _name(value: Any) -> str:
    return "aktis.ObjectRef" if isinstance(value, _aktis.ObjectRef) else type(value).__qualname__


def _binary(sign: str, *, is_reflected: bool) -> Callable[[Any, Any], NoReturn]:
    def operator(ref: Any, other: Any, *_modulo: Any) -> NoReturn:
        left, right = (other, ref) if is_reflected else (ref, other)
        raise TypeError(f"unsupported operand type(s) for {sign}: '{_name(left)}' and '{_name(right)}': {way_out()}")

    return operator


def _comparison(sign: str) -> Callable[[Any, Any], NoReturn]:
    def comparison(ref: Any, other: Any) -> NoReturn:
        raise TypeError(f"'{sign}' not supported between instances of '{_name(ref)}' and '{_name(other)}': {way_out()}")

    return comparison


def _refusing(text: str) -> Callable[..., NoReturn]:
    def refuse(_ref: Any, *_arguments: Any) -> NoReturn:
        raise TypeError(f"{text}: {way_out()}")

    return refuse


def _format(ref: Any, specification: str) -> str:
    if specification:
        raise TypeError(f"{specification!r} formats a value, not an 'aktis.ObjectRef': {way_out()}")
    return str(ref)


def _truth(_ref: Any) -> bool:
    """A warning and no error: scripts ask so whether they have a reference at all."""
    import warnings

    warnings.warn(
        f"an ObjectRef is true, whatever its value is: {way_out()}. To ask whether there is a reference, write "
        "'ref is not None'",
        RuntimeWarning,
        stacklevel=2,
    )
    return True


#: Nobody takes these for references.
_PLAIN = (int, float, complex, str, bytes, list, tuple, dict, set)


def compared(other: Any) -> None:
    """A reference is compared with something that is none, by ``==`` or ``!=``: it is never equal. The native module asks.

    A warning and no error: a list that is searched for a value may have references in it.
    """
    if not isinstance(other, _PLAIN) and type(other).__module__.partition(".")[0] not in ("numpy", "pandas"):
        return
    import warnings

    warnings.warn(
        f"an ObjectRef is equal to no value, here one of type {type(other).__name__}: {way_out()}",
        RuntimeWarning,
        stacklevel=2,
    )


def _attribute(ref: Any, name: str) -> NoReturn:
    text = f"'aktis.ObjectRef' object has no attribute {name!r}"
    # Names that begin so are asked for by libraries that want to know what kind of thing this is.
    raise AttributeError(text if name.startswith("_") else f"{text}: {way_out()}", name=name, obj=ref)


install(_aktis.ObjectRef)
