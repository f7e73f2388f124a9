"""Any torch model made binary: which layers are replaced, by what, and a report on each of them."""
