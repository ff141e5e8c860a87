"""The odd videos that must survive the way through a .hfsv and back, one row a file.

What is written here was read from the files with PyAV and by hand, never with the code under
test. The files are not in the repository: they lie in the folder that HFSV_CLIPS names. Those of
:data:`MADE` are written on the spot.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from video_helpers import MS, ClipSpec, Subtitles, add_subtitles, clip, make_clip

Colour = tuple[int, int, int, bool]
"""Primaries, transfer, matrix as H.273 numbers them; whether the range is full."""

SD: Colour = (2, 2, 6, False)
"""What an untagged picture of less than 720 lines is taken as; :data:`HD` from 720 lines on."""
HD: Colour = (2, 2, 1, False)
BT709: Colour = (1, 1, 1, False)
PQ: Colour = (9, 16, 9, False)
HLG: Colour = (9, 18, 9, False)
RGB: Colour = (2, 2, 6, True)
FULL_709: Colour = (1, 1, 1, True)

INTERLACED = "interlaced"
ALPHA = "transparency"


@dataclass(frozen=True)
class Sound:
    """A stream of sound, of the frames that are coded.

    ``begins`` is when its first packet begins and ``heard`` when its first sample is heard, which
    comes later where there is priming; ``lasts`` is the length of a packet. All in seconds.
    """

    name: str
    packets: int
    begins: Fraction
    heard: Fraction
    lasts: Fraction


@dataclass(frozen=True)
class Text:
    """A stream of subtitles and its number of texts."""

    name: str
    texts: int


@dataclass(frozen=True)
class Row:
    """A video and what must come back.

    Attributes:
        file: in the folder of clips.
        size: of the decoded picture.
        tick: the unit of ``times``, in seconds.
        times: when each frame is shown, and as the last one more when the video ends.
        coded: encode only so many frames, where the file is long or large.
        whole: encode the whole picture, not a small part of its middle.
        shape: sample aspect ratio.
        rotation: how far a player turns the picture counter-clockwise, in degrees.
        colour: of the decoded video, by the rule for what is untagged.
        bits: a sample of the source.
        streams: what is passed through, in the file's order.
        only_mkv, only_mp4: names of the streams that the other cannot carry.
        chapters: start and end in milliseconds, and the title.
        says: the telling part of each warning of the encode, but for that on bit depth.
        make: writes the file, where it is not one of the folder.
    """

    file: str
    size: tuple[int, int]
    tick: Fraction
    times: tuple[int, ...]
    coded: int | None = None
    whole: bool = False
    shape: Fraction = Fraction(1)
    rotation: int = 0
    colour: Colour = SD
    bits: int = 8
    streams: tuple[Sound | Text, ...] = ()
    only_mkv: tuple[str, ...] = ()
    only_mp4: tuple[str, ...] = ()
    chapters: tuple[tuple[int, int, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    says: tuple[str, ...] = ()
    make: Callable[[Path], Path] | None = None

    @property
    def seconds(self) -> list[Fraction]:
        """When each coded frame is shown, and when the last ends."""
        return [ticks * self.tick for ticks in self.times[: self.frames + 1]]

    @property
    def frames(self) -> int:
        return self.coded or len(self.times) - 1

    @property
    def sounds(self) -> list[Sound]:
        return [stream for stream in self.streams if isinstance(stream, Sound)]

    def source(self, folder: Path) -> Path:
        """The file, made in ``folder`` if need be."""
        return clip(self.file) if self.make is None else self.make(folder / self.file)


@dataclass(frozen=True)
class Unfit:
    """A file that cannot be encoded: the telling part of the error, and the frames before it."""

    file: str
    error: str
    frames: int = 0


def even(step: int, frames: int, first: int = 0) -> tuple[int, ...]:
    """Times at a constant rate."""
    return tuple(range(first, first + (frames + 1) * step, step))


def steps(*durations: int) -> tuple[int, ...]:
    """Times of frames that are shown so long each."""
    return tuple(itertools.accumulate(durations, initial=0))


def rounded(rate: int | Fraction, frames: int) -> tuple[int, ...]:
    """Times at a constant rate in whole milliseconds, as Matroska has them."""
    return tuple(int(1000 * index / rate + Fraction(1, 2)) for index in range(frames + 1))


def per(rate: int, samples: int) -> Fraction:
    """The length of so many samples."""
    return Fraction(samples, rate)


ZERO = Fraction(0)
AAC_44 = per(44100, 1024)
AAC_48 = per(48000, 1024)
PHONE_STEPS = (3002, 3003, 3004)
CHROME_STEPS = (
    *(67, 67, 62, 71, 66, 65, 68, 68, 66, 69, 65, 69, 66, 64, 67, 68, 68, 67),
    *(69, 68, 64, 69, 65, 68, 68, 64, 69, 65, 65, 68, 67, 65, 68, 66, 67, 69),
    *(69, 62, 66, 69, 65, 68, 68, 64, 66, 68, 66, 68, 63, 68, 68, 64, 68, 65),
    *(70, 66, 67, 70, 63, 69, 67, 66, 64, 68, 68, 62, 72, 66, 69, 66, 64, 65),
    68,
)
GIF_STEPS = (5, *(2,) * 8, 4, *(2,) * 8)

CORPUS = (
    # What videos mostly are.
    Row(
        "basketballpass_416x240_lossless.mp4",
        (416, 240),
        Fraction(1, 12800),
        even(256, 100),
        coded=30,
        colour=(6, 6, 6, False),
    ),
    Row(
        "carphone_qcif_qp10.mp4",
        (176, 144),
        Fraction(1, 30000),
        even(1001, 120),
        coded=10,
        whole=True,
        shape=Fraction(128, 117),
    ),
    Row(
        "bigbuckbunny_720p_132f.mp4",
        (1280, 720),
        Fraction(1, 12800),
        even(512, 132),
        coded=50,
        colour=HD,
        streams=(Sound("aac 48000 Hz 5.1", 94, ZERO, ZERO, AAC_48),),
    ),
    # Colour: range, matrix, and more than 8 bits.
    Row(
        "odd/bt601_full_range.mp4",
        (320, 240),
        Fraction(1, 15360),
        even(512, 60),
        colour=(6, 6, 6, True),
    ),
    Row(
        "odd/bt709_full_range.mp4",
        (1280, 720),
        Fraction(1, 15360),
        even(512, 30),
        colour=FULL_709,
    ),
    Row(
        "odd/hdr_pq_10bit_hevc.mp4",
        (320, 180),
        Fraction(1, 12800),
        even(512, 325),
        coded=20,
        colour=PQ,
        bits=10,
    ),
    Row(
        "odd/hdr_pq_12bit_hevc.mp4",
        (320, 180),
        Fraction(1, 15360),
        even(512, 60),
        coded=20,
        colour=PQ,
        bits=12,
    ),
    Row(
        "odd/hdr10_mdcv_clli_av1.mp4",
        (1920, 1080),
        Fraction(1, 60000),
        even(1001, 60),
        colour=PQ,
        bits=10,
        streams=(Sound("aac 44100 Hz stereo", 44, ZERO, ZERO, AAC_44),),
    ),
    Row(
        "odd/dolbyvision_hlg_rot_iphone.mov",
        (1280, 720),
        Fraction(1, 600),
        even(20, 4),
        rotation=270,
        colour=HLG,
        bits=10,
        streams=(
            Sound("aac 44100 Hz stereo", 7, Fraction(-176, 3675), ZERO, AAC_44),  # 2112 priming
        ),
        says=(
            *("Dolby Vision", "data stream 2", "data stream 3"),
            "data stream 4",
        ),
    ),
    Row(
        "odd/h264_10bit.mp4",
        (200, 200),
        Fraction(1, 15360),
        even(512, 30),
        bits=10,
    ),
    Row(
        "odd/synth_gray_hevc.mp4",
        (160, 120),
        Fraction(1, 12800),
        even(512, 30),
    ),
    Row(
        "odd/two_frames_prores422hq_interlaced.mov",
        (1920, 1080),
        Fraction(1, 2997),
        even(100, 2),
        colour=HD,
        bits=10,
        says=(INTERLACED,),
    ),
    Row(
        "odd/alpha_prores4444_1frame.mov",
        (1920, 1080),
        Fraction(1, 25),
        even(1, 1),
        colour=BT709,
        bits=12,
        streams=(Sound("pcm_s16le 48000 Hz 2 channels (eng)", 2, ZERO, ZERO, AAC_48),),
        only_mkv=("pcm_s16le 48000 Hz 2 channels (eng)",),
        says=(ALPHA, "data stream 2"),
    ),
    # Time: variable rates, late beginnings, edit lists, no timestamps at all.
    Row(
        "odd/vfr_strong_7frames_fullrange.mp4",
        (1280, 720),
        Fraction(1, 90000),
        steps(29281, 3000, 3000, 3000, 3000, 3000, 3000),
        colour=(5, 15, 6, True),
    ),
    Row(
        "odd/vfr_rot180_aac.mp4",
        (1280, 720),
        Fraction(1, 90000),
        steps(
            *(*(9000,) * 5, *(8098,) * 3, *(7199,) * 3, *(8099,) * 3, *(8997,) * 3),
            *(9007, 9007, 8993, 8993, 9007, 9007, 8993),
            9000,
        ),
        rotation=180,
        colour=HD,
        streams=(Sound("aac 48000 Hz mono (eng)", 106, ZERO, ZERO, AAC_48),),
    ),
    Row(
        "odd/newtonscradle_vfr.gif",
        (200, 150),
        Fraction(1, 100),
        steps(*GIF_STEPS, *GIF_STEPS),
        colour=RGB,
        tags=(
            (
                "comment",
                "File source: http://commons.wikimedia.org/wiki/"
                "File:Newtons_cradle_animation_book_2.gif",
            ),
        ),
    ),
    Row(
        "odd/no_duration_vp9_opus.webm",
        (1280, 720),
        MS,
        steps(*CHROME_STEPS, 68),
        colour=HD,
        streams=(Sound("opus 48000 Hz stereo (eng)", 81, 15 * MS, 15 * MS, per(48000, 2880)),),
        says=(ALPHA,),
    ),
    Row(
        "odd/avi_mpeg4_mp3_bframes.avi",
        (960, 400),
        Fraction(1001, 24000),
        steps(3, *(1,) * 95),
        streams=(Sound("mp3 48000 Hz stereo", 170, ZERO, ZERO, per(48000, 1152)),),
    ),
    Row(
        "odd/nonzero_start_pts.mp4",
        (200, 112),
        Fraction(1, 15360),
        even(512, 12, first=127995),
        shape=Fraction(224, 225),
    ),
    Row(
        "odd/sar1137_800_firstpts10s.mp4",
        (800, 640),
        Fraction(1, 15360),
        even(512, 120, first=153600),
        coded=20,
        shape=Fraction(1137, 800),
    ),
    Row(
        "odd/editlist_delay_1s.mp4",
        (1920, 1080),
        Fraction(1, 15360),
        even(512, 270, first=15360),
        coded=30,
        colour=HD,
        streams=(Sound("aac 48000 Hz stereo", 95, -AAC_48, ZERO, AAC_48),),
    ),
    Row(
        "odd/editlist_discard_first_key.mp4",
        (64, 64),
        Fraction(1, 12800),
        even(512, 25),
        whole=True,
    ),
    Row(
        "odd/editlist_trim_48to24_aac.mp4",
        (640, 480),
        Fraction(1, 12288),
        even(512, 24),
        streams=(Sound("aac 48000 Hz mono (eng)", 49, per(48000, -1600), ZERO, AAC_48),),
    ),
    Row(
        "odd/fragmented_aac.mp4",
        (1080, 720),
        Fraction(1, 30000),
        even(1001, 30, first=2002),
        colour=HD,
        streams=(Sound("aac 44100 Hz mono", 46, ZERO, ZERO, AAC_44),),
    ),
    Row(
        "odd/aux_tracks_dup_pts.mp4",  # every frame at 0: moved by the least step
        (10, 12),
        Fraction(1, 90000),
        even(1, 5),
        whole=True,
        colour=RGB,
        says=("4 frames are not later",),
    ),
    Row(
        "odd/raw_no_timestamps_screen.264",
        (1024, 768),
        Fraction(1, 1200000),
        even(48000, 50),
        colour=HD,
        says=("50 frames have no timestamp",),
    ),
    Row(
        "odd/synth_1000fps.mp4",
        (96, 64),
        Fraction(1, 16000),
        even(16, 100),
        whole=True,
    ),
    Row(
        "odd/long_1080p_10883frames.mp4",
        (1920, 1080),
        Fraction(1, 15360),
        even(512, 10883),
        coded=4,
        colour=HD,
    ),
    Row(
        "odd/one_frame_mpeg4.mp4",
        (64, 64),
        Fraction(1, 12800),
        even(512, 1),
        whole=True,
    ),
    # Geometry: rotation, pixels that are no squares, odd sizes, fields, alpha.
    Row(
        "odd/rot90_h264.mp4",
        (480, 270),
        Fraction(1, 30000),
        even(1001, 17),
        rotation=90,
        colour=BT709,
    ),
    Row(
        "odd/rot_and_mirror_matrix.mp4",
        (1080, 720),
        Fraction(1, 30000),
        even(1001, 30),
        rotation=270,
        colour=HD,
        streams=(Sound("aac 44100 Hz mono", 45, Fraction(97, 2205), Fraction(247, 3675), AAC_44),),
    ),
    Row(
        "odd/phone_almost_black_noise.mp4",
        (1920, 1080),
        Fraction(1, 90000),
        steps(*(3013,) * 21, 3008, 3018, *(3013,) * 13),
        rotation=180,
        colour=FULL_709,
    ),
    Row(
        "odd/odd321x241_444_h264.mp4",
        (321, 241),
        Fraction(1, 12800),
        even(512, 25),
        coded=3,
        whole=True,
    ),
    Row(
        "odd/odd321x241_420_vp9.mp4",
        (321, 241),
        Fraction(1, 12800),
        even(512, 25),
    ),
    Row(
        "odd/odd161x121_vp9.webm",
        (161, 121),
        MS,
        rounded(Fraction(2997, 100), 30),
        coded=12,
        whole=True,
    ),
    Row(
        "odd/size1x1_444.mp4",
        (1, 1),
        Fraction(1, 16384),
        even(16384, 5),
        whole=True,
    ),
    Row(
        "odd/interlaced_640x360_h264.mp4",
        (640, 360),
        Fraction(1, 25),
        even(1, 126),
        coded=20,
        says=(INTERLACED,),
    ),
    Row(
        "odd/interlaced_field_sar16_15.ts",
        (720, 576),
        Fraction(1, 90000),
        even(3600, 31, first=2065839149),
        shape=Fraction(16, 15),
        says=(INTERLACED,),
    ),
    Row(
        "odd/transparent_1frame.gif",
        (64, 48),
        Fraction(1, 100),
        even(10, 1),
        whole=True,
        colour=RGB,
        says=(ALPHA,),
    ),
    # Other streams, chapters.
    Row(
        "odd/multi_2video_2aac_2movtext.mp4",
        (320, 180),
        Fraction(1, 12800),
        even(512, 325),
        coded=50,
        colour=BT709,
        streams=(
            Sound("aac 8000 Hz stereo (eng)", 17, per(8000, -1024), ZERO, per(8000, 1024)),
            Text("mov_text subtitles (eng)", 1),
            Sound("aac 16000 Hz stereo (eng)", 33, per(16000, -1024), ZERO, per(16000, 1024)),
            Text("mov_text subtitles (eng)", 1),
        ),
        only_mp4=("mov_text subtitles (eng)", "mov_text subtitles (eng)"),
        says=("video stream 3 (h264)",),
    ),
    Row(
        "odd/chapters3_aac.mp4",
        (1080, 720),
        Fraction(1, 90000),
        steps(*PHONE_STEPS * 9, 3002, 3003, 3002),
        colour=BT709,
        streams=(Sound("aac 44100 Hz mono", 45, ZERO, Fraction(247, 3675), AAC_44),),
        chapters=((0, 201, "Chapter 1"), (201, 800, "Chapter 2"), (800, 850, "Chapter 3")),
    ),
    Row(
        "odd/empty_second_video_track.mp4",
        (1080, 720),
        Fraction(1, 90000),
        steps(*PHONE_STEPS * 9, 3002, 3003, 3002),
        colour=BT709,
        streams=(Sound("aac 44100 Hz mono", 45, ZERO, Fraction(1613, 24000), AAC_44),),
        says=("video stream 1 (h264)",),
    ),
    Row(
        "odd/srt_ac3.mkv",
        (1080, 720),
        MS,
        steps(*(33, 34, 33) * 10),
        colour=HD,
        streams=(
            Sound("ac3 44100 Hz mono", 29, 62 * MS, 62 * MS, per(44100, 1536)),
            Text("subrip subtitles (eng)", 1),
        ),
        only_mkv=("subrip subtitles (eng)",),
    ),
    Row(
        "odd/pgs_ac3_fps600.mkv",
        (1080, 720),
        MS,
        rounded(600, 30),
        colour=HD,
        streams=(
            Sound("ac3 44100 Hz mono", 29, ZERO, ZERO, per(44100, 1536)),
            Text("hdmv_pgs_subtitle subtitles (eng)", 2),
        ),
        only_mkv=("hdmv_pgs_subtitle subtitles (eng)",),
    ),
    Row(
        "odd/opus_h264.mkv",
        (426, 240),
        MS,
        rounded(30, 310),
        coded=60,
        streams=(Sound("opus 48000 Hz mono (eng)", 101, -7 * MS, ZERO, per(48000, 960)),),
    ),
    Row(
        "odd/vp9_alpha_vorbis.webm",
        (200, 200),
        MS,
        rounded(30, 150),
        coded=60,
        colour=(1, 1, 5, False),
        streams=(Sound("vorbis 48000 Hz stereo", 96, ZERO, 3 * MS, per(48000, 1024)),),
        says=(ALPHA,),
    ),
)

UNFIT = (
    Unfit("odd/audio_only_opus.mp4", "holds audio only"),
    Unfit("odd/corrupt_28of50.mp4", "cannot be decoded after 28 frames", frames=28),
    Unfit("odd/corrupt_no_frame.webm", "no frame of its vp9 video can be decoded"),
    Unfit("odd/encrypted_cenc.mp4", "encrypted"),
    Unfit("odd/size_change_midstream_4frames.mp4", "128x128", frames=2),
    Unfit("odd/synth_empty.mp4", "is empty"),
    Unfit("odd/synth_truncated_no_moov.mp4", "cut short"),
)


def _with_text(path: Path) -> Path:
    silent = make_clip(path.with_suffix(".mp4"), ClipSpec(frames=20))
    text = Subtitles("subrip", ((100, 300, b"One"), (500, 200, b"Two")), "ger")
    return add_subtitles(path, silent, "matroska", text)


def _clip(spec: ClipSpec) -> Callable[[Path], Path]:
    return lambda path: make_clip(path, spec)


UNEVEN = (0, 3000, 6003, 20000, 20001, 49281, 60000, 60001)
TAGS = (("artist", "the artist"), ("title", "Föhn"))
PARTS = ((0, 150, "Öne"), (150, 400, "Two"))

MADE = (
    Row(
        "uneven_b_frames.mp4",
        (64, 48),
        Fraction(1, 90000),
        (*UNEVEN, 60002),
        make=_clip(ClipSpec(time_base=Fraction(1, 90000), pts=UNEVEN)),
    ),
    Row(
        "turned.mp4",
        (64, 48),
        Fraction(1, 12800),
        even(512, 10),
        whole=True,
        rotation=90,
        make=_clip(ClipSpec(rotation=90)),
    ),
    Row(
        "odd_size_wide_pixels.mp4",
        (33, 21),
        Fraction(1, 12800),
        even(512, 10),
        whole=True,
        shape=Fraction(16, 11),
        colour=FULL_709,
        make=_clip(
            ClipSpec(
                width=33,
                height=21,
                pixel_format="yuv444p",
                pixel_shape=Fraction(16, 11),
                colour=(1, 1, 1, 2),
            )
        ),
    ),
    Row(
        "two_sounds.mp4",
        (64, 48),
        Fraction(1, 12800),
        even(512, 10),
        streams=(
            Sound("aac 44100 Hz stereo (ger)", 23, -AAC_44, ZERO, AAC_44),
            Sound("aac 44100 Hz stereo (eng)", 23, -AAC_44, ZERO, AAC_44),
        ),
        make=_clip(ClipSpec(audio="aac", audio_rate=44100, audio_languages=("ger", "eng"))),
    ),
    Row(
        "thousand_a_second.mp4",
        (64, 48),
        Fraction(1, 16000),
        even(16, 40),
        make=_clip(ClipSpec(time_base=MS, frames=40)),
    ),
    Row(
        "chapters_and_tags.mp4",
        (64, 48),
        Fraction(1, 12800),
        even(512, 10),
        chapters=PARTS,
        tags=TAGS,
        make=_clip(ClipSpec(chapters=PARTS, tags=TAGS)),
    ),
    Row(
        "text.mkv",
        (64, 48),
        MS,
        even(40, 20),
        streams=(Text("subrip subtitles (ger)", 2),),
        only_mkv=("subrip subtitles (ger)",),
        make=_with_text,
    ),
)
