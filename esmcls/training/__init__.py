"""The one training loop, with its schedules, losses, optimisers and logs."""

from esmcls.moved import hand_on_names

hand_on_names(__name__)
