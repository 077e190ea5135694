"""Cells: brokers with agents of their own, whose updates stay beside them."""
