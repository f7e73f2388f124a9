"""ONNX graphs of standard operators."""

OPERATIONS = frozenset(
    {
        "convolution",
        "binary_convolution",
        "pool",
        "elementwise",
        "pad_channels",
        "concatenate",
        "resize",
        "flatten",
    }
)
"""The operations of a program that this target can write; `biper.runtime.program` defines them."""
