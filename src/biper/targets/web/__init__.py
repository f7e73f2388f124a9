"""One web page that holds the model and runs it in the browser."""

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
"""The operations of a program that the engine in the page has; `biper.runtime.program` defines them."""
