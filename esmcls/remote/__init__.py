"""What lies at a URL, through fsspec (extra `remote`): inputs that are streamed, workspaces in a store of objects."""
