"""Which of an encoder's layers serve a data set: compared by a cheap head on validation, chosen, cut off."""
