"""A video to try the pipeline on: four scenes of test pictures and tones, the second of them silent."""

import subprocess
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe

SCENES = [  # picture, tone in Hz (None: silence), seconds
    ("testsrc2", 440, 4),
    ("smptebars", None, 3),
    ("rgbtestsrc", 660, 4),
    ("testsrc", 880, 3),
]


def film(to: Path) -> Path:
    """Make the video. It has a key frame every second, so damage to one scene leaves the others whole."""
    inputs: list[str] = []
    for picture, tone, seconds in SCENES:
        sound = "anullsrc=cl=mono" if tone is None else f"sine=f={tone}"
        inputs += ["-f", "lavfi", "-t", f"{seconds}", "-i", f"{picture}=s=320x180:r=15,format=yuv420p"]
        inputs += ["-f", "lavfi", "-t", f"{seconds}", "-i", sound]
    numbers = "".join(f"[{number}]" for number in range(2 * len(SCENES)))
    join = f"{numbers}concat=n={len(SCENES)}:v=1:a=1[picture][sound]"
    streams = ["-filter_complex", join, "-map", "[picture]", "-map", "[sound]"]
    encode = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-c:a", "aac"]
    subprocess.run([get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *inputs, *streams, *encode, to], check=True)
    return to


def damage(video: Path, at: float) -> None:
    """Overwrite a twentieth of the file, beginning at that share of it (0 to 1), as a failing disk would."""
    content = bytearray(video.read_bytes())
    start, size = int(len(content) * at), len(content) // 20
    content[start : start + size] = b"\xff" * size
    video.write_bytes(content)
