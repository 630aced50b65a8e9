"""The poster's experiments: synthetic systems, permuted MNIST, capacity."""
