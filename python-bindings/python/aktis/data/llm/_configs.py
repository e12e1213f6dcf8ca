"""Settings of processors, with the names that they have in Ray."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from aktis.data import _failing
from aktis.data._keywords import REMOTE_ARGS, Refused

from . import _secrets
from ._stage_configs import HttpRequestStageConfig, Settings, check_concurrency, check_count, check_number, settings

if TYPE_CHECKING:
    from aktis.data._typed import OnError


@settings
class ProcessorConfig(Settings):
    """What every processor may be given.

    Args:
        batch_size: Rows at once; each processor says of what.
        accelerator_type: Ray's; refused, as for :meth:`~aktis.data.Dataset.map_batches`.
        concurrency: Workers at most, or ``(least, most)``. A worker has many requests under way.
        should_continue_on_error: Rows that fail are put aside as dead letters, and those that do not have an empty
            ``__inference_error__``; the same as ``on_error="dead_letter"``.
        on_error: As of :meth:`~aktis.data.Dataset.map_batches`, for all that is done with a row.
        max_errors: As of :meth:`~aktis.data.Dataset.map_batches`, for each stage.
        max_error_ratio: As of :meth:`~aktis.data.Dataset.map_batches`, for each stage.

    Raises:
        TypeError, ValueError: An argument is not known, or cannot be meant.
        NotImplementedError: An argument of Ray that is not there, with what to do instead.

    >>> ProcessorConfig(concurrency=0)
    Traceback (most recent call last):
    ...
    ValueError: ProcessorConfig: concurrency must be a whole number of at least 1, not 0
    """

    batch_size: int = 32
    accelerator_type: str | None = None
    concurrency: int | tuple[int, int] = 1
    should_continue_on_error: bool = False
    on_error: OnError | None = None
    max_errors: int | None = None
    max_error_ratio: float | None = None

    _REFUSED: ClassVar[Mapping[str, Refused]] = {
        name: Refused("Ray 2.60 has it no more either; " + way_out, ())
        for name, way_out in {
            "resources_per_bundle": "give placement_group_config={'bundles': [...]}",
            "experimental": "give what was in it as an argument of its own",
        }.items()
    }

    def _check(self) -> None:
        """Raises for what cannot be meant."""
        name = type(self).__name__
        check_count(name, "batch_size", self.batch_size)
        check_concurrency(name, self.concurrency)
        if self.accelerator_type is not None:
            raise NotImplementedError(
                f"{name}(accelerator_type=...) is not there yet: {REMOTE_ARGS['accelerator_type'].way_out}"
            )
        if not isinstance(self.should_continue_on_error, bool):
            raise TypeError(f"{name}: should_continue_on_error is True or False, not {self.should_continue_on_error!r}")
        if self.should_continue_on_error and self.on_error not in (None, "dead_letter"):
            raise ValueError(
                f"{name}: should_continue_on_error=True means on_error='dead_letter', not {self.on_error!r}: give one of them"
            )
        _failing.of_step(f"{name}()", **self._failures())

    def _failures(self) -> dict[str, Any]:
        """What becomes of rows that fail, as :meth:`~aktis.data.Dataset.map` takes it."""
        on_error = "dead_letter" if self.should_continue_on_error else self.on_error
        return {"on_error": on_error, "max_errors": self.max_errors, "max_error_ratio": self.max_error_ratio}


@settings
class HttpRequestProcessorConfig(ProcessorConfig):
    """Sends the column ``payload`` of each row to an endpoint, as JSON, and puts the answer into ``http_response``.

    An answer is what came with a status of 200 to 299 and is JSON. Status 408, 429 and 500 and above, connections that fail or end early
    and time-outs are tried again, later each time; the others fail the row at once.

    Args:
        url: Where requests are sent.
        headers: Headers of each request. A payload with files is sent as a form (``multipart/form-data``), others as JSON. Files are
            bytes, and dicts whose ``content`` is bytes or has a ``filename`` beside it.
        api_key: Sent as ``Authorization: Bearer ...``. It is in no message.
        api_key_env: The environment variable of this process that has it; spaces and ends of lines around it are left off.
        batch_size: Requests that each worker has under way.
        qps: Requests per second, of all workers together: each has its share, as if there were as many as ``concurrency`` allows.
        timeout_s: Seconds for a request, from the connection to the end of the answer.
        max_retries: How often a request is sent again. With 0 each has a connection to itself, so that none is sent twice: a server may
            close one that is used again while a request is on its way.
        base_retry_wait_time_in_s: The wait before the second try, which doubles with each; a random part of up to a half is left off.
        max_retry_wait_time_in_s: The longest wait. A server may ask for up to so much (``Retry-After``); more fails the row.
        session_factory: A function that makes a session of aiohttp, which then sends the requests. Without one, Python's own
            ``http.client`` does, with ``HTTPS_PROXY``, ``NO_PROXY`` and ``SSL_CERT_FILE`` as usual.
        http_request_stage: Settings of the stage: a dict or :class:`HttpRequestStageConfig`.
        concurrency, accelerator_type, should_continue_on_error, on_error, max_errors, max_error_ratio: As of :class:`ProcessorConfig`.

    Raises:
        TypeError, ValueError, NotImplementedError: As of :class:`ProcessorConfig`.

    >>> HttpRequestProcessorConfig(url="localhost:8000/v1")
    Traceback (most recent call last):
    ...
    ValueError: HttpRequestProcessorConfig: url must begin with http:// or https://, not 'localhost:8000/v1'
    """

    url: str
    headers: Mapping[str, Any] | None = dataclasses.field(default=None, repr=False)
    api_key: str | None = dataclasses.field(default=None, repr=False)
    api_key_env: str | None = None
    batch_size: int = 64
    qps: float | None = None
    timeout_s: float = 300
    max_retries: int = 5
    base_retry_wait_time_in_s: float = 1
    max_retry_wait_time_in_s: float = 60
    session_factory: Callable[[], Any] | None = None
    http_request_stage: bool | Mapping[str, Any] | HttpRequestStageConfig = dataclasses.field(default=True, repr=False)

    def __repr__(self) -> str:
        told = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.repr}
        # There may be a key in it; and anything else, since it was assigned to.
        told["url"] = _secrets.shown(str(self.url))
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in told.items())})"

    def _check(self) -> None:
        """Raises for what cannot be meant."""
        super()._check()
        name = type(self).__name__
        self._check_url(name)
        if self.qps is not None:
            check_number(name, "qps", self.qps)
        check_number(name, "timeout_s", self.timeout_s)
        check_count(name, "max_retries", self.max_retries, 0)
        check_number(name, "base_retry_wait_time_in_s", self.base_retry_wait_time_in_s, may_be_zero=True)
        check_number(name, "max_retry_wait_time_in_s", self.max_retry_wait_time_in_s, may_be_zero=True)
        if self.session_factory is not None and not callable(self.session_factory):
            raise TypeError(f"{name}: session_factory is a function that makes a session of aiohttp")
        self._check_headers(name)

    def _check_url(self, name: str) -> None:
        if not isinstance(self.url, str):
            raise TypeError(f"{name}: url is a text, not {self.url!r}")
        told = repr(_secrets.shown(self.url))
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{name}: url cannot be read ({error}): {told}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{name}: url must begin with http:// or https://, not {told}")
        if port == 0:
            raise ValueError(f"{name}: url has port 0, where nobody answers: {told}")
        if not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise ValueError(f"{name}: url has a sign that must be written as %XX: {told}")
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                f"{name}: a url has no user and password here: give headers={{'Authorization': ...}} or api_key"
            )

    def _check_headers(self, name: str) -> None:
        if self.headers is not None and not isinstance(self.headers, Mapping):
            raise TypeError(f"{name}: headers is a dict, not {type(self.headers).__name__}")
        if self.api_key is not None and not isinstance(self.api_key, str):
            raise TypeError(f"{name}: api_key is a text, not {type(self.api_key).__name__}")
        if self.api_key_env is not None and (not isinstance(self.api_key_env, str) or not self.api_key_env):
            raise TypeError(f"{name}: api_key_env is the name of an environment variable, not {self.api_key_env!r}")
        if self.api_key is not None and self.api_key_env is not None:
            raise ValueError(f"{name}: give either api_key or api_key_env")
        for header, value in (self.headers or {}).items():
            if not isinstance(value, (str, int, float)):
                raise TypeError(
                    f"{name}: the header {header!r} is {type(value).__name__}, not a text: give one, or leave it out"
                )
        headers = {str(header).lower(): str(value) for header, value in (self.headers or {}).items()}
        if "authorization" in headers and (self.api_key is not None or self.api_key_env is not None):
            raise ValueError(f"{name}: headers has an Authorization already: leave it out, or the key")
        for header, value in [*headers.items(), ("api_key", self.api_key or "")]:
            # Not the value: it may be a secret.
            if not _is_for_headers(header + value):
                raise ValueError(f"{name}: the header {header!r} has a character that no header may have")
            if not header.strip() or ":" in header:
                raise ValueError(f"{name}: {header!r} is no name of a header")

    def _all_headers(self) -> dict[str, str]:
        """The headers with the key, whose place is looked at now.

        Raises:
            ValueError: There is no such environment variable, or it cannot be a key.
        """
        headers = {str(header): str(value) for header, value in (self.headers or {}).items()}
        key = self.api_key
        if self.api_key_env is not None:
            # Out of a file it comes with the end of its line.
            key = os.environ.get(self.api_key_env, "").strip()
            what = f"{type(self).__name__}: api_key_env={self.api_key_env!r}: the environment variable"
            if not key:
                raise ValueError(f"{what} is not set in this process")
            if not _is_for_headers(key):
                raise ValueError(f"{what} has a character within that no header may have, as the end of a line")
        return headers | ({} if key is None else {"Authorization": f"Bearer {key}"})


def _is_for_headers(text: str) -> bool:
    """Whether a header may have these characters."""
    return text.isascii() and not any(sign in text for sign in "\r\n\0")
