"""Models as ONNX files that keep the dial: ratio and threshold are inputs of the graph."""
