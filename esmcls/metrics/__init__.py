"""How good predictions are: plain functions on arrays."""

from esmcls.moved import hand_on_names

hand_on_names(__name__)
