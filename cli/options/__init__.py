"""What commands share: their options, a module for what each is for, and how commands speak."""
