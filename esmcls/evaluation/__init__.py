"""How good models are: one, or several side by side."""
