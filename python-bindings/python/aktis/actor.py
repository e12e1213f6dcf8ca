"""Classes whose instances live in processes of their own.

>>> import aktis
>>> @aktis.remote
... class Counter:
...     def __init__(self, start=0):
...         self.value = start
...     def add(self, amount=1):
...         self.value += amount
...         return self.value
>>> counter = Counter.remote(10)
>>> aktis.get([counter.add.remote(), counter.add.remote(5)])
[11, 16]
"""

from __future__ import annotations

import functools
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

from ._calls.actor_method import ActorMethod
from ._calls.methods import ClassSpec, class_spec_from, class_spec_of
from ._calls.options import ACTOR_OPTIONS, check_options, native_actor_options
from ._calls.signature import check, parameters_of
from ._process.actor_host import ActorExit, call_limits, request_exit
from ._session import session
from ._values.definition import Definition, Payload

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Concatenate, ParamSpec, Unpack

    from ._aktis import ActorCore, ObjectRef
    from ._typed import ActorOptions

    A = TypeVar("A")
    B = TypeVar("B")
    C = TypeVar("C")
    D = TypeVar("D")
    T = TypeVar("T")
    #: The parameters of a constructor, or what is left of them after the first ones.
    Q = ParamSpec("Q")

#: The class that is remote, as ``type[Counter]``: its constructor tells checkers what :meth:`ActorClass.remote` takes.
Class_co = TypeVar("Class_co", covariant=True)
#: The class of an actor.
T_co = TypeVar("T_co", covariant=True)

__all__ = ["ActorClass", "ActorClassInheritanceException", "ActorHandle", "ActorId", "ActorMethod", "exit_actor"]


class ActorClassInheritanceException(TypeError):
    """A class inherits from one that is remote already."""


class ActorId(bytes):
    """The id of an actor.

    >>> ActorId(bytes(16)).binary() == bytes(16)
    True
    """

    def binary(self) -> bytes:
        """The id without its class.

        Returns:
            16 bytes.
        """
        return bytes(self)

    def __repr__(self) -> str:
        return f"ActorId({self.hex()})"


