"""What heads share whose training rows vote for their classes, however these rows are searched."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

from esmcls.heads.base import BaseLabelHead, labels_by_id
from esmcls.heads.neighbours.votes import Numbers, priors_of
from esmcls.labels.labels import Labels
from esmcls.types import Indices


class VotingHead(BaseLabelHead):
    """A head for one label that keeps the classes of its training rows, which vote."""

    codes: Indices
    """The class of each training row."""
    priors: Numbers
    """The share of each class among them."""

    @property
    @abstractmethod
    def _row_ids(self) -> Sequence[str]:
        """The ids of the training rows."""

    def _take_labels(self, labels: Labels) -> None:
        """Let rows of these labels vote from now on."""
        self.codes = labels.codes
        self.priors = priors_of(labels.codes, labels.n_classes)
        self.__dict__.pop("label_of_row", None)

    @cached_property
    def label_of_row(self) -> dict[str, str]:
        """The label of each training row by its id; ids of rows with different labels are not there."""
        return labels_by_id(self._row_ids, self.codes, self.classes)
