"""f(·; θ): classifiers, their architectures, and the devices that they compute on."""
