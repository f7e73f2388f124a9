"""Sharing models on the Hugging Face Hub: a run with a model card out, a packed model in.

A repository holds `model.biper` (the packed model), `model.safetensors` (to go on training), `recipe.toml` and a card,
`README.md`, in which every figure was measured: accuracy by the run, size and speed when it was pushed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from biper.errors import ModelError
from biper.io.files import atomic_write
from biper.runtime.model import Model

PACKED = "model.biper"
FILES = (PACKED, "model.safetensors", "recipe.toml")


def push_to_hub(run: str | Path, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a finished run with a generated model card.

    Args:
        run: the run's folder.
        repo_id: ``"user/name"``; made if it is not there.
        private: of a new repository.
        token: of the hub, else the one that `hf auth login` stored.

    Returns:
        The address of the repository.

    Raises:
        ModelError: the folder holds no finished run.
        Whatever `huggingface_hub` raises: no network, no permission.
    """
    import huggingface_hub

    folder = Path(run)
    card = model_card(folder, repo_id)
    api = huggingface_hub.HfApi(token=token)
    address = api.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        for file in FILES:
            (staged / file).write_bytes((folder / file).read_bytes())
        atomic_write(staged / "README.md", card)
        api.upload_folder(repo_id=repo_id, folder_path=staged, commit_message="A 1-bit network, written by biper")
    return str(address)


def from_pretrained(repo_id: str, *, revision: str | None = None, token: str | None = None, threads: int = 1) -> Model:
    """The packed model of a repository on the hub; downloaded once, then from the hub's cache. Needs no torch.

    Args:
        repo_id: ``"user/name"``.
        revision: a branch, tag or commit.
        token: for a private repository.
        threads: how many share the work of one call.

    Raises:
        ModelFormatError: what was downloaded is no packed model.
        Whatever `huggingface_hub` raises: no network, no such repository.
    """
    import huggingface_hub

    return Model.load(huggingface_hub.hf_hub_download(repo_id, PACKED, revision=revision, token=token), threads=threads)


def model_card(run: str | Path, repo_id: str, *, seconds: float = 1.0) -> str:
    """The card of a finished run: what it is, how it was trained, accuracy, size and speed.

    Args:
        run: the run's folder.
        repo_id: where it will be.
        seconds: about how long to measure its speed here.

    Raises:
        ModelError: the folder holds no finished run.
    """
    from biper.runs.folder import RunFolder

    folder = RunFolder(run)
    summary = folder.read_summary()
    missing = [file for file in FILES if not (folder.path / file).exists()]
    if summary is None or missing:
        lacks = missing[0] if missing else folder.summary_file.name
        raise ModelError(f"{folder.path} has no {lacks}: expected the folder of a finished run")
    recipe = summary["recipe"]
    text = (folder.path / "recipe.toml").read_text(encoding="utf-8").strip()
    return f"""{_front_matter(recipe, summary)}
# {repo_id.split("/")[-1]}

{recipe["description"]}. A {recipe["model"]["bits"]} network, trained with the binary periodic function of BiPer
(CVPR 2024, [arXiv 2404.01278](https://arxiv.org/abs/2404.01278)) and packed by biper.

```python
import biper

model = biper.from_pretrained("{repo_id}")
print(model.predict(["picture.jpg"], top_k=3))
```

{_accuracy(summary)}
## Size and speed

{_size_and_speed(folder.path / PACKED, summary, seconds)}

## Recipe

The whole of it is `recipe.toml`; training took {summary["seconds"]:,.0f} s.

```toml
{text}
```
"""


def _accuracy(summary: dict[str, Any]) -> str:
    """What the run measured on its test set; nothing for a data set without one."""
    stages = {"stage1": "after stage 1, sine", "stage2": "after stage 2, bits"}
    rows = [
        f"| {what} | {summary[stage]['test_accuracy']:.2%} |"
        for stage, what in stages.items()
        if "test_accuracy" in summary.get(stage, {})
    ]
    if not rows:
        return ""
    title = f"Top-1 on {summary['test_images']:,} test images of {summary['recipe']['data']['name']}:"
    return "\n".join(["## Accuracy", "", title, "", "| | accuracy |", "| --- | --- |", *rows, ""])


def _size_and_speed(packed: Path, summary: dict[str, Any], seconds: float) -> str:
    from biper.runs.environment import describe_environment
    from biper.runtime.bench import bench

    model = Model.load(packed)
    speed = bench(model.program, seconds=seconds)
    cpu = describe_environment(seed=0, device="cpu", precision="float32", processes=1)["cpu"]
    kernels = f"{speed.instruction_set}, one thread of {cpu}, median of {speed.calls:,} calls"
    size, pixels = packed.stat().st_size, " x ".join(map(str, model.program.input_shape[1:]))
    return "\n".join(
        [
            f"- `{PACKED}`: {size:,} bytes; its weights in float32 are {summary['sizes']['float_bytes']:,}.",
            f"- {speed.median_seconds * 1e3:.3f} ms an image ({kernels}).",
            f"- Images of {pixels} pixels, {len(model.classes):,} classes.",
        ]
    )


def _front_matter(recipe: dict[str, Any], summary: dict[str, Any]) -> str:
    """The card's metadata, for the hub's search and its table of results."""
    network, data, bits = recipe["model"]["name"], recipe["data"]["name"], recipe["model"]["bits"]
    lines = ["---", "library_name: biper", "pipeline_tag: image-classification"]
    lines += ["tags:", "- biper", "- binary-neural-network", f"- {bits.lower()}", f"datasets:\n- {data}"]
    score = summary.get("stage2", summary.get("stage1", {})).get("test_accuracy")
    if score is not None:
        lines += ["model-index:", f"- name: {network}", "  results:", "  - task:", "      type: image-classification"]
        lines += ["    dataset:", f"      name: {data}", f"      type: {data}", "      split: test"]
        lines += ["    metrics:", "    - type: accuracy", f"      value: {score:.4f}"]
    return "\n".join([*lines, "---", ""])
