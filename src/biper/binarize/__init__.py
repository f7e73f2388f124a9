"""Make the layers of any torch model binary.

`biper.binarize.dataflow` follows the data through the model, `biper.binarize.policy` decides which layers become
binary, `biper.binarize.signs` makes their inputs take both signs, `biper.binarize.replace` does it, and
`biper.binarize.report` says what became of each layer.
"""
