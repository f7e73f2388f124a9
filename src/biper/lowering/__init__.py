"""From a torch module to a packed program: trace, one node an operator, fusion, folding, packing and verification."""
