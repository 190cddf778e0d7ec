"""Data that comes with esmcls: the bundled encoder, the demo set, archives of file formats."""
