"""From a packed program to files for a device: packed file, C99, web page, ONNX and OpenVINO."""
