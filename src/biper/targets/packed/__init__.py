"""The packed file, `.biper`: written from a torch model after both were compared."""
