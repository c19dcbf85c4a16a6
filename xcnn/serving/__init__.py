"""A model as a service: images in, classes out, by HTTP (service.py); the same for files is `xcnn predict`."""
