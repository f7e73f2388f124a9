"""Sharing models on the Hugging Face Hub: a run with a model card out, a packed model in.

A repository holds `model.biper` (the packed model), `model.safetensors` (to go on training), `recipe.toml` and a card,
`README.md`, in which every figure was measured: accuracy by the run, size and speed when it was pushed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from biper.errors import ModelError
from biper.files import atomic_write
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
    """The card of a finished run: what it is, how it was trained, accuracy, size and speed; ``seconds`` to measure this.

    Raises:
        ModelError: the folder holds no finished run.
    """
    from biper.runtime.bench import bench
    from biper.training.environment import describe_environment
    from biper.training.run_folder import RunFolder

    folder = RunFolder(run)
    summary = folder.read_summary()
    missing = [file for file in FILES if not (folder.path / file).exists()]
    if summary is None or missing:
        lacks = missing[0] if missing else folder.summary_file.name
        raise ModelError(f"{folder.path} has no {lacks}: expected the folder of a finished run")
    packed = folder.path / PACKED
    model, recipe = Model.load(packed), summary["recipe"]
    speed = bench(model.program, seconds=seconds)
    cpu = describe_environment(seed=0, device="cpu", precision="float32", processes=1)["cpu"]
    network, data = recipe["model"]["name"], recipe["data"]["name"]
    rows = [
        f"| {what} | {summary[stage]['test_accuracy']:.2%} |"
        for stage, what in (("stage1", "after stage 1, sine"), ("stage2", "after stage 2, bits"))
        if "test_accuracy" in summary.get(stage, {})
    ]
    size = packed.stat().st_size
    accuracy = f"""## Accuracy

Top-1 on {summary["test_images"]:,} test images of {data}:

| | accuracy |
| --- | --- |
{chr(10).join(rows)}
""" if rows else ""  # fmt: skip
    return f"""{_front_matter(network, data, recipe["model"]["bits"], summary)}
# {repo_id.split("/")[-1]}

{recipe["description"]}. A {recipe["model"]["bits"]} network, trained with the binary periodic function of BiPer (CVPR 2024,
[arXiv 2404.01278](https://arxiv.org/abs/2404.01278)) and packed by biper.

```python
import biper

model = biper.from_pretrained("{repo_id}")
print(model.predict(["picture.jpg"], top_k=3))
```

{accuracy}
## Size and speed

- `{PACKED}`: {size:,} bytes; its weights in float32 are {summary["sizes"]["float_bytes"]:,}.
- {speed.median_seconds * 1e3:.3f} ms an image ({speed.instruction_set}, one thread of {cpu}, median of {speed.calls:,} calls).
- Images of {" x ".join(map(str, model.program.input_shape[1:]))} pixels, {len(model.classes):,} classes.

## Recipe

The whole of it is `recipe.toml`; training took {summary["seconds"]:,.0f} s.

```toml
{(folder.path / "recipe.toml").read_text(encoding="utf-8").strip()}
```
"""


def _front_matter(network: str, data: str, bits: str, summary: dict[str, Any]) -> str:
    """The card's metadata, for the hub's search and its table of results."""
    lines = ["---", "library_name: biper", "pipeline_tag: image-classification"]
    lines += ["tags:", "- biper", "- binary-neural-network", f"- {bits.lower()}", f"datasets:\n- {data}"]
    score = summary.get("stage2", summary.get("stage1", {})).get("test_accuracy")
    if score is not None:
        lines += ["model-index:", f"- name: {network}", "  results:", "  - task:", "      type: image-classification"]
        lines += ["    dataset:", f"      name: {data}", f"      type: {data}", "      split: test"]
        lines += ["    metrics:", "    - type: accuracy", f"      value: {score:.4f}"]
    return "\n".join([*lines, "---", ""])
