"""The command line: one file for each group of verbs, each verb a few lines over the library."""
