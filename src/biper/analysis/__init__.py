"""Looking at 1-bit networks: plain tables about layers, weights and errors."""
