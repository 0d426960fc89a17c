"""What `fcdistill cache` asks of a section `train`, beyond what a training does."""

from fcdistill.config.train_section import TrainConfig
from fcdistill.errors import ConfigError

__all__ = ["require_cacheable"]


def require_cacheable(config: TrainConfig) -> None:
    """Check that a section names a teacher whose signals can be kept, and where.

    Raises:
        ConfigError: it does not.
    """
    if config.signal == "self":
        raise ConfigError(
            "signal is self: the teacher is the student itself, heard at every step",
            required="signal online or cached, with a teacher, for a cache",
            fix="train without a cache, or name the student's model as teacher and set signal to cached",
        )
    for name, value in (("cache", config.cache), ("teacher", config.teacher or config.served_teacher)):
        if value is None:
            raise ConfigError(
                f"{name} is not given",
                required="in section train: teacher or served_teacher, and cache with its dir",
                fix=f"add {name}; `fcdistill schemas config` lists the fields",
            )
    if config.augmentation.is_on:
        raise ConfigError(
            "augmentation draws other texts in every epoch, but a cache is of fixed texts",
            required="a configuration without augmentation",
            fix="remove augmentation, or train with signal online, which needs no cache",
        )
