"""How an engine fails."""


class EngineDeadError(Exception):
    """The engine's process is gone."""
