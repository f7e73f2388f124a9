"""The images of a run, as one of its processes sees them: those to train on, those to score, the unreadable ones."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

from torch import Tensor, nn

from biper.data import load_dataset
from biper.data.batches import TrainingBatches
from biper.data.dataset import Dataset, Images
from biper.data.transforms import normalize
from biper.data.unreadable import UnreadableImages
from biper.data.workers import default_workers
from biper.measure.evaluation import Scores, evaluate
from biper.recipes.schema import Recipe
from biper.runs.folder import RunFolder
from biper.training.distributed.processes import Processes
from biper.training.options import RunOptions
from biper.training.progress import Progress


class RunImages:
    """The share of one process of the images that a recipe names, on the device of the process.

    Attributes:
        spec: the specification of the data set.
        classes: the names of the classes, in the order of the labels.
        shape: the shape of one sample as the network takes it, (C, H, W), or (C, L) for signals.
        train: the images to train on, of all processes.
        batches: the batches to train on.
        held_out: training images that only choose the epoch; None where the recipe holds none out.
        test: the images that the final scores are computed on.
        test_name: what these scores are called, one of `biper.runs.records.SPLITS`.
        unreadable: the images that could not be read so far.

    Args:
        recipe: which images to use, and how to augment them.
        folder: the run folder, where images that cannot be read are listed.
        processes: the processes that share the images.
        options: the folder of the data and the number of decoding processes.
        progress: shows a message for each image that cannot be read.
        given: the data, where the caller has them as objects; default those that the recipe names.

    Raises:
        DataError: see `biper.load_dataset`; or the data are not those that the run began with.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        processes: Processes,
        options: RunOptions,
        progress: Progress,
        given: Dataset | None = None,
    ) -> None:
        self.processes, settings = processes, recipe.data
        device, share = processes.fabric.device, processes.share
        list_file = folder.unreadable_file if processes.rank_zero else None
        self.unreadable = UnreadableImages(settings.max_unreadable, list_file, progress.message)
        workers = options.workers
        if workers is None:
            workers = default_workers(processes.info.local_processes)
        dataset = given or processes.rank_zero_first(
            lambda: load_dataset(
                settings.name,
                options.data_dir,
                image_size=settings.image_size,
                workers=workers,
                unreadable=self.unreadable,
                signal_length=settings.signal_length,
                signal_fit=settings.signal_fit,
            )
        )
        self.spec, self.classes = dataset.spec, dataset.classes
        if self.spec.own_shape:
            resume = options.resume
            self.spec = processes.on_rank_zero(lambda: folder.check_facts(dataset.spec, dataset.classes, resume=resume))
        self.shape = self.spec.shape(settings.image_size)
        train_split, held_out = dataset.split("train"), None
        if settings.selection == "held-out":
            train_split, held_out = dataset.hold_out()
        self.train = train_split
        self.held_out = held_out.share(share).to(device) if held_out else None
        self.test = dataset.split(settings.evaluate_on).share(share).to(device)
        self.test_name = "fit" if settings.evaluate_on == "train" else "test"
        self.batches = TrainingBatches(
            train_split.to(device),
            self.spec,
            settings,
            seed=recipe.seed,
            share=share,
            classes=len(self.classes) or self.spec.num_classes,
        )

    def examples(self, count: int) -> Tensor:
        """The first training images of all processes, unaugmented and normalized, on the CPU."""
        return normalize(self.train.first(count).cpu(), self.spec.mean, self.spec.std)

    def scores(self, module: nn.Module, images: Images, *, mixed: bool = True) -> Scores:
        """The scores of a model on the shares of all processes together; each image counts once.

        Args:
            module: the model.
            images: the share of this process.
            mixed: whether to compute in the precision of training, or in the precision of the weights.

        Raises:
            DataError: no image can be read, or more images than the recipe allows cannot be read.
        """
        scores = evaluate(
            module,
            images,
            self.spec.mean,
            self.spec.std,
            precision_context=self.processes.fabric.autocast if mixed else nullcontext,
            sum_over_processes=partial(self.processes.sum, long_wait=True),
        )
        for names in self.processes.gather(self.unreadable.names):
            for name, reason in names.items():
                self.unreadable.add(name, reason)
        return scores
