"""Recipes: training runs as commented TOML files, their schema, and the reader that checks them."""
