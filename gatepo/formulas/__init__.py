"""Gates from text: a formula is parsed, checked, and turned into torch operations; the other side is derived."""
