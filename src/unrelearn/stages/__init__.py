"""The kinds of work that a run consists of, a file for each family."""
