import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler

from fcdistill.distillation.examples.collation import Collator
from fcdistill.distillation.launch.batch_shards import ShardedBatches, sharded_loader
from tests.distillation.tiny_data import PACKED, random_examples


@pytest.mark.parametrize("num_examples", [1, 7, 8, 9, 12])
@pytest.mark.parametrize("num_processes", [2, 3])
def test_all_processes_together_get_the_micro_batches_of_one(num_examples: int, num_processes: int) -> None:
    def order() -> RandomSampler:
        return RandomSampler(range(num_examples), generator=torch.Generator().manual_seed(4))

    whole = list(BatchSampler(order(), 2, drop_last=False))
    shares = [list(ShardedBatches(order(), 2, num_processes, index)) for index in range(num_processes)]
    assert {len(share) for share in shares} == {len(ShardedBatches(order(), 2, num_processes, 0))}
    dealt = [batch for a_round in zip(*shares, strict=True) for batch in a_round]
    assert dealt[: len(whole)] == whole
    assert dealt[len(whole) :] == [[]] * (len(dealt) - len(whole)) and len(dealt) < len(whole) + num_processes


def test_every_epoch_has_an_order_of_its_own_which_all_processes_share() -> None:
    examples = random_examples(9)
    orders = []
    for epoch in (0, 1, 1):
        torch.manual_seed(7)
        batches = []
        for index in range(2):
            loader = sharded_loader(
                examples,
                Collator(PACKED, None, {}, "completion", filler=examples[0]),
                batch_size=2,
                num_processes=2,
                process_index=index,
                place=torch.device("cpu"),
            )
            loader.set_epoch(epoch)
            batches.append(list(loader))
        assert [len(share) for share in batches] == [3, 3]
        assert sum(int(batch["num_examples"]) for share in batches for batch in share) == 9
        orders.append([batch["targets_N"].tolist() for share in batches for batch in share])
    assert orders[0] != orders[1] == orders[2]
