"""Composed images: garments of Fashion-MNIST set into scenes that are drawn by formula. They are no photographs.

    colours.py      which colours things have
    garments.py     which garments there are: tones and silhouettes; their tints and patterns
    placing.py      poses: where a garment lies, how large, turned, leaning, bent
    backgrounds.py  colour fields, gratings, noise, leaves, two of them together
    clutter.py      pieces cut from other garments, on a background
    backdrops.py    backgrounds with clutter for many small images, each shown in part
    light.py        light from a side: on a garment, over the image, and the shadow that a garment casts
    camera.py       exposure, contrast, colour, blur, noise, and rounding to bytes
    scene.py        compose(): all of it, back to front, and which pixel shows which garment

Most parts are a tuple of plain values that says all of what is drawn, a function that draws such values from a
generator, and one that puts them into pixels. So a clip is one scene composed again and again with other poses.
Images are float32 [3, H, W], RGB, 0 is black and 1 white; points and directions are (y, x).
"""
