"""Spoken words by espeak-ng: synthetic speech, of many voices, speeds and pitches, with noise added.

Voices of training and of test are apart: a voice is a variant of espeak-ng, which sets the formants, the pitch and the
breath of a speaker, and none is in both. Accents, speeds and pitches are drawn for each word that is spoken.
"""

from __future__ import annotations

import io
import subprocess
import wave
from dataclasses import dataclass

import numpy as np
from mel import RATE
from numpy.typing import NDArray

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "start", "light")
"""The words that are to be found."""

NOTHING = "-"
"""The class of noise and of all other words."""

CLASSES = (*WORDS, NOTHING)

OTHERS = (
    "apple", "water", "seven", "window", "garden", "music", "paper", "yellow", "table", "river", "winter", "open",
    "seat", "light house", "night", "note", "download", "upper", "rest", "lift", "write", "often", "step", "goat",
    "star", "know", "town", "less", "under", "computer", "morning", "banana", "three", "nine", "bird", "cat", "marvin",
    "house", "tree", "happy", "five", "zero", "wow", "bed", "follow", "learn", "visual", "forward", "backward",
)  # fmt: skip
"""Words that are none of `WORDS`, some of them similar."""

ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")

VOICES = {
    "train": (
        "m1", "m2", "m3", "m4", "m6", "m7", "f1", "f2", "f4", "f5", "Alex", "Alicia", "Andrea", "Andy", "belinda",
        "benjamin", "boris", "caleb", "david", "Denis", "ed", "edward", "Gene", "grandma", "Jacky", "John", "klatt",
        "klatt3", "Lee", "linda", "marcelo", "Marco", "Mario", "max", "Michel", "miguel", "pablo", "paul", "quincy",
        "rob", "steph", "steph2", "travis", "victor",
    ),
    "test": ("m5", "m8", "f3", "adam", "Annie", "anika", "Diogo", "Hugo", "iven", "kaukovalta", "klatt2", "Mike",
             "norbert", "robert", "sandro", "shelby", "steph3", "zac"),
}  # fmt: skip
"""The variants of espeak-ng that speak in each split."""


@dataclass(frozen=True)
class Clips:
    """Clips of one second: int16 (N, 16000), and the number of the class of each."""

    samples: NDArray[np.int16]
    labels: NDArray[np.int64]


def spoken(text: str, voice: str, speed: int, pitch: int) -> NDArray[np.float64]:
    """A text, spoken: numbers at 16 kHz, at most 1 in magnitude, without the silence around it.

    Args:
        text: what is said.
        voice: an accent and a variant of espeak-ng, such as ``en-us+m3``.
        speed: words a minute.
        pitch: 0 to 99.

    Raises:
        RuntimeError: espeak-ng says that something is wrong.
    """
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    made = subprocess.run(command, capture_output=True)
    if made.returncode or len(made.stdout) < 100:
        raise RuntimeError(f"espeak-ng cannot say {text!r} with the voice {voice}: {made.stderr.decode().strip()}")
    head = made.stdout.index(b"data") + 8
    with wave.open(io.BytesIO(made.stdout)) as file:
        rate = file.getframerate()
    heard = np.frombuffer(made.stdout[head : head + (len(made.stdout) - head) // 2 * 2], np.int16) / 32768
    spectrum = np.fft.rfft(heard)
    length = round(len(heard) * RATE / rate)
    resampled = np.fft.irfft(spectrum[: length // 2 + 1], length) * (length / len(heard))
    loud = np.flatnonzero(np.abs(resampled) > 0.02 * np.abs(resampled).max())
    return np.asarray(resampled[loud[0] : loud[-1] + 1])


def noise(random: np.random.Generator, length: int) -> NDArray[np.float64]:
    """Noise whose spectrum falls with a drawn slope, between white and brown, with the root mean square 1."""
    spectrum = np.fft.rfft(random.standard_normal(length))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20) ** random.uniform(0, 1)
    made = np.fft.irfft(spectrum, length)
    return np.asarray(made / np.sqrt(np.mean(made**2)))


def placed(random: np.random.Generator, speech: NDArray[np.float64] | None) -> NDArray[np.int16]:
    """One second with a word at a drawn place and volume, and noise 5 to 30 dB below it; or noise alone."""
    level = 10 ** random.uniform(-1.5, -0.3)
    clip = noise(random, RATE) * level * 10 ** (-random.uniform(5, 30) / 20) * 0.3
    if speech is not None:
        said = speech[:RATE]
        start = random.integers(0, RATE - len(said) + 1)
        clip[start : start + len(said)] += said / np.abs(said).max() * level
    return np.clip(np.rint(clip * 32767), -32768, 32767).astype(np.int16)


def draw_word(random: np.random.Generator, split: str, word: str) -> NDArray[np.float64]:
    """A word by a drawn voice of a split."""
    voice = f"{random.choice(ACCENTS)}+{random.choice(VOICES[split])}"
    return spoken(word, voice, int(random.integers(110, 220)), int(random.integers(20, 80)))


def clips(split: str, each: int, *, placements: int = 1, seed: int = 0) -> Clips:
    """Clips of every class.

    Args:
        split: ``"train"`` or ``"test"``, whose voices speak.
        each: how often each word is spoken; other words are spoken four times as often, and noise as often.
        placements: at how many places, and in how much noise, each of them is put.
        seed: of what is drawn.
    """
    random = np.random.default_rng([seed, split == "test"])
    samples, labels = [], []
    for label, name in enumerate(CLASSES):
        for count in range(each * (5 if name == NOTHING else 1)):
            if name == NOTHING:
                heard = None if count % 5 == 0 else draw_word(random, split, str(random.choice(OTHERS)))
            else:
                heard = draw_word(random, split, name)
            for _ in range(placements):
                samples.append(placed(random, heard))
                labels.append(label)
    return Clips(np.stack(samples), np.array(labels))


def recording(words: tuple[str, ...], seed: int = 1) -> NDArray[np.int16]:
    """Words one after the other with pauses, by voices of the test split, in noise 20 dB below them."""
    random = np.random.default_rng(seed)
    parts = [np.zeros(RATE)]
    for word in words:
        said = draw_word(random, "test", word)
        parts += [said / np.abs(said).max() * 0.4, np.zeros(int(RATE * random.uniform(0.7, 1.0)))]
    whole = np.concatenate(parts)
    whole += noise(random, len(whole)) * 0.4 * 0.3 / 10
    return np.clip(np.rint(whole * 32767), -32768, 32767).astype(np.int16)
