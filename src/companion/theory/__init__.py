"""The theorems as constructions: networks, dilations, witnesses and certificates."""
