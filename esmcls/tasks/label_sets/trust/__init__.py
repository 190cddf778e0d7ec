"""How far an answer of terms is to be trusted."""
