"""The network of a packed program on torch, ONNX Runtime and OpenVINO, timed beside biper's own engine.

`biper.peers.engines` runs the comparison. No model needs this package to run. An engine is imported when a comparison
asks for it.
"""
