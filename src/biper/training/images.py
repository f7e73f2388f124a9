"""The images of a run, as one of its processes sees them: what it trains on, what it scores, what nobody can read."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path

from torch import nn

from biper.data import load_dataset
from biper.data.batches import TrainingBatches
from biper.data.dataset import Images
from biper.data.unreadable import UnreadableImages
from biper.data.workers import default_workers
from biper.measure.evaluation import Scores, evaluate
from biper.recipes.schema import Recipe
from biper.runs.folder import RunFolder
from biper.training.distributed.processes import Processes
from biper.training.progress import Progress


class RunImages:
    """A process's share of the images that a recipe names, on its device.

    ``batches`` are to train on; ``held_out`` (None where the recipe holds nothing out) and ``test`` are to score.
    ``test_name`` is what scores on ``test`` are called.

    Args:
        recipe: which images, and how they are augmented.
        folder: where images that cannot be read are listed.
        processes: those that share the images.
        data_dir, workers: as of `biper.load_dataset`.
        progress: told of images that cannot be read.

    Raises:
        DataError: as `biper.load_dataset`.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        processes: Processes,
        data_dir: str | Path | None,
        workers: int | None,
        progress: Progress,
    ) -> None:
        self.processes, settings = processes, recipe.data
        device, share = processes.fabric.device, processes.share
        list_file = folder.unreadable_file if processes.first else None
        self.unreadable = UnreadableImages(settings.max_unreadable, list_file, progress.message)
        dataset = processes.in_turn(
            lambda: load_dataset(
                settings.name,
                data_dir,
                image_size=settings.image_size,
                workers=default_workers(processes.place.local_processes) if workers is None else workers,
                unreadable=self.unreadable,
            )
        )
        self.spec, self.classes = dataset.spec, dataset.classes
        self.image_size = settings.image_size or self.spec.image_size
        train_split, held_out = dataset.split("train"), None
        if settings.selection == "held-out":
            train_split, held_out = dataset.hold_out()
        self.held_out = held_out.share(share).to(device) if held_out else None
        self.test = dataset.split(settings.evaluate_on).share(share).to(device)
        self.test_name = "fit" if settings.evaluate_on == "train" else "test"
        self.batches = TrainingBatches(train_split.to(device), self.spec, settings, seed=recipe.seed, share=share)

    def scores(self, module: nn.Module, images: Images, *, mixed: bool = True) -> Scores:
        """Scores on all images of which these are this process's share, each counted once.

        Args:
            module: the model.
            images: this process's share of them.
            mixed: compute in the precision of training; else in that of the weights, as `biper.load_model` has them.

        Raises:
            DataError: no image can be read, or too many cannot.
        """
        scores = evaluate(
            module,
            images,
            self.spec.mean,
            self.spec.std,
            precision_context=self.processes.fabric.autocast if mixed else nullcontext,
            sum_over_processes=partial(self.processes.sum, patient=True),
        )
        for names in self.processes.collect(self.unreadable.names):
            for name, reason in names.items():
                self.unreadable.add(name, reason)
        return scores
