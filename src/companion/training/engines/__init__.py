"""Compiled kernels, each beside its plain twin in `companion.training.reference`."""
