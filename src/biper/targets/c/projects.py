"""Folders around the C source of a program: a library for Arduino and PlatformIO, and a component of ESP-IDF.

An Arduino library (the format 1.5 of its specification) has ``library.properties``, the source in ``src/`` and a sketch
in ``examples/``. PlatformIO takes the same folder. An ESP-IDF component has a ``CMakeLists.txt`` and a manifest,
``idf_component.yml``, and here an example project that uses it.
"""

from __future__ import annotations

from pathlib import Path

from biper.errors import ExportError
from biper.targets.c.source import CSource

MARKERS = {"arduino": "library.properties", "esp-idf": "idf_component.yml"}
"""The file that such a folder always has, by format: a folder with it may be written again."""

ARCHITECTURES = "esp32,esp8266,mbed,mbed_nano,mbed_portenta,mbed_rp2040,nrf52,renesas_uno,rp2040,sam,samd,stm32,teensy"
"""The boards of Arduino whose processors have 32 bits, as the C operators need; those of AVR have 16."""

_SKETCH = """\
/* Classifies one input and prints the answer, again and again. Fill the array `input` with what your sensor measures;
   {name}.h says what it holds. */
#include <{name}.h>

{buffers}
#ifdef {upper}_CLASSES
static const char *const classes[] = {{{upper}_CLASSES}};
#endif

void setup()
{{
    Serial.begin(115200);
}}

void loop()
{{
    unsigned long start = micros();
    {call}
    unsigned long duration = micros() - start;
    int best = 0;
    for (int i = 1; i < (int)(sizeof {first} / sizeof {first}[0]); ++i)
        if ({first}[i] > {first}[best]) best = i;
#ifdef {upper}_CLASSES
    Serial.print(classes[best]);
#else
    Serial.print(best);
#endif
    Serial.print(" in ");
    Serial.print(duration);
    Serial.println(" microseconds");
    delay(1000);
}}
"""

_APPLICATION = """\
/* Classifies one input and prints the answer. Fill the array `input` with what your sensor measures; {name}.h says what
   it holds. */
#include <stdio.h>

#include "{name}.h"

{buffers}
#ifdef {upper}_CLASSES
static const char *const classes[] = {{{upper}_CLASSES}};
#endif

void app_main(void)
{{
    int i, best = 0;
    {call}
    for (i = 1; i < (int)(sizeof {first} / sizeof {first}[0]); ++i)
        if ({first}[i] > {first}[best]) best = i;
#ifdef {upper}_CLASSES
    printf("%s\\n", classes[best]);
#else
    printf("%d\\n", best);
#endif
}}
"""


def project_files(form: str, name: str, source: CSource, version: str) -> dict[str, str]:
    """The files of a library or component, by their paths in its folder.

    Args:
        form: ``"arduino"`` or ``"esp-idf"``.
        name: of the function, the header and the folder.
        source: what was written for the program.
        version: of the package, such as ``"1.0.0"``.
    """
    fill = {
        "name": name,
        "upper": name.upper(),
        "buffers": "".join(f"static {buffer};\n" for buffer in source.buffers),
        "call": source.call,
        "first": source.first_output,
    }
    about = f"A 1-bit neural network in C99: {source.table_bytes:,} bytes of tables, {source.arena_bytes:,} of RAM."
    if form == "arduino":
        properties = {
            "name": name,
            "version": version,
            "author": "biper",
            "maintainer": "biper",
            "sentence": about,
            "paragraph": f"Call {name}_run of {name}.h. Written by `biper export --format arduino`.",
            "category": "Data Processing",
            "url": "https://arxiv.org/abs/2404.01278",
            "architectures": ARCHITECTURES,
            "includes": f"{name}.h",
        }
        return {
            "library.properties": "".join(f"{key}={value}\n" for key, value in properties.items()),
            f"src/{name}.h": source.header,
            f"src/{name}.c": source.source,
            "examples/Classify/Classify.ino": _SKETCH.format(**fill),
        }
    project = (
        "cmake_minimum_required(VERSION 3.16)\n"
        f"include($ENV{{IDF_PATH}}/tools/cmake/project.cmake)\nproject({name}_classify)\n"
    )
    return {
        "idf_component.yml": f'version: "{version}"\ndescription: "{about}"\n',
        "CMakeLists.txt": f'idf_component_register(SRCS "{name}.c" INCLUDE_DIRS "include")\n',
        f"include/{name}.h": source.header,
        f"{name}.c": source.source,
        "examples/classify/CMakeLists.txt": project,
        "examples/classify/main/CMakeLists.txt": 'idf_component_register(SRCS "main.c")\n',
        "examples/classify/main/idf_component.yml": (
            f'dependencies:\n  {name}:\n    version: "*"\n    override_path: "../../.."\n'
        ),
        "examples/classify/main/main.c": _APPLICATION.format(**fill),
    }


def require_project_folder(form: str, folder: Path) -> None:
    """Check that a folder may be written: it is new or empty, or was written in this form before.

    Raises:
        ExportError: it is a file, there is no folder around it, or it holds something else.
    """
    if not folder.parent.is_dir():
        raise ExportError(f"out=... expects a folder in one that exists, and there is no folder {folder.parent}")
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"out=... expects a folder for {form}, and {folder} is a file: name another with out=...")
    if folder.is_dir() and not (folder / MARKERS[form]).exists() and any(folder.iterdir()):
        raise ExportError(
            f"{folder} holds other files and no {MARKERS[form]}: name a new folder with out=..., or one that was "
            f"written for {form} before"
        )
