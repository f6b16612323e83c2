"""Files and folders that programs leave among a person's photographs."""

import re

FOLDERS = {  # of operating systems, network storage and camera programs, in lower case
    "__macosx", "@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "recycler",
    "system volume information", "lost+found", "network trash folder", "temporary items", "__pycache__",
    "ipod photo cache", "found.000",
}  # fmt: skip
FILES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "picasa.ini", "zbthumbnail.info"}
PATTERN = re.compile(
    r".*\.thm"  # thumbnails that cameras keep beside videos
    r"|syno(photo|file|video)_.*"  # those of a Synology
    r"|.*\.(jpe?g|png|tiff?|heic|webp|gif|dng)_original"  # ExifTool's copy of a file that it has edited
    r"|.*:zone\.identifier"  # where Windows has a download from, as WSL shows it
    r"|.+~",  # an editor's copy
    re.IGNORECASE | re.DOTALL,
)


def is_leftover(name: str, is_folder: bool) -> bool:
    """Return whether a folder or file of this name is hidden, or not a person's but a program's."""
    if name.startswith("."):
        return True
    if is_folder:  # `a~` may be a class
        return name.lower() in FOLDERS
    return name.lower() in FILES or bool(PATTERN.fullmatch(name))
