"""A plugin for mypy, which knows what Python's types cannot say. Switched on in its configuration::

    [mypy]
    plugins = aktis.mypy_plugin

- A class under ``@aktis.remote`` is remote. mypy takes a decorated class for the class itself, and would report every
  ``Counter.remote()``. (Without the plugin, write ``RemoteCounter = aktis.remote(Counter)``.)
- A method of a handle has the parameters and the result of the method of the class; one that is not there is reported.
- A reference may stand for any argument by keyword, too.

Imported by mypy only.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.nodes import ARG_STAR2, SYMBOL_FUNCBASE_TYPES, Decorator, OverloadedFuncDef, TypeInfo, Var
from mypy.plugin import AttributeContext, ClassDefContext, MethodSigContext, Plugin
from mypy.plugins.common import add_attribute_to_class
from mypy.typeops import bind_self, type_object_type
from mypy.types import (
    AnyType,
    CallableType,
    FunctionLike,
    Instance,
    Parameters,
    Type,
    TypeOfAny,
    TypeType,
    UnionType,
    get_proper_type,
)  # fmt: skip

_REMOTE = "aktis._calls.decorators.remote"
_REFERENCE = "aktis._aktis.ObjectRef"
_STREAM = "aktis._aktis.ObjectRefGenerator"
_CLASS = "aktis.actor.ActorClass"
_HANDLE = "aktis.actor.ActorHandle"
_METHOD = "aktis._calls.actor_method.ActorMethod"
_FUNCTION = "aktis.remote_function.RemoteFunction"
#: What a remote class has of :class:`aktis.ActorClass`.
_OF_REMOTE_CLASSES = ("remote", "options")
#: Methods that every actor has, whatever its class.
_BUILT_IN = ("__ray_ready__", "__ray_terminate__", "__ray_call__")


def plugin(_version: str) -> type[Plugin]:
    """Found by mypy by this name."""
    return AktisPlugin


class AktisPlugin(Plugin):
    """Where mypy asks, and who answers."""

    def get_class_decorator_hook_2(self, fullname: str) -> Callable[[ClassDefContext], bool] | None:
        return _mark_remote if fullname == _REMOTE else None

    def get_class_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        name = fullname.rpartition(".")[2]
        if name not in _OF_REMOTE_CLASSES:
            return None
        return lambda context: self._of_remote_class(name, context)

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        owner, _, name = fullname.rpartition(".")
        return (lambda context: self._of_handle(name, context)) if owner == _HANDLE else None

    def get_method_signature_hook(self, fullname: str) -> Callable[[MethodSigContext], FunctionLike] | None:
        if fullname in (f"{_FUNCTION}.remote", f"{_CLASS}.remote"):
            return lambda context: self._with_references(context)
        return None

    def _instance(self, fullname: str, arguments: list[Type]) -> Instance:
        found = self.lookup_fully_qualified(fullname)
        assert found is not None and isinstance(found.node, TypeInfo), f"{fullname} is a class of Aktis"
        return Instance(found.node, arguments)

    def _or_reference(self, kind: Type) -> Type:
        return UnionType.make_union([kind, self._instance(_REFERENCE, [kind])])

    def _of_remote_class(self, name: str, context: AttributeContext) -> Type:
        """``Counter.remote`` or ``Counter.options``."""
        cls = get_proper_type(context.type)
        if isinstance(cls, CallableType):
            cls = get_proper_type(cls.ret_type)
        elif isinstance(cls, TypeType):
            cls = cls.item
        if not isinstance(cls, Instance) or "aktis" not in cls.type.metadata:
            return context.default_attr_type
        remote = self._instance(_CLASS, [type_object_type(cls.type)])
        member = remote.type.get_method(name)
        assert member is not None and isinstance(member.type, FunctionLike), "ActorClass has both"
        if name == "options":
            return _bound(member.type, remote) or context.default_attr_type
        constructor = get_proper_type(remote.args[0])
        handle = self._instance(_HANDLE, [cls])
        return self._loosened(constructor, handle) or AnyType(TypeOfAny.special_form)

    def _of_handle(self, name: str, context: AttributeContext) -> Type:
        """``handle.name``: a method of the class, ready to be called from afar."""
        handle = get_proper_type(context.type)
        cls = get_proper_type(handle.args[0]) if isinstance(handle, Instance) and handle.args else None
        if not isinstance(cls, Instance) or cls.type.fallback_to_any or name in _BUILT_IN:
            return context.default_attr_type
        symbol = cls.type.get(name)
        if symbol is None:
            if cls.type.get("__getattr__") is None:
                context.api.fail(f'Actor class "{cls.type.name}" has no method "{name}"', context.context)
            return context.default_attr_type
        signature = _bound(_type_of(symbol.node), cls)
        if not isinstance(signature, CallableType):
            return context.default_attr_type
        options = isinstance(symbol.node, Decorator)  # @aktis.method may change what a call gives
        result: Type = AnyType(TypeOfAny.explicit) if options else self._reference_to(signature.ret_type)
        loosened = self._loosened(signature, result)
        assert isinstance(loosened, CallableType)
        parameters = Parameters(loosened.arg_types, loosened.arg_kinds, loosened.arg_names)
        return self._instance(_METHOD, [parameters, result])

    def _reference_to(self, result: Type) -> Type:
        """What a call gives whose method returns ``result``."""
        proper = get_proper_type(result)
        if isinstance(proper, Instance) and proper.args:
            if proper.type.fullname in ("typing.Coroutine", "typing.Awaitable"):
                return self._instance(_REFERENCE, [proper.args[-1]])
            if proper.type.fullname.endswith(("typing.Iterator", "Generator", "typing.AsyncIterator")):
                return self._instance(_STREAM, [proper.args[0]])
        return self._instance(_REFERENCE, [result])

    def _with_references(self, context: MethodSigContext) -> FunctionLike:
        """``remote`` of a function or class whose parameters are known."""
        owner = get_proper_type(context.type)
        if not isinstance(owner, Instance) or not owner.args:
            return context.default_signature
        loosened = self._loosened(get_proper_type(owner.args[0]), context.default_signature.ret_type)
        return loosened or context.default_signature

    def _loosened(self, signature: Type, result: Type) -> FunctionLike | None:
        """The signature with references in the place of arguments, and what a call gives."""
        if not isinstance(signature, CallableType):
            return None
        takes = [
            kind if arg_kind == ARG_STAR2 and signature.unpack_kwargs else self._or_reference(kind)
            for kind, arg_kind in zip(signature.arg_types, signature.arg_kinds, strict=True)
        ]
        return signature.copy_modified(
            arg_types=takes, ret_type=result, fallback=self._instance("builtins.function", []), name="remote"
        )


def _mark_remote(context: ClassDefContext) -> bool:
    info = context.cls.info
    if "aktis" not in info.metadata:
        info.metadata["aktis"] = {"is_remote": True}
        for name in _OF_REMOTE_CLASSES:
            if name not in info.names:
                any_type = AnyType(TypeOfAny.special_form)
                add_attribute_to_class(context.api, context.cls, name, any_type, is_classvar=True)
    return True


def _type_of(node: object) -> Type | None:
    if isinstance(node, Decorator):
        return node.var.type
    if isinstance(node, (Var, OverloadedFuncDef, *SYMBOL_FUNCBASE_TYPES)):
        return node.type
    return None


def _bound(signature: Type | None, owner: Instance) -> Type | None:
    """A method without its ``self``."""
    from mypy.expandtype import expand_type_by_instance

    proper = get_proper_type(signature)
    if not isinstance(proper, FunctionLike):
        return None
    return get_proper_type(expand_type_by_instance(bind_self(proper, owner), owner))
