"""What stores say when they refuse, in words that help, and whether asking again may help.

>>> is_final(OSError("AWS Error SLOW_DOWN during GetObject operation (HTTP status 503)"))
False
>>> error = OSError("When reading information for key 'a' in bucket 'b': AWS Error ACCESS_DENIED (HTTP status 403)")
>>> is_final(error)
True
>>> str(refused(error, "read s3://b/a", 1))[:46]
'[Errno 13] read s3://b/a: access is denied (40'
"""

from __future__ import annotations

import errno
import re
from typing import Any

#: What the texts of errors have in them. First come those that others might be taken for.
_KINDS: tuple[tuple[str, str], ...] = (
    ("slow", r"SLOW_DOWN|SlowDown|TooManyRequests|THROTTL|Throttl|status 429|RequestLimitExceeded"),
    ("bucket", r"NO_SUCH_BUCKET|NoSuchBucket|[Bb]ucket '[^']*' not found|ContainerNotFound|[Bb]ucket does not exist"),
    (
        "credentials",
        (r"[Nn]o credentials|NoCredentials|[Uu]nable to (locate|get) credentials|InvalidAccessKeyId|INVALID_ACCESS_KEY_ID"
        r"|SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH|ExpiredToken|EXPIRED_TOKEN|INVALID_CLIENT_TOKEN_ID|InvalidClientTokenId"
        r"|[Cc]ould not find default credentials|DefaultCredentialsError|UNAUTHENTICATED|AuthenticationFailed|status 401"),
    ),
    ("denied", r"ACCESS_DENIED|AccessDenied|PERMISSION_DENIED|AuthorizationFailure|Forbidden|status 403"),
    ("region", r"PERMANENT_REDIRECT|PermanentRedirect|status 301|AuthorizationHeaderMalformed"),
    ("missing", r"NO_SUCH_KEY|NoSuchKey|RESOURCE_NOT_FOUND|BlobNotFound|PathNotFound|status 404|[Ff]ile not found|[Pp]ath does not exist"),
)  # fmt: skip
#: What no second attempt changes, beside what these kinds say.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, TypeError, ImportError, AttributeError)  # fmt: skip

#: What an error has that says everything already.
_EXPLAINED = "aktis_explained"
_WITH_CREDENTIALS = (
    "give them with filesystem=, as pyarrow.fs.S3FileSystem(access_key=..., secret_key=...) or GcsFileSystem(...), or set them "
    "where the workers run (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, "
    "AZURE_STORAGE_KEY); anonymous=True reads what is public"
)
_SAYS: dict[str, tuple[int, str]] = {
    "slow": (errno.EBUSY, "the store asks for fewer requests; use fewer workers, or try later"),
    "bucket": (errno.ENOENT, "there is no such bucket (or container); is its name right, and the endpoint?"),
    "credentials": (errno.EACCES, f"there are no credentials that the store takes; {_WITH_CREDENTIALS}"),
    "denied": (errno.EACCES, f"access is denied (403): the credentials that were found may not do this; {_WITH_CREDENTIALS}"),
    "region": (errno.EINVAL, "the bucket is in another region; give filesystem=pyarrow.fs.S3FileSystem(region=...)"),
    "missing": (errno.ENOENT, "there is no such file"),
}  # fmt: skip


def _kind(error: BaseException) -> str | None:
    for text in (f"{type(known).__name__}: {known}" for known in _chain(error)):
        for kind, pattern in _KINDS:
            if re.search(pattern, text):
                return kind
    if isinstance(error, FileNotFoundError):
        return "missing"
    return "denied" if isinstance(error, PermissionError) else None


def _chain(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_final(error: BaseException) -> bool:
    """Whether asking again would get the same answer."""
    if hasattr(error, _EXPLAINED):
        return True
    kind = _kind(error)
    if kind is not None:
        return kind != "slow"
    if isinstance(error, _FINAL):
        return True
    # Libraries have exceptions of their own for connections that break; a wrong value stays wrong.
    return isinstance(error, ValueError) and not isinstance(error, OSError)


def asks_for_patience(error: BaseException) -> bool:
    """Whether the store says that there are too many requests."""
    return _kind(error) == "slow"


def refused(error: BaseException, doing: str, attempts: int) -> OSError:
    """The error for what was being done: one of the system, of the class that goes with it, which says what helps."""
    if isinstance(error, OSError) and hasattr(error, _EXPLAINED):
        return error
    said = _first_line(error)
    kind = _kind(error)
    if kind is not None:
        number, text = _SAYS[kind]
    else:
        number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else getattr(error, "errno", None) or errno.EIO
        text = said if is_final(error) else f"{said}; is the endpoint right, and can this machine reach it?"
    details = [f"the store said: {said}"] if kind is not None else []
    details += [f"tried {attempts} times"] if attempts > 1 else []
    explained = OSError(number, f"{doing}: {text}" + (f" ({', '.join(details)})" if details else ""))
    setattr(explained, _EXPLAINED, True)
    return explained


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    lines = str(text).strip().splitlines()
    return lines[0][:400] if lines else type(error).__name__
