"""Where the weights of an encoder come from: a name in, a file or folder of this machine out."""
