"""What comes of a function within ``aktis.testing.local()`` and with workers, to be compared."""

import re


def plain(text):
    """Without what differs from run to run."""
    text = re.sub(r"\b[0-9a-f]{32,48}\b", "ID", text)
    return re.sub(r"pid=\d+| \(pid \d+\)|0x[0-9a-f]+|\w+\.<locals>\.", "", text)


def outcome(function, *arguments):
    """Its value, or what it raised."""
    try:
        return "value", function(*arguments)
    except Exception as error:  # noqa: BLE001 - compared
        kinds = [kind.__name__ for kind in type(error).__mro__ if kind not in (object, BaseException)]
        return "raised", kinds, plain(str(error)), getattr(error, "args", None) and type(error.__cause__).__name__
