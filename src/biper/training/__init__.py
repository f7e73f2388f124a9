"""Training a recipe. Begin with `run`; `trainer` has the loop and `step` one step of it."""
