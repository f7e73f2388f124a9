"""The packed file, `.biper`, written from a torch model once both agree on images."""

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
"""The operations that a packed file can have: every one that `biper.runtime.program` defines."""
