//! Native model actors: text embedders on ONNX Runtime or candle, CPU or CUDA.
