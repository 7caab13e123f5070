"""Where documents and their vectors live."""