class ActorClass(Generic[Class_co]):
    """A class with options; :meth:`remote` starts an actor. Made by :func:`aktis.remote`.

    Static and class methods of the class can be called as they are: they need no actor.

    >>> import aktis
    >>> @aktis.remote
    ... class Counter:
    ...     def __init__(self, start=0):
    ...         self.value = start
    ...     def add(self, amount=1):
    ...         self.value += amount
    ...         return self.value
    >>> Counter
    ActorClass(Counter)
    >>> counter = Counter.options(max_restarts=1).remote(start=10)
    >>> aktis.get(counter.add.remote())
    11
    """

    def __init__(self, cls: type[Any], options: dict[str, Any]):
        check_options("actor", ACTOR_OPTIONS, options)
        self._set_up(cls, options, None)

    def _set_up(self, cls: type[Any], options: dict[str, Any], definition: Definition | None) -> None:
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__
        self._class = cls
        self._options = options
        self._definition = definition
        self._spec: ClassSpec | None = None

    # As RemoteFunction.remote: a reference may stand for any argument.
    @overload
    def remote(self: ActorClass[Callable[Q, T]], *args: Q.args, **kwargs: Q.kwargs) -> ActorHandle[T]: ...
    @overload
    def remote(
        self: ActorClass[Callable[Concatenate[A, Q], T]], _a: A | ObjectRef[A], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> ActorHandle[T]: ...
    @overload
    def remote(
        self: ActorClass[Callable[Concatenate[A, B, Q], T]],
        _a: A | ObjectRef[A],
        _b: B | ObjectRef[B],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> ActorHandle[T]: ...
    @overload
    def remote(
        self: ActorClass[Callable[Concatenate[A, B, C, Q], T]],
        _a: A | ObjectRef[A],
        _b: B | ObjectRef[B],
        _c: C | ObjectRef[C],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> ActorHandle[T]: ...
    @overload
    def remote(
        self: ActorClass[Callable[Concatenate[A, B, C, D, Q], T]],
        _a: A | ObjectRef[A],
        _b: B | ObjectRef[B],
        _c: C | ObjectRef[C],
        _d: D | ObjectRef[D],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> ActorHandle[T]: ...
    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle[Any]:  # type: ignore[misc]  # as RemoteFunction.remote
        """Starts an actor, and returns at once. The constructor runs in the actor's process.

        Args:
            *args: for the constructor. A reference arrives as its value; inside of containers references stay references.
            **kwargs: for the constructor, by keyword.

        Returns:
            An :class:`ActorHandle`, whose methods can be called at once; they wait for the constructor. What it raises is the
            cause of the :class:`~aktis.exceptions.ActorDiedError` that they give.

        Raises:
            TypeError: the arguments do not fit the constructor, or one of them cannot be pickled.
            ValueError: the name is empty, or ``get_if_exists`` is there without a name.
            ActorAlreadyExistsError: the name is taken.
        """
        options = self._options
        self._check_combinations()
        check(self._class.__name__, self._constructor_parameters(), args, kwargs)
        session.ensure_connected()
        if self._definition is None:
            self._definition = Definition(_with_groups(self._class, options.get("concurrency_groups")))
        class_id, captured = self._definition.export(self)
        spec = self._class_spec()
        state = spec.pickled()
        namespace = session.runtime.context()["namespace"] if options.get("name") else ""
        limits = call_limits(self._class, options)
        native = {**native_actor_options(options, namespace), **limits, "handle_state": state}
        core = session.runtime.ActorCore.create(class_id, spec.class_name, (*captured, *args), kwargs, native)
        return ActorHandle(core, class_spec_from(state), state)

    def _check_combinations(self) -> None:
        options = self._options
        if options.get("name") == "":
            raise ValueError("the name of an actor cannot be empty")
        if options.get("get_if_exists") and not options.get("name"):
            raise ValueError("get_if_exists needs a name to look for: pass name= too")

    def _constructor_parameters(self) -> Any:
        constructor = inspect.getattr_static(self._class, "__init__", None)
        if constructor is object.__init__:
            return None if self._class.__new__ is not object.__new__ else ()
        return parameters_of(constructor, skip_first=True) if constructor is not None else None

    def _class_spec(self) -> ClassSpec:
        if self._spec is None:
            self._spec = class_spec_of(self._class)
        return self._spec

    def options(self, **options: Unpack[ActorOptions]) -> ActorClass[Class_co]:
        """The same class with other options.

        Args:
            num_cpus: CPUs the actor holds as long as it lives. Without any resources given it needs one CPU to be
                placed, and none afterwards.
            num_gpus: GPUs it holds: a fraction of one, or a whole number. Its process sees only these.
            gpu_memory: bytes of GPU memory it holds.
            memory: bytes of memory it holds. A process that holds more for itself alone, and more than 32 MiB, is ended.
            resources: quantities of custom resources.
            max_restarts: how often it is started again when its process or node dies (0); -1 is without limit.
            max_task_retries: how often a call is repeated after that (0).
            max_concurrency: calls that run at once: 1; 1000 for a class with async methods.
            concurrency_groups: names of groups, with their own numbers of calls at once.
            max_pending_calls: calls of one caller that may wait (-1, without limit).
            name: under which :func:`aktis.get_actor` finds it.
            namespace: in which the name is unique; by default the session's.
            get_if_exists: return the actor that has this name already, if there is one.
            lifetime: ``"detached"`` to live on without handles, until killed.
            scheduling_strategy: ``"DEFAULT"``, ``"SPREAD"`` or a
                :class:`~aktis.util.scheduling_strategies.NodeAffinitySchedulingStrategy`.

        Returns:
            Another :class:`ActorClass`; this one stays as it is.

        Raises:
            ValueError: an option is not known (the nearest is named), has an impossible value, or is one of Ray's that is not
                there, with what to do instead.
        """
        check_options("actor", ACTOR_OPTIONS, options)
        variant: ActorClass[Class_co] = ActorClass.__new__(ActorClass)
        is_same_class = "concurrency_groups" not in options
        if is_same_class and self._definition is None:
            self._definition = Definition(_with_groups(self._class, self._options.get("concurrency_groups")))
        variant._set_up(self._class, {**self._options, **options}, self._definition if is_same_class else None)
        variant._spec = self._spec
        return variant

    if not TYPE_CHECKING:  # checkers are to report such a call

        def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
            name = self._class.__name__
            raise TypeError(f"an actor class cannot be instantiated directly: instead of {name}(), use {name}.remote()")

    def __getattr__(self, name: str) -> Any:
        """Attributes of the class, static and class methods: what can be reached without an instance. As in Ray.

        Methods of the actor itself refer to its class by this name: ``Model.LIMIT`` inside of a method means the same as
        before it was decorated.
        """
        cls = self.__dict__.get("_class")
        if cls is None or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(f"{self!r} has no attribute {name!r}", name=name, obj=self)
        value = getattr(cls, name)
        return _twin_of(value) if isinstance(value, FunctionType) else value

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self.__dict__.get("_class"))})

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._class)

    def __subclasscheck__(self, subclass: type[Any]) -> bool:
        return issubclass(subclass, self._class)

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> NoReturn:
        name = self.__dict__.get("__name__", "?")
        raise ActorClassInheritanceException(
            f"{name} is remote, and classes cannot inherit from a remote one: inherit from the plain class, and decorate "
            f"only what becomes an actor (for example 'Remote{name} = remote({name})')"
        )

    def __repr__(self) -> str:
        return f"ActorClass({self.__dict__.get('__qualname__', '?')})"

    def __reduce__(self) -> Any:
        return _restore_class, (self._class, self._options)

    @classmethod
    def _unfinished(cls, options: dict[str, Any]) -> ActorClass[Any]:
        """An instance that :meth:`_adopt` completes: stands for itself while its definition is being loaded."""
        unfinished = cls.__new__(cls)
        unfinished._options = options
        return unfinished

    def _adopt(self, target: type[Any], payload: Payload) -> None:
        self._set_up(target, self._options, Definition(target, payload))


