"""Native model actors: models that run in Rust, with no Python on the data path. docs/data/models.md tells of them.

>>> from aktis.models import TextEmbedder
>>> embedder = TextEmbedder(".models/all-MiniLM-L6-v2", column="text")
>>> embedder.output_column
'embedding'
"""

from .image_embedder import ImageEmbedder
from .onnx_model import OnnxModel
from .onnxruntime_path import find_onnxruntime
from .reranker import Reranker
from .text_classifier import TextClassifier
from .text_embedder import TextEmbedder

__all__ = ["ImageEmbedder", "OnnxModel", "Reranker", "TextClassifier", "TextEmbedder", "find_onnxruntime"]
