"""Methods of binarization: as settings in a recipe, and as the quantizer modules that the settings ask for."""
