"""Pictures with objects: boxes, classes and masks that move with the picture, and batches of them.

    objects.py        what a picture shows: Objects, and what mirroring, scaling and cutting does to them
    preparation.py    what validation and inference do to a picture
    augmentation.py   what training does to a picture and its objects
    batch.py          the batch that a detector wants: padded pictures, padded lists, three sizes
    dataset.py        what a set of such pictures is beyond a Dataset
    masks.py          run lengths and polygons
    reading.py        JSON that anybody can have made
    documents.py      files of COCO's, labelme's and plain ones, as COCO's three lists
    annotations.py    what of these lists is right, in arrays; what is wrong, in a line
    pictures.py       where the pictures lie
"""
