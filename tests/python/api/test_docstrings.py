"""Everything public says what it takes, gives and raises, with an example that runs.

A section is asked for where the signature or the code calls for it: arguments have ``Args:`` that names each, a result has
``Returns:``, a ``raise`` has ``Raises:``. An example of a method may be that of its class.
"""

import ast
import dataclasses
import doctest
import enum
import importlib
import inspect
import re
import textwrap

import aktis
import pytest

MODULES = ["aktis", "aktis.actor", "aktis.data", "aktis.data.expressions", "aktis.data.llm", "aktis.models", "aktis.remote_function", "aktis.runtime_context", "aktis.testing",
           "aktis.util", "aktis.util.actor_pool", "aktis.util.named_actors", "aktis.util.queue",
           "aktis.util.scheduling_strategies"]  # fmt: skip
#: Written in Rust: without source and annotations. What they give and raise is told here.
NATIVE = {
    "ObjectRef": {"hex", "binary", "task_id", "is_ready", "is_inline", "on_ready", "future"},
    "ObjectRefGenerator": {"task_id", "next_within", "completed", "next_ready", "is_finished"},
}
#: Made by functions and decorators: nobody calls their constructors.
MADE_BY_AKTIS = {"ActorClass", "ActorHandle", "ActorMethod", "ActorId", "Chaos", "Dataset", "DatasetSummary", "Expr", "MaterializedDataset", "RemoteFunction",
                 "RuntimeContext", "Schema"}  # fmt: skip
WITHOUT_RESULT = {"on_ready"}
WITHOUT_ERRORS = {"hex", "binary", "task_id"}
pytestmark = pytest.mark.usefixtures("session")


def public_names(module):
    """What a module has for its users."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if name != "__version__"]
    return [name for name, value in vars(module).items() if name[0] != "_" and value_module(value) == module.__name__]


def value_module(value):
    return getattr(value, "__module__", None) if inspect.isclass(value) or inspect.isfunction(value) else None


def members(kind):
    """Public methods and properties of a class that are Aktis's own."""
    for name, value in inspect.getmembers(kind):
        owner = next((base for base in kind.__mro__ if name in base.__dict__), object)
        if name[0] == "_" or not owner.__module__.startswith("aktis"):
            continue
        if isinstance(value, property) or callable(value):
            yield name, value


def everything():
    """Each public name once, with its object and, for a method, the class."""
    seen = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in public_names(module):
            value = getattr(module, name)
            if value in seen or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            seen.append(value)
            yield f"{module_name}.{name}", value, None
            for method, function in members(value) if inspect.isclass(value) else ():
                if function not in seen:
                    seen.append(function)
                    yield f"{module_name}.{name}.{method}", function, value


EVERYTHING = {name: (value, owner) for name, value, owner in everything()}
EXCEPTIONS = {
    name: value
    for name, value in vars(aktis.exceptions).items()
    if inspect.isclass(value) and issubclass(value, aktis.exceptions.AktisError) and value.__name__ == name
}


