"""Reports: one HTML file with tables and pictures, readable without a network."""
