"""A method of one actor, ready to be called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar

from .._process import blocking_get
from .._process.actor_host import GROUP_SEPARATOR
from .._session import session
from .options import METHOD_OPTIONS, check_options, native_method_options
from .signature import checked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from .._aktis import ActorCore
    from .._typed import MethodOptions
    from .methods import MethodSpec

#: The parameters of the method, without ``self``.
P = ParamSpec("P")
#: What a call gives: references.
Out_co = TypeVar("Out_co", covariant=True)


class ActorMethod(Generic[P, Out_co]):
    """A method of an actor; :meth:`remote` calls it. Found as an attribute of an :class:`~aktis.ActorHandle`.

    >>> import aktis
    >>> @aktis.remote
    ... class Splitter:
    ...     def halves(self, x):
    ...         return x // 2, x - x // 2
    >>> splitter = Splitter.remote()
    >>> splitter.halves
    ActorMethod(Splitter.halves)
    >>> aktis.get(splitter.halves.remote(5))
    (2, 3)
    >>> aktis.get(splitter.halves.options(num_returns=2).remote(5))
    [2, 3]
    """

    def __init__(
        self,
        core: ActorCore,
        class_name: str,
        name: str,
        spec: MethodSpec,
        changes: Mapping[str, Any] | None = None,
        address: str | None = None,
    ):
        """``address``: of the session that the actor belongs to, if it may be over."""
        self._core = core
        self._class_name = class_name
        self._name = name
        self._spec = spec
        self._changes = changes = changes or {}
        self._address = address
        self._options = {**spec.options, **changes}
        # The process knows the group that the class declares; only one chosen by the caller must be sent.
        group = changes.get("concurrency_group")
        self._native_name = f"{group}{GROUP_SEPARATOR}{name}" if group else name
        self._bind()

    def _bind(self) -> None:
        """Puts the native submission in place of :meth:`remote`."""
        session.refuse_in_forked_child()
        if self._address is not None and self._address != session.address():
            raise _ended_with_session(self._class_name, self._core.id())
        options = native_method_options(self._options, is_generator=self._spec.is_generator)
        template = self._core.method(self._native_name, options)
        name = f"{self._class_name}.{self._name}"
        call = blocking_get.noting_own_calls(template.remote, self._core.id(), name)
        self.__dict__["remote"] = checked(call, name, self._spec.parameters)
        session.bind(self)

    def _unbind(self) -> None:
        self.__dict__.pop("remote", None)

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> Out_co:
        """Calls the method, and returns at once. Calls of one process run in the order in which they are made.

        Args:
            *args: for the method. A reference arrives as its value; inside of containers references stay references.
            **kwargs: for the method, by keyword.

        Returns:
            One :class:`~aktis.ObjectRef`; a list of ``num_returns`` of them; ``None`` if ``num_returns=0``; an
            :class:`~aktis.ObjectRefGenerator` for a generator.

        Raises:
            TypeError: the arguments do not fit the method, or one of them cannot be pickled.
            NotConnectedError: the session of the actor is over.
            PendingCallsLimitExceeded: ``max_pending_calls`` calls wait already.
        """
        self._bind()
        return self.remote(*args, **kwargs)

    def options(self, **options: Unpack[MethodOptions]) -> ActorMethod[P, Any]:
        """The same method with other options.

        Args:
            num_returns: how many references a call gives, or ``"streaming"``.
            concurrency_group: in which the call runs.
            max_task_retries: how often it is repeated when the actor was restarted.
            retry_exceptions: also repeat it when it raises: ``True``, or a list of exception types.
            name: shown instead of the method's name.

        Returns:
            Another :class:`ActorMethod`; this one stays as it is.

        Raises:
            ValueError: an option is not known (the nearest is named), or has an impossible value.
        """
        check_options("method", METHOD_OPTIONS, options)
        return ActorMethod(self._core, self._class_name, self._name, self._spec, options, self._address)

    if not TYPE_CHECKING:  # checkers are to report such a call

        def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
            raise TypeError(
                f"a method of an actor cannot be called directly: instead of {self._name}(), use {self._name}.remote()"
            )

    def __reduce__(self) -> Any:
        return _restore_method, (self._core.state(), self._class_name, self._name, tuple(self._spec), self._changes)

    def __repr__(self) -> str:
        return f"ActorMethod({self._class_name}.{self._name})"


def _ended_with_session(class_name: str, actor_id: str) -> Exception:
    from ..exceptions import NotConnectedError

    return NotConnectedError(
        f"actor {class_name} ({actor_id}) ended with its session, which shutdown() has ended: make a new one, "
        f"{class_name}.remote()"
    )


def _restore_method(
    core_state: tuple[Any, ...], class_name: str, name: str, spec: tuple[Any, ...], changes: dict[str, Any]
) -> ActorMethod[..., Any]:
    from .methods import MethodSpec

    return ActorMethod(session.runtime.ActorCore.restore(core_state), class_name, name, MethodSpec(*spec), changes)
