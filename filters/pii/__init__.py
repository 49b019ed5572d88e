"""Personal data in running text: a room for each kind, each a pure function from a text to ranges of characters.

`finder` runs kinds in their order of precedence and says what takes the place of a finding. Finders of numbers read
the text after `folding`, which writes digits and separators of all scripts in ASCII without moving any. What a kind
takes for data is what its authority can check (a checksum, a registry of ranges, a numbering plan); reserved examples
(documentation addresses, fictitious phone numbers, test cards) are nobody's and are left alone, and such examples are
what findings are replaced by, so that redacting a redacted text changes nothing.
"""
