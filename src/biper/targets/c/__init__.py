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
    }
)
"""The operations of a program that this target can write; `biper.runtime.program` defines them."""
