"""How the micro batches of an epoch are dealt out to several processes.

accelerate deals them out in turn, and where the last round is not full it repeats examples from the start of the epoch:
the last optimizer step would count them twice. Here that round ends with empty micro batches, so that the optimizer
steps of several processes hold the very examples of a single one. What an empty micro batch is made of is not known
here (`collation`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from accelerate.data_loader import prepare_data_loader
from torch import device
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from fcdistill.distillation.examples.collation import Collator
from fcdistill.distillation.examples.examples import Example

__all__ = ["ShardedBatches", "sharded_loader"]


class ShardedBatches(BatchSampler):
    """One process's share of the micro batches: every n-th, and an empty one where the last round has none for it.

    Args:
        sampler: the order of the examples, the same in all processes.
        batch_size: examples of a micro batch.
        num_processes: how many share them.
        process_index: which of them gets this share.
    """

    def __init__(self, sampler: RandomSampler, batch_size: int, num_processes: int, process_index: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self._num_processes = num_processes
        self._process_index = process_index

    def __iter__(self) -> Iterator[list[int]]:
        batches = super().__iter__()
        for _ in range(len(self)):
            a_round = [next(batches, []) for _ in range(self._num_processes)]
            yield a_round[self._process_index]

    def __len__(self) -> int:
        return -(-super().__len__() // self._num_processes)


def sharded_loader(
    examples: Sequence[Example], collator: Collator, *, batch_size: int, num_processes: int, process_index: int,
    place: device,
) -> Any:  # fmt: skip
    """The loader of one process, shuffled as accelerate shuffles that of a single process.

    Args:
        examples: all examples.
        collator: makes a micro batch of its examples; none is an empty one.
        batch_size: examples of a micro batch.
        num_processes: how many processes share the examples.
        process_index: which of them asks.
        place: where the tensors go.
    """
    batches = ShardedBatches(RandomSampler(examples), batch_size, num_processes, process_index)
    loader: DataLoader[Example] = DataLoader(examples, batch_sampler=batches, collate_fn=collator)  # type: ignore[arg-type]
    # They are dealt out already: accelerate sees a single process, and adds its shuffling by epochs and the device.
    return prepare_data_loader(
        loader, device=place, num_processes=1, process_index=0, put_on_device=True, use_seedable_sampler=True
    )
