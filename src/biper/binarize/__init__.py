"""Make the layers of any torch model binary.

`biper.binarize.policy` decides which layers, `biper.binarize.replace` replaces them, and `biper.binarize.report` says
what became of each layer.
"""
