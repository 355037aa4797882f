"""D and the test set: rows of images and labels, wherever they come from."""
