"""The command line of esmcls."""
