"""What every stage needs and none of them is about: files, seeds, progress, errors."""
