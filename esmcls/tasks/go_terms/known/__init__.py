"""What is known of proteins before a model is asked: which terms are no news, and which cannot be."""
