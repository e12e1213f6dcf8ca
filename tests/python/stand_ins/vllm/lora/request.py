"""Adapters."""

import dataclasses


@dataclasses.dataclass
class LoRARequest:
    """An adapter."""

    lora_name: str
    lora_int_id: int
    lora_path: str = ""
