"""Classifiers: networks, their training, and the images that show nothing."""
