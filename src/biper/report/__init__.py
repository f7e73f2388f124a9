"""What a person looks at: the tables of a run, plots, the report page, and methods side by side."""
