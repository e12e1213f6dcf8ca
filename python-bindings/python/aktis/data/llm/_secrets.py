"""Secrets by their names: values of headers and of a url's query, which no message, no representation and no sign of a job has in it.

>>> shown("http://localhost/v1?key=abcd&version=2")
'http://localhost/v1?key=***&version=2'
>>> is_secret("X-Auth"), is_secret("X-Version")
(True, False)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_plus

_WORDS = ("auth", "key", "token", "secret", "cookie", "password", "credential", "signature")
#: Of a query, where names are short.
_PARAMETERS = frozenset({"sig", "code", "pass", "passwd", "pwd"})
_PARAMETER = re.compile(r"([?&]([^=&#]*)=)([^&#]*)")
_USER = re.compile(r"//[^/?#]*@")
#: What is shorter is found in any text.
_LEAST = 4


def is_secret(name: str) -> bool:
    """Whether a header of this name has a secret as its value."""
    return any(word in name.lower() for word in _WORDS)


def shown(url: str) -> str:
    """A url as others may see it."""
    masked = _PARAMETER.sub(lambda found: found[1] + ("***" if _is_parameter(found[2]) else found[3]), url)
    return _USER.sub("//***@", masked)


def secrets_of(url: str, headers: Mapping[str, str]) -> list[str]:
    """What no message may have in it, longest first: a server may say a key again that it does not like."""
    values = {value for name, value in headers.items() if is_secret(name)}
    values |= {value.rpartition(" ")[2] for value in values}
    for found in _PARAMETER.finditer(url):
        if _is_parameter(found[2]):
            values |= {found[3], unquote_plus(found[3])}
    return sorted((value for value in values if len(value) >= _LEAST), key=len, reverse=True)


def _is_parameter(name: str) -> bool:
    name = unquote_plus(name).lower()
    return is_secret(name) or name in _PARAMETERS
