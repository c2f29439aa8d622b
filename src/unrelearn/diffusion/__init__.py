"""Denoising diffusion: maths, networks, sampling, and how weights are read and written."""
