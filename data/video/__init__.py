"""Clips: what a network sees of a video, where videos lie on disk, how they are decoded, and which frames are taken.

    preparation.py  ClipPreparation: from frames to a clip
    sampling.py     which frames make a clip, by their times
    decoding.py     video files, by PyAV (an optional extra)
    shown.py        packets of a video file that hold no frame
    stills.py       videos that are stored as a folder of pictures
    views.py        a video of either kind, and the clips of it that a test averages
    layout.py       class folders and the lists of other programs
"""
