"""C99 source for microcontrollers, in float32 or in integers alone."""

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
"""The operations of a program that this target can write in float32; `biper.runtime.program` defines them."""

INTEGER_OPERATIONS = OPERATIONS
"""Those that it can write in integers alone; `biper.targets.c.fixed_arrays` refuses some of their functions by name."""
