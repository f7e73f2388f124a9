"""The network of a packed program on other engines, to be timed beside ours: torch, ONNX Runtime and OpenVINO.

`biper.peers.engines` runs the comparison. No model needs any of this to run; engines are imported when asked for.
"""
