"""A fitted head with its encoder: fitted, saved, loaded, asked."""
