"""Pages executed, recorded, swept; knows no theorem and no claim."""
