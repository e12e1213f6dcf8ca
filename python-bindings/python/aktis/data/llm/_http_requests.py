"""A stage that sends a request for each row, many at once, and again where that may help."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import random
import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from ._answers import Answer, HttpRequestError, Refusal, judged
from ._bodies import encoded
from ._connections import Connections
from ._pace import Pace
from ._secrets import is_secret, secrets_of, shown
from ._stage_configs import HttpRequestStageConfig, resolved
from ._stages import AsyncStage, Ends, Stage

if TYPE_CHECKING:
    from ._configs import HttpRequestProcessorConfig


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where requests go, and how often."""

    #: There may be a key in it, too.
    url: str = dataclasses.field(repr=False)
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    timeout_s: float
    max_retries: int
    base_wait_s: float
    most_wait_s: float
    #: Of each worker.
    per_second: float | None
    session_factory: Callable[[], Any] | None

    def signed_parts(self) -> tuple[Any, ...]:
        """What answers depend on. A job goes on with another key, or at another pace."""
        plain = {name: value for name, value in self.headers.items() if not is_secret(name)}
        return (shown(self.url), plain)


class _Sender(Protocol):
    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer: ...


def stages(config: HttpRequestProcessorConfig) -> list[Stage]:
    """The one stage that a config asks for.

    Raises:
        ValueError: It says that there is none, or that the key is where it is not.
    """
    settings = resolved(
        config.http_request_stage, HttpRequestStageConfig, batch_size=config.batch_size, concurrency=config.concurrency
    )
    if not settings.enabled:
        raise ValueError("HttpRequestProcessorConfig: without its one stage, http_request_stage, it does nothing")
    wanted = settings.concurrency or 1
    workers = wanted if isinstance(wanted, int) else wanted[-1]
    endpoint = Endpoint(
        url=config.url,
        headers=config._all_headers(),
        timeout_s=config.timeout_s,
        max_retries=config.max_retries,
        base_wait_s=config.base_retry_wait_time_in_s,
        most_wait_s=config.max_retry_wait_time_in_s,
        per_second=None if config.qps is None else config.qps / workers,
        session_factory=config.session_factory,
    )
    required = {"payload": "what is sent, as JSON"}
    return [
        Stage(HttpRequestStage, (endpoint,), settings, required, in_flight=settings.batch_size or config.batch_size)
    ]


class HttpRequestStage(AsyncStage):
    """A request for each row."""

    def __init__(self, ends: Ends, endpoint: Endpoint) -> None:
        super().__init__(ends)
        self._endpoint = endpoint
        self._pace = Pace(endpoint.per_second)
        self._sender: _Sender | None = None
        parts = urlsplit(endpoint.url)
        #: Without a query, in which there may be a key.
        self._name = f"POST {parts.scheme}://{parts.netloc}{parts.path}"
        self._secrets = secrets_of(endpoint.url, endpoint.headers)
        self._sends_type = any(name.lower() == "content-type" for name in endpoint.headers)

    async def work(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The column that a row gets.

        Raises:
            HttpRequestError: There is no good answer.
        """
        body, kind = encoded(data["payload"])
        headers = dict(self._endpoint.headers)
        if not kind.startswith("application/json"):
            # A form has a boundary, which only its own type names.
            headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        if not self._sends_type or not kind.startswith("application/json"):
            headers["Content-Type"] = kind
        return {"http_response": await self._asked(body, headers)}

    async def _asked(self, body: bytes, headers: Mapping[str, str]) -> Any:
        began = time.monotonic()
        attempts = 0
        while True:
            await self._pace.turn()
            attempts += 1
            result = await self._once(body, headers)
            if not isinstance(result, Refusal):
                return result
            if not result.is_passing:
                raise self._failed(result, attempts, began)
            if attempts > self._endpoint.max_retries:
                raise self._failed(result, attempts, began, f"max_retries={self._endpoint.max_retries}")
            await asyncio.sleep(self._wait_s(result, attempts, began))

    async def _once(self, body: bytes, headers: Mapping[str, str]) -> Any:
        try:
            return judged(await self._sending().post(body, headers))
        except TimeoutError:
            return Refusal(f"no answer within timeout_s={self._endpoint.timeout_s:g}", True)
        except ssl.SSLCertVerificationError as error:
            return Refusal(f"{error}: the variable SSL_CERT_FILE names a file of certificates to trust", False)
        except (OSError, http.client.HTTPException) as error:
            return Refusal(_described(error), True)
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "aiohttp":
                raise
            return Refusal(_described(error), True)

    def _wait_s(self, refusal: Refusal, attempts: int, began: float) -> float:
        most_s = self._endpoint.most_wait_s
        wait_s = min(self._endpoint.base_wait_s * 2.0 ** min(attempts - 1, 64), most_s) * random.uniform(0.5, 1)
        asked_s = refusal.wait_s
        if asked_s is None:
            return wait_s
        if asked_s > most_s:
            limit = f"the server asks to wait {asked_s:g} s, more than max_retry_wait_time_in_s={most_s:g}"
            raise self._failed(refusal, attempts, began, limit)
        self._pace.hold(asked_s)
        # Not all at the same moment.
        return max(wait_s, asked_s * random.uniform(1, 1.2))

    def _failed(self, refusal: Refusal, attempts: int, began: float, limit: str = "") -> HttpRequestError:
        text = f"{self._name}: {refusal.text}"
        if attempts > 1:
            text += f" (after {attempts} attempts in {time.monotonic() - began:.1f} s"
            text += f"; {limit})" if limit else ")"
        elif limit:
            text += f" ({limit})"
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return HttpRequestError(text, status=refusal.status, attempts=attempts)

    def _sending(self) -> _Sender:
        if self._sender is None:
            endpoint = self._endpoint
            if endpoint.session_factory is None:
                may_send_twice = endpoint.max_retries > 0
                self._sender = Connections(endpoint.url, endpoint.timeout_s, may_send_twice=may_send_twice)
            else:
                # Here, because sessions belong to the loop that runs.
                self._sender = _OfSession(endpoint.session_factory(), endpoint)
        return self._sender


class _OfSession:
    """Requests by a session of aiohttp."""

    def __init__(self, session: Any, endpoint: Endpoint) -> None:
        if not hasattr(session, "post"):
            raise TypeError(f"session_factory must make a session of aiohttp, not {type(session).__name__}")
        self._session, self._endpoint = session, endpoint

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        async with asyncio.timeout(self._endpoint.timeout_s):
            async with self._session.post(self._endpoint.url, data=body, headers=dict(headers)) as response:
                told = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, response.reason or "", told, await response.read())


def _described(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "the answer broke off"
    text = str(error) or type(error).__name__
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"