def _twin_of(function: FunctionType) -> FunctionType:
    """A function that does the same. The function itself must not be found by the name of the remote class: a pickler would
    then refer to it by that name, while the class goes by value, and ``super()`` in it would be that of another class.
    """
    twin = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(twin, function)
    del twin.__wrapped__  # type: ignore[attr-defined]
    return twin


def _restore_class(cls: type[Any], options: dict[str, Any]) -> ActorClass[Any]:
    restored: ActorClass[Any] = ActorClass.__new__(ActorClass)
    restored._set_up(cls, options, None)
    return restored


def _with_groups(cls: type[Any], groups: dict[str, int] | None) -> type[Any]:
    """The class as workers get it: it carries its concurrency groups."""
    if not groups:
        return cls
    members = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    metaclass: Any = type(cls)
    return metaclass(cls.__name__, (cls,), {**members, "__aktis_concurrency_groups__": dict(groups)})


class ActorHandle(Generic[T_co]):
    """An actor, as seen by its callers. Its methods are called by ``handle.method.remote(...)``.

    A handle can be passed to tasks and other actors, and is equal to other handles of the same actor. The actor ends when the
    last handle is gone and its calls are done, unless it is detached. Its attributes are reached by methods only.

    >>> import aktis
    >>> @aktis.remote
    ... class Counter:
    ...     def __init__(self):
    ...         self.value = 0
    ...     def add(self, amount=1):
    ...         self.value += amount
    ...         return self.value
    >>> @aktis.remote
    ... def add_twice(counter):
    ...     return aktis.get([counter.add.remote(), counter.add.remote()])
    >>> aktis.get(add_twice.remote(Counter.remote()))
    [1, 2]
    """

    def __init__(self, core: ActorCore, spec: ClassSpec, state: bytes):
        self._core = core
        self._spec = spec
        self._state = state
        self._address = session.address()

    @property
    def _actor_id(self) -> ActorId:
        return ActorId(bytes.fromhex(self._core.id()))

    def __getattr__(self, name: str) -> ActorMethod[..., Any]:
        spec = self.__dict__.get("_spec")
        method = spec.methods.get(name) if spec is not None else None
        if spec is None or method is None:
            kind = spec.class_name if spec is not None else "ActorHandle"
            raise AttributeError(
                f"actor class {kind} has no method {name!r}; attributes of an actor can only be reached by methods",
                name=name,
                obj=self if spec is not None else None,
            )
        bound: ActorMethod[..., Any] = ActorMethod(self._core, spec.class_name, name, method, None, self._address)
        self.__dict__[name] = bound
        return bound

    if not TYPE_CHECKING:  # checkers report it

        def __setattr__(self, name: str, value: object) -> None:
            object.__setattr__(self, name, value)
            if not name.startswith("_"):
                from ._messages.user_warning import warn

                warn(
                    f"{name!r} is set on this handle only, and not on the actor: to change the actor, give "
                    f"{self._spec.class_name} a method that does, and call it by .remote()"
                )

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._spec.methods})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._core.id() == self._core.id()

    def __hash__(self) -> int:
        return hash(self._core.id())

    def __repr__(self) -> str:
        return f"Actor({self._spec.class_name}, {self._core.id()})"

    def _repr_html_(self) -> str:
        from ._messages import html

        return html.actor(self)

    def __reduce__(self) -> Any:
        return _restore_handle, (self._core.state(), self._state)


