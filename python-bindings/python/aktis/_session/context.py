"""What ``init`` returns."""

from __future__ import annotations

import sys
from collections.abc import Mapping

# As type checkers know it: every session waits for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

    _Fields = Mapping[str, Any]
else:
    _Fields = Mapping


class SessionContext(_Fields):
    """Describes a session; as a context manager, ends it.

    Attributes:
        address_info: ids and addresses: ``node_id``, ``session_dir``, ``raylet_socket_name``, ``gcs_address`` ...
        dashboard_url: empty; kept because Ray has it.
    """

    def __init__(self, native: dict[str, Any]):
        gcs_address = native.get("gcs_address") or ""
        self.address_info: dict[str, Any] = {
            "node_id": native["node_id"],
            "job_id": native.get("job_id"),
            "namespace": native.get("namespace"),
            "node_ip_address": native.get("node_ip_address", "127.0.0.1"),
            "session_dir": native.get("session_dir"),
            "raylet_socket_name": native.get("raylet_socket"),
            "object_store_address": None,
            "gcs_address": gcs_address,
            "address": gcs_address,
            "webui_url": "",
        }
        self.dashboard_url = ""
        self.python_version = sys.version.split()[0]

    def __getitem__(self, name: str) -> Any:
        return self.address_info[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Ends the session."""
        from .session import shutdown

        shutdown()

    def __repr__(self) -> str:
        info = self.address_info
        return f"SessionContext(node_id={info['node_id']!r}, session_dir={info['session_dir']!r})"

    def _repr_html_(self) -> str:
        from .._messages import html

        return html.titled(
            "Aktis session",
            html.facts((name, self[name]) for name in ("node_id", "session_dir", "gcs_address", "namespace")),
        )
