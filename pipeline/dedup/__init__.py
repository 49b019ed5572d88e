"""Finding duplicates: from stored hashes to buckets, from buckets to survivors; arrays of numbers, never of objects."""
