"""Built-in recipes and the locks of builds; data, no code."""
