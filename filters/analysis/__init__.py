"""What texts are made of (words, lines, sentences), found once for whole batches by compiled kernels over UTF-8."""
