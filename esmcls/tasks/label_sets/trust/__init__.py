"""How far an answer of many labels is to be trusted."""
