"""Pictures with objects: boxes, classes and masks that move with the picture, and batches of them.

    objects.py      what a picture shows: Objects, and what flipping, scaling and cleaning does to them
    dataset.py      what a set of such pictures is beyond a Dataset
    batch.py        the batch that a detector wants: padded pictures, padded lists, three sizes
"""
