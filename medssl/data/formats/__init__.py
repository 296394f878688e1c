"""What the headers of image files say, checked before anything is unpacked."""
