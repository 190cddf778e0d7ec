"""An encoder of one's own."""

from esmcls.moved import hand_on_names

hand_on_names(__name__)
