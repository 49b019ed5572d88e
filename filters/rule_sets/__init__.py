"""Published rules as data, a TOML file each; `filters.named_rules` reads and composes them."""
