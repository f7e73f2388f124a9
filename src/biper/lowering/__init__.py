"""From a torch module to a packed program: trace, operators, fusion, folding, packing and verification."""
