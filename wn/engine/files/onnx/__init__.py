"""Networks from ONNX files: read, understood, and turned into layers."""
