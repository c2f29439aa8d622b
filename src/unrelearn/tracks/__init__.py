"""What kinds of model there are: which stages a run of each has."""
