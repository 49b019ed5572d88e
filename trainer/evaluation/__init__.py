"""How good a model is: held-out likelihood by domain, and tasks."""
