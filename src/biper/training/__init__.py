"""Training: a run (`run`), its one loop (`trainer`), what it keeps (`state`, `checkpoint`, `run_folder`) and shows."""
