"""From a program to files for a device: packed file, C99, web page, ONNX and OpenVINO, one package for each."""
