"""Membership audits: whether scores of records, of models or of what they publish tell who was in.

One library for every kind of model. It knows none of them: what it reads are arrays, and of a
denoiser a function that predicts noise.
"""
