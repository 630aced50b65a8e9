"""What matplotlib draws with in the browser: figures as SVG, put out as a notebook does."""

from kernel import show
from matplotlib.backends.backend_svg import FigureCanvasSVG as FigureCanvas

__all__ = ["FigureCanvas", "show"]
