"""The encoder itself, trained end to end."""

from esmcls.moved import hand_on_names

hand_on_names(__name__)
