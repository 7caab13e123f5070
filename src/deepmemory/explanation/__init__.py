"""What Deep Memory changed in one ranking, and by which training queries."""
