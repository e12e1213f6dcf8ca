"""Settings that nobody reads: they would be accepted, and do nothing.

Names are compared and not types: a setting that shares its name with a field that is read passes.
"""

from __future__ import annotations

import re

from rust import Source

#: Where settings are declared and resolved. Reading them there is not using them.
_CONFIG = "common/src/config/"
_BLOCK = re.compile(r"^settings! \{(.*?)^\}", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r"^\s*([a-z_]+):[^;]*;", re.MULTILINE)


def complaints(files: list[Source]) -> list[str]:
    """One sentence for each setting that no program reads."""
    found = []
    readers = [source for source in files if not source.path.startswith(_CONFIG)]
    for source in files:
        for block in _BLOCK.finditer(source.code):
            for key in _KEY.finditer(block[1]):
                read = re.compile(rf"\.\s*{key[1]}\b(?!\s*\()")
                if not any(not by.is_test(use.start()) for by in readers for use in read.finditer(by.code)):
                    place = source.place(block.start(1) + key.start(1))
                    found.append(f"{place}: nothing reads the setting {key[1]}: delete it, or do what it says")
    return found
