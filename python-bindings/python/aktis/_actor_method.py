"""A method of one actor, ready to be called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ._actor_host import GROUP_SEPARATOR
from ._options import METHOD_OPTIONS, check_options, native_method_options
from ._signature import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._aktis import ActorCore
    from ._methods import MethodSpec


class ActorMethod:
    """A method of an actor; :attr:`remote` calls it. Found as an attribute of an :class:`~aktis.ActorHandle`."""

    #: Calls the method and returns at once: a reference, a list of ``num_returns`` of them, or a generator of them.
    #: Calls made through handles of one process run in the order in which they are made.
    remote: Callable[..., Any]

    def __init__(
        self, core: ActorCore, class_name: str, name: str, spec: MethodSpec, changes: dict[str, Any] | None = None
    ):
        self._core = core
        self._class_name = class_name
        self._name = name
        self._spec = spec
        changes = changes or {}
        options = {**spec.options, **changes}
        # The process knows the group that the class declares; only one chosen by the caller must be sent.
        group = changes.get("concurrency_group")
        native_name = f"{group}{GROUP_SEPARATOR}{name}" if group else name
        template = core.method(native_name, native_method_options(options, is_generator=spec.is_generator))
        self.remote = checked(template.remote, f"{class_name}.{name}", spec.parameters)

    def options(self, **options: Any) -> ActorMethod:
        """The same method with other options.

        Args:
            num_returns: how many references a call gives, or ``"streaming"``.
            concurrency_group: in which the call runs.
            max_task_retries: how often it is repeated when the actor was restarted.
            retry_exceptions: also repeat it when it raises: ``True``, or a list of exception types.
            name: shown instead of the method's name.
        """
        check_options("method", METHOD_OPTIONS, options)
        return ActorMethod(self._core, self._class_name, self._name, self._spec, options)

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError(
            f"a method of an actor cannot be called directly: instead of {self._name}(), use {self._name}.remote()"
        )

    def __repr__(self) -> str:
        return f"ActorMethod({self._class_name}.{self._name})"
