"""Native model actors: models that run in Rust, with no Python on the data path.

>>> from aktis.models import TextEmbedder
>>> embedder = TextEmbedder(".models/all-MiniLM-L6-v2", column="text")
>>> embedder.output_column
'embedding'
"""

from .onnxruntime_path import find_onnxruntime
from .text_embedder import TextEmbedder

__all__ = ["TextEmbedder", "find_onnxruntime"]
