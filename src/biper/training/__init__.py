"""Training: the one loop (`trainer`), what it keeps (`state`, `checkpoint`, `run_folder`), how it shows (`progress`)."""
