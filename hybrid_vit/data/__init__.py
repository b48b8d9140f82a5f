"""Data: a name and a folder -> batches of images and labels on the device that trains.

split.py     stratified splits
sources.py   data sets that fit into memory, as tensors
pictures.py  folders of pictures, decoded when asked for
loader.py    which samples each step takes, and the loaders that give them
module.py    all of it as a LightningDataModule
"""