def sections(text):
    """The sections of a docstring in Google's form, by name."""
    parts = re.split(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parameters(name, value):
    """The arguments that a caller may give."""
    if inspect.isclass(value):
        if not is_made_by_callers(value):
            return []
        value = value.__init__
    return [
        (each.name, each.kind is each.VAR_KEYWORD)
        for each in inspect.signature(value).parameters.values()
        if each.name not in ("self", "cls") and each.name[0] != "_"
    ]


def is_made_by_callers(kind):
    is_given = issubclass(kind, (BaseException, enum.Enum)) or kind.__name__ in MADE_BY_AKTIS
    return kind.__init__ is not object.__init__ and not is_given


def gives_something(name, value):
    """Whether a call has a result."""
    short = name.rpartition(".")[2]
    if short in {method for methods in NATIVE.values() for method in methods} and not inspect.isfunction(value):
        return short not in WITHOUT_RESULT
    return inspect.signature(value).return_annotation not in ("None", "NoReturn", None, inspect.Signature.empty)


def raises_something(name, value):
    """Whether a call raises by itself; what it calls may do so, too."""
    if isinstance(value, property):
        value = value.fget
    if inspect.isclass(value):
        value = value.__init__ if is_made_by_callers(value) and not dataclasses.is_dataclass(value) else None
    if not inspect.isfunction(value):
        return value is not None and name.rpartition(".")[2] not in WITHOUT_ERRORS
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    return any(isinstance(node, ast.Raise) for node in ast.walk(tree))


def missing_sections(name, value, owner):
    """What the docstring of a public name should have and has not."""
    text = inspect.getdoc(value) or ""
    has = sections(text)
    described = has.get("Args", "") + has.get("Attributes", "")
    for argument, is_any_keyword in parameters(name, value) if not isinstance(value, property) else ():
        # Options are described one by one, under their own names.
        is_there = re.search(rf"^ +[\w, *]*\b{argument}\b[\w, *]*:", described, re.MULTILINE)
        if not is_there and not (is_any_keyword and described):
            yield f"Args: {argument}"
    is_called = not inspect.isclass(value) and not isinstance(value, property)
    if is_called and gives_something(name, value) and not has.keys() & {"Returns", "Yields"}:
        yield "Returns"
    if raises_something(name, value) and "Raises" not in has:
        yield "Raises"
    if not has_example(name, value, text, owner):
        yield "Example"


def has_example(name, value, text, owner):
    if ">>> " in text or isinstance(value, property) or (inspect.isclass(value) and issubclass(value, BaseException)):
        return True
    short = name.rpartition(".")[2]
    if owner is None:
        return False
    # A class that is derived from shows what it has.
    given_by = next(base for base in owner.__mro__ if short in base.__dict__)
    shown = "\n".join(inspect.getdoc(kind) or "" for kind in {owner, given_by})
    return bool(re.search(rf"^(>>>|\.\.\.) .*\.{short}\b", shown, re.MULTILINE))


def test_the_walk_finds_what_is_public():
    assert {
        "aktis.ObjectRef.hex", "aktis.ObjectRefGenerator.completed", "aktis.actor.ActorMethod.options", "aktis.get",
        "aktis.data.Dataset.take", "aktis.data.DataContext.get_current", "aktis.remote_function.RemoteFunction.options",
        "aktis.util.ActorPool.map", "aktis.util.queue.Queue.get", "aktis.ActorClass.remote",
    } <= set(EVERYTHING)  # fmt: skip
    assert all(hasattr(getattr(aktis, kind), method) for kind, methods in NATIVE.items() for method in methods)


@pytest.mark.parametrize("name", EVERYTHING)
def test_docstring_has_what_the_signature_calls_for(name):
    assert list(missing_sections(name, *EVERYTHING[name])) == []


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions_say_when_they_are_raised_and_what_to_do(name):
    first, _, rest = (EXCEPTIONS[name].__dict__.get("__doc__") or "").partition(".")
    assert first and rest.strip(), "a sentence about when, and one about what to do"


SETTINGS = [
    (kind, field.name)
    for kind in (aktis.data.DataContext, aktis.data.ExecutionOptions, aktis.data.ExecutionResources)
    for field in dataclasses.fields(kind)
]


@pytest.mark.parametrize(("kind", "setting"), SETTINGS)
def test_settings_of_datasets_say_their_default(kind, setting):
    described = sections(inspect.getdoc(kind))["Attributes"]
    text = re.search(rf"^ +{setting}: (.*?)(?=^    \w+:|\Z)", described, re.MULTILINE | re.DOTALL)
    assert text and "default" in text[1].lower()


@pytest.mark.parametrize("kind", NATIVE)
def test_examples_of_native_types_run(kind):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    owner = getattr(aktis, kind)
    for name in ("", *sorted(NATIVE[kind])):
        text = inspect.getdoc(getattr(owner, name) if name else owner) or ""
        runner.run(doctest.DocTestParser().get_doctest(text, {}, f"{kind}.{name}", None, None))
    assert runner.tries > len(NATIVE[kind]) and runner.failures == 0
