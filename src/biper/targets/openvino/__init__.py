"""OpenVINO graphs, with its binary convolution where that computes the same."""

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
        "constant",
        "unary",
        "binary",
        "select",
        "reduce",
        "softmax",
        "normalize",
        "matmul",
        "reshape",
        "permute",
        "slice",
        "expand",
        "join",
        "pad",
        "sample",
    }
)
"""The operations of a program that this target can write; `biper.runtime.program` defines them."""
