"""What a benchmark of speed found, as data: rows, the machine and the conditions, JSON files, and tables in Markdown.

Nothing here imports torch, NumPy or another engine, so that the documentation is built without them.
"""
