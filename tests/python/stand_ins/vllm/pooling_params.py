"""What is made of a prompt that gets no text."""

import dataclasses


@dataclasses.dataclass
class PoolingParams:
    """What is made of a prompt."""

    dimensions: int | None = None
    use_activation: bool | None = None
    task: str | None = None
