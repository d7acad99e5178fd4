"""Lists of `path label`, files of class names, and class folders."""

import os

from hostile.files import ESCAPES, class_folders, link, of_data, pipe, png, sparse, written

CLASSES = "{name: image_folder, root: FOLDER/data, image_size: 8, resize_short: 8}"
IMAGES = CLASSES.replace("}", ", train: train.txt, validation: val.txt}")
VIDEOS = "{name: video_folder, root: FOLDER/data, train: train.txt, validation: val.txt, image_size: 8}"
GOOD = "cat/0.png 0\ndog/0.png 1\n"


def listed(text, data=IMAGES, **more):
    """Pictures with a training list of this text, and other files beside them."""

    def make(folder):
        class_folders(folder / "data")
        for name, content in {"train.txt": text, "val.txt": GOOD, **more}.items():
            written(folder / "data" / name.replace("_txt", ".txt"), content)
        return of_data(folder, data)

    return make


def placed(spoil, data=IMAGES):
    """The same, and `spoil(data folder)` at the end."""

    def make(folder):
        command = listed(GOOD, data)(folder)
        spoil(folder / "data")
        return command

    return make


def folders(spoil, data=CLASSES):
    """Class folders, and `spoil(data folder)`."""

    def make(folder):
        spoil(class_folders(folder / "data"))
        return of_data(folder, data)

    return make


def no_text(root):
    os.makedirs(os.fsencode(root / "x") + b"\xff\xfe")