def _restore_handle(core_state: tuple[Any, ...], state: bytes) -> ActorHandle[Any]:
    return ActorHandle(session.runtime.ActorCore.restore(core_state), class_spec_from(state), state)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """The actor of this name.

    Args:
        name: given to it by ``.options(name=...)``.
        namespace: in which it was created; by default the session's.

    Returns:
        A handle, as :meth:`ActorClass.remote` gives it. It keeps the actor alive, as any other does.

    Raises:
        ValueError: there is no such actor, or it is dead; the name is empty.
        TypeError: the name is not a string.

    >>> import aktis
    >>> @aktis.remote
    ... class Greeter:
    ...     def greet(self):
    ...         return "hello"
    >>> keep = Greeter.options(name="greeter").remote()
    >>> aktis.get(aktis.get_actor("greeter").greet.remote())
    'hello'
    """
    if not name:
        raise ValueError(f"the name of an actor cannot be empty: got {name!r}")
    if not isinstance(name, str):
        raise TypeError(f"the name of an actor must be a string: got {name!r}")
    session.ensure_connected()
    runtime = session.runtime
    core, state = runtime.ActorCore.by_name(name, namespace or runtime.context()["namespace"])
    return ActorHandle(core, class_spec_from(bytes(state)), bytes(state))


def kill(actor: ActorHandle[Any], *, no_restart: bool = True) -> None:
    """Ends an actor at once, without running what still waits for it.

    Args:
        actor: its handle.
        no_restart: keep it from being started again by its ``max_restarts``.

    Raises:
        ValueError: ``actor`` is no handle.

    >>> import aktis
    >>> @aktis.remote
    ... class Greeter:
    ...     def greet(self):
    ...         return "hello"
    >>> greeter = Greeter.remote()
    >>> aktis.kill(greeter)
    >>> try:
    ...     aktis.get(greeter.greet.remote())
    ... except aktis.exceptions.ActorDiedError:
    ...     print("gone")
    gone
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(  # noqa: TRY004 - as in Ray
            f"kill() takes the handle of an actor: got {actor!r} of type {type(actor).__name__}"
        )
    actor._core.kill(no_restart)


def exit_actor() -> NoReturn:
    """Ends the actor that this is called in, after the method that calls it. It is not started again.

    Raises:
        TypeError: this process is not an actor.

    >>> import aktis
    >>> @aktis.remote
    ... class Server:
    ...     def close(self):
    ...         aktis.actor.exit_actor()
    >>> try:
    ...     aktis.get(Server.remote().close.remote())
    ... except aktis.exceptions.ActorDiedError:
    ...     print("closed")
    closed
    """
    from ._process import worker

    if worker.class_of_this_actor() is None:
        raise TypeError("exit_actor() can only be called in a method of an actor")
    request_exit()
    raise ActorExit(0)
