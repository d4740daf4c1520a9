"""Gates as formulas: the only room that imports sympy, entered when a formula is to be derived, proven or lowered."""
