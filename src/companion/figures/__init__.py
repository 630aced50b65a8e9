"""How figures look, and the explorers of a page."""
