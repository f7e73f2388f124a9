"""The command line: one file for each group of commands; each command is a few lines that call the library."""
