"""Data: a name and a folder -> batches of images and labels on the device that trains.

split.py     stratified splits
sources.py   data sets that fit into memory, as tensors
decode.py    a picture of any kind as RGB
folders.py   what in a folder is a split, a class, a picture, and what is left out
listing.py   a CSV that lists pictures
pictures.py  folders and lists of pictures, decoded when asked for
medmnist.py  an .npz of MedMNIST
loader.py    which samples each step takes, and the loaders that give them
module.py    all of it as a LightningDataModule
"""
