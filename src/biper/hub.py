"""Sharing models on the Hugging Face Hub: `push_to_hub` uploads a run, `from_pretrained` downloads a packed model.

A repository holds ``model.biper`` (the packed model), ``model.safetensors`` (to continue training), ``recipe.toml`` and
a model card, ``README.md``. Every figure in the card was measured: the accuracy by the run, the size and the speed when
the model was pushed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from biper.errors import HubError, ModelError, optional_packages
from biper.io.files import atomic_write
from biper.runtime.model import Model

if TYPE_CHECKING:
    from biper.recipes.schema import Recipe
    from biper.runs.records import RunSummary

PACKED = "model.biper"
FILES = (PACKED, "model.safetensors", "recipe.toml")


def push_to_hub(run: str | Path, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a finished run with a generated model card.

    Args:
        run: the run folder.
        repo_id: the repository, ``"user/name"``; it is made if it does not exist.
        private: whether a new repository is private.
        token: the token for the hub; default the one that ``hf auth login`` stored.

    Returns:
        The address of the repository.

    Raises:
        ModelError: the folder holds no finished run.
        CheckpointError: a file of the run is corrupt.
        HubError: the hub refused, for example without a network or without permission.
    """
    with optional_packages("hub", "the Hugging Face Hub"):
        import huggingface_hub

    folder = Path(run)
    card = model_card(folder, repo_id)
    with tempfile.TemporaryDirectory() as name, _one_line_refused(repo_id):
        api = huggingface_hub.HfApi(token=token)
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        staged = Path(name)
        for file in FILES:
            (staged / file).write_bytes((folder / file).read_bytes())
        atomic_write(staged / "README.md", card)
        api.upload_folder(repo_id=repo_id, folder_path=staged, commit_message="A 1-bit network, written by biper")
    return str(address)


def from_pretrained(
    repo_id: str, *, revision: str | None = None, token: str | None = None, threads: int | None = None
) -> Model:
    """Download the packed model of a repository on the hub and load it. This needs no torch.

    ``huggingface_hub`` keeps the file in its cache, so that it is downloaded once.

    Args:
        repo_id: the repository, ``"user/name"``.
        revision: a branch, tag or commit; default the newest.
        token: the token for a private repository.
        threads: how many threads share the work of one call; see `Model`.

    Returns:
        The model, which is called on images of shape (N, H, W, C), uint8.

    Raises:
        ModelFormatError: the downloaded file is no packed model.
        HubError: the hub refused, for example without a network.
    """
    return Model.load(download(repo_id, revision=revision, token=token), threads=threads)


def download(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """Download the packed model of a repository into the cache of ``huggingface_hub``, unless it is there.

    Args:
        repo_id, revision, token: see `from_pretrained`.

    Returns:
        The file in the cache.

    Raises:
        HubError: see `from_pretrained`.
    """
    with optional_packages("hub", "the Hugging Face Hub"):
        import huggingface_hub

    with _one_line_refused(repo_id):
        return Path(huggingface_hub.hf_hub_download(repo_id, PACKED, revision=revision, token=token))


@contextmanager
def _one_line_refused(repo_id: str) -> Iterator[None]:
    """Turn any error of ``huggingface_hub``, which has no common class for them, into a `HubError` of one line."""
    try:
        yield
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise HubError(f"the hub refused {repo_id}: {reason}") from error


def model_card(run: str | Path, repo_id: str, *, seconds: float = 1.0) -> str:
    """The model card of a finished run, in Markdown: how it was trained, its accuracy, size and speed.

    Args:
        run: the run folder.
        repo_id: the repository that the card is for, ``"user/name"``.
        seconds: about how many seconds to measure the speed of the packed model on this machine.

    Raises:
        ModelError: the folder holds no finished run.
        CheckpointError: a file of the run is corrupt.
    """
    from biper.recipes.load import load_recipe
    from biper.runs.folder import RunFolder

    folder = RunFolder(run)
    summary = folder.read_summary()
    missing = [file for file in FILES if not (folder.path / file).exists()]
    if summary is None or missing:
        lacks = missing[0] if missing else folder.summary_file.name
        raise ModelError(f"{folder.path} has no {lacks}: expected the folder of a finished run")
    recipe = load_recipe(folder.recipe_file)
    text = folder.recipe_file.read_text(encoding="utf-8").strip()
    return f"""{_front_matter(recipe, summary)}
# {repo_id.split("/")[-1]}

{recipe.description}. A {recipe.model.bits} network, trained with the binary periodic function of BiPer
(CVPR 2024, [arXiv 2404.01278](https://arxiv.org/abs/2404.01278)) and packed by biper.

```python
import biper

model = biper.from_pretrained("{repo_id}")
print(model.predict(["picture.jpg"], top_k=3))
```

{_accuracy(recipe, summary)}
## Size and speed

{_size_and_speed(folder.path / PACKED, summary, seconds)}

## Recipe

This is the file `recipe.toml`; training took {summary.seconds:,.0f} s.

```toml
{text}
```
"""


def _accuracy(recipe: Recipe, summary: RunSummary) -> str:
    """The section about the accuracy on test images; empty for a data set without test images."""
    names = "after stage 1, sine", "after stage 2, bits"
    rows = [
        f"| {name} | {stage.score.accuracy:.2%} |"
        for name, stage in zip(names, summary.stages, strict=False)
        if stage.score.split == "test"
    ]
    if not rows:
        return ""
    title = f"Top-1 on {summary.scored_images:,} test images of {recipe.data.name}:"
    return "\n".join(["## Accuracy", "", title, "", "| | accuracy |", "| --- | --- |", *rows, ""])


def _size_and_speed(packed: Path, summary: RunSummary, seconds: float) -> str:
    """The list about the packed file: its size, its speed on this machine, and its images."""
    from biper.runs.environment import describe_environment
    from biper.runtime.bench import bench

    model = Model.load(packed)
    speed = bench(model.program, seconds=seconds)
    cpu = describe_environment(seed=0, device="cpu", precision="float32", processes=1)["cpu"]
    kernels = f"{speed.instruction_set}, one thread of {cpu}, median of {speed.calls:,} calls"
    size, pixels = packed.stat().st_size, " x ".join(map(str, model.program.input_shape[1:]))
    return "\n".join(
        [
            f"- `{PACKED}`: {size:,} bytes; its weights in float32 are {summary.sizes.float_bytes:,}.",
            f"- {speed.median_seconds * 1e3:.3f} ms an image ({kernels}).",
            f"- Images of {pixels} pixels, {len(model.classes):,} classes.",
        ]
    )


def _front_matter(recipe: Recipe, summary: RunSummary) -> str:
    """The metadata at the beginning of the card, which the hub reads for its search and its table of results."""
    network, data, bits = recipe.model.name, recipe.data.name, recipe.model.bits
    lines = ["---", "library_name: biper", "pipeline_tag: image-classification"]
    lines += ["tags:", "- biper", "- binary-neural-network", f"- {bits.lower()}", f"datasets:\n- {data}"]
    score = summary.final.score
    if score.split == "test":
        lines += ["model-index:", f"- name: {network}", "  results:", "  - task:", "      type: image-classification"]
        lines += ["    dataset:", f"      name: {data}", f"      type: {data}", "      split: test"]
        lines += ["    metrics:", "    - type: accuracy", f"      value: {score.accuracy:.4f}"]
    return "\n".join([*lines, "---", ""])
