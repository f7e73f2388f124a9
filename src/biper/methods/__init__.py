"""Published methods of binarization.

`biper.methods.settings` describes a method as data (a table of a recipe), `biper.methods.build` makes its quantizers,
and `biper.methods.closed_form` computes the quantization error of Laplace weights. The package imports nothing by
itself, so that reading a recipe does not import torch.
"""
