"""Results as notebooks, terminals and papers show them: bars, tables in HTML, data frames, a statement."""
