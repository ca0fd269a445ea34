"""An image assessed: what it will take, tables, flags, a bar meanwhile."""
