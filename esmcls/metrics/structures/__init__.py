"""How near a predicted CA trace, or its distances and contacts, are to the true ones: plain functions on arrays."""
