"""Files that appear whole or not at all, and who may write them."""
