"""Training: the one loop (`trainer`), what it keeps (`state`, `checkpoint`, `run_folder`) and shows (`progress`)."""
