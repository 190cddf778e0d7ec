"""The classes of each record, one or many, and the ontology that they are from."""

from esmcls.moved import hand_on_names

hand_on_names(__name__)
