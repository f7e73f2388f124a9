"""C99 source for microcontrollers, in float32 or in integers only."""
