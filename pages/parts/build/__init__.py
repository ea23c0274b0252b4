"""The views of the Build page, one file each."""
