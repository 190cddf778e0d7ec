"""How good models are: one, or several side by side."""

from esmcls.moved import hand_on_names

hand_on_names(__name__)
