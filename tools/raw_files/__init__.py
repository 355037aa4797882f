"""Raw files of data sets on disk → images and labels; no TensorFlow.

source          the files of a folder or of an archive, and which format they are of
idx             MNIST and its kin
cifar10         CIFAR-10, the python archive and the binary one
safe_pickle     how pickled arrays are read without running code
"""