CASES = {
    "an empty list": (listed(""), r"train\.txt: is empty"),
    "blank lines": (listed("\n \n\t\n"), r"train\.txt: is empty"),
    "a line without a label": (listed(GOOD + "cat/1.png\n"), r"train\.txt, line 3: got 'cat/1\.png', wanted `path la"),
    "a label of a word": (listed("cat/0.png cat\n"), r"line 1: got 'cat/0\.png cat', wanted"),
    "a label below 0": (listed("cat/0.png -1\n"), r"line 1: got 'cat/0\.png -1', wanted"),
    "a label by half": (listed("cat/0.png 0.5\n"), r"line 1: got .*0\.5"),
    "a label of 5,000 digits": (listed("cat/0.png " + "1" * 5000 + "\n"), r"line 1: label '1+' …, wanted 0"),
    "a label of a thousand million": (listed(GOOD + "cat/1.png 1000000000\n"), r"no image of class 2 \(2\)"),
    "a label written otherwise": (listed("cat/0.png ²\n"), r"line 1: got .*²"),
    "commas": (listed("cat/0.png,0\n"), r"a comma does not separate them"),
    "a line of 1 MB": (listed("x" * (1 << 20) + " 0\n"), r"line 1: has more than 65,536 letters"),
    "a NUL in a path": (listed("cat/\0.png 0\n" + GOOD), r"line 1: 'cat/\\x00\.png': no file can have this name"),
    "bytes of no text": (listed(b"cat/\xff\xff.png 0\n"), r"train\.txt: cannot be read as UTF-8 text"),
    "half a letter of UTF-16": (listed(b"\xff\xfea"), r"train\.txt: cannot be read as UTF-8 text"),
    "a picture for a list": (listed(png()), r"train\.txt: cannot be read as UTF-8"),
    "a page for a list": (listed("<!DOCTYPE html>\n<html>\n"), r"line 1: got '<!DOCTYPE html>', wanted"),
    "a disk of Windows": (listed("D:\\cat\\0.png 0\n" + GOOD), r"a place on a disk of Windows"),
    "escapes in a path": (listed(f"{ESCAPES}.png zero\n"), r"line 1: got '\\x1b"),
    "labels from 1 on": (listed("cat/0.png 1\ndog/0.png 2\n"), r"labels go from 1 to 2, wanted from 0 on"),
    "a class without a picture": (listed("cat/0.png 0\ndog/0.png 2\n"), r"no image of class 1"),
    "one class": (
        lambda folder: ["train.py", *listed("cat/0.png 0\n", val_txt="cat/0.png 0\n")(folder)[1:]], r"has 1 class",
    ),
    "validation of another class": (listed(GOOD, val_txt="cat/0.png 7\n"), r"val\.txt, line 1: label 7, wanted 0 to 1"),
    "names with an escape": (listed(GOOD, classes_txt=f"cat\ndog{ESCAPES}\n"), r"class name 'dog\\x1b.*rename it"),
    "names that turn": (listed(GOOD, classes_txt="cat\n\u202egod\n"), r"class name '\\u202egod'"),
    "more names than classes": (listed(GOOD, classes_txt="cat\ndog\nowl\n"), r"no image of class 2 \(owl\)"),
    "names without numbers": (listed(GOOD, label_list_txt="cat\ndog\n"), r"label_list\.txt, line 1: got 'cat', wanted"),
    "names of other numbers": (listed(GOOD, label_list_txt="0 cat\n7 dog\n"), r"labels are not 0 to 1, each once"),
    "a pipe for names": (placed(lambda data: pipe(data / "classes.txt")), r"classes\.txt: is a pipe"),
    "a pipe for a list": (placed(lambda data: pipe(data / "train.txt")), r"train\.txt: is a pipe"),
    "a device for a list": (placed(lambda data: link(data / "train.txt", "/dev/zero")), r"train\.txt: is a device"),
    "a list that leads nowhere": (placed(lambda data: link(data / "train.txt", "none")), r"train\.txt: no such file"),
    "a list in a circle": (placed(lambda data: link(data / "train.txt", "train.txt")), r"train\.txt: "),
    "a list of 1 TB": (
        placed(lambda data: sparse(data / "train.txt", 10**12)), r"line 1: has more than 65,536 letters",
    ),
    "a list in place of a folder": (
        lambda folder: of_data(folder, f"{{name: image_folder, root: {written(folder / 'data', GOOD)}}}"), r"data: ",
    ),
    "a list below too many folders": (
        placed(lambda data: None, IMAGES.replace("train.txt", "/".join(["x" * 200] * 14))), r"[Nn]o such|[Tt]oo long",
    ),
    "two paths too long together": (
        placed(lambda data: None, IMAGES.replace("/data", "/" + "d/" * 1400).replace("train.txt", "t/" * 1400)),
        r"data\.root|too long|no such",
    ),
    "no folder": (lambda folder: of_data(folder, CLASSES), r"data\.root .*data: no such folder"),
    "no class folders": (
        folders(lambda data: [os.rename(data / one, data.parent / one) for one in ("cat", "dog")]), r"data: ",
    ),
    "an empty class folder": (folders(lambda data: os.makedirs(data / "owl")), r"owl"),
    "a class folder of no text": (folders(no_text), r"its name is no UTF-8 text; rename it"),
    "a class folder with an escape": (
        folders(lambda data: class_folders(data, (f"x{ESCAPES}",))), r"x\\x1b.*rename it",
    ),
    "a class folder that turns": (folders(lambda data: class_folders(data, ("\u202egod",))), r"\\u202egod.*rename it"),
    "a class folder of two lines": (folders(lambda data: class_folders(data, ("a\nb",))), r"a\\nb.*rename it"),
    "other classes to validate": (
        folders(lambda data: [class_folders(data / part, names) for part, names in
                              (("train", ("cat", "dog")), ("val", ("cat", "owl")))]), r"class 'dog'|class 'owl'",
    ),
    "settings that contradict": (
        folders(lambda data: None, CLASSES.replace("resize_short: 8", "resize_short: 4")), r"resize_short is 4, wanted",
    ),
    "a share of all": (
        folders(lambda data: None, CLASSES.replace("}", ", validation_share: 1.0}")), r"validation_share is 1\.0",
    ),
    "a list of videos without labels": (
        listed("cat/0.png\n", VIDEOS), r"train\.txt, line 1: got 'cat/0\.png', wanted `v",
    ),
    "a list of videos with a space": (listed("a b c 1 2\n", VIDEOS), r"a path with a space has to be renamed"),
    "a list of 0 frames": (listed("cat 0 0\n", VIDEOS), r"line 1: got 'cat 0 0', a folder of 0 frames"),
    "a list of 10^30 frames": (listed(f"cat {10**30} 0\n", VIDEOS), r"line 1: got .*wanted `video label`"),
    "a list of videos that are not there": (
        listed("none.mp4 0\nno.mp4 1\n", VIDEOS), r"line 1: no such video: .*none\.mp4",
    ),
    "a list of videos with a NUL": (listed("a\0b.mp4 0\nc.mp4 1\n", VIDEOS), r"line 1: .*a\\x00b\.mp4"),
    "a list of videos from 1 on": (listed("cat 4 1\ndog 4 2\n", VIDEOS), r"labels go from 1 to 2"),
    "a pipe for a list of videos": (placed(lambda data: pipe(data / "val.txt"), VIDEOS), r"val\.txt: is a pipe"),
}
