"""The gates as a table and as the paper's Figure 1."""
